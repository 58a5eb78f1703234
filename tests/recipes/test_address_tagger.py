"""The address tagger as a task: terms, counts, freezing, scores, export, and a real smoke run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recipes.address_tagger import AddressTagger
from recipes.address_tagger.corpus import ROWS, Batch
from recipes.address_tagger.labels import LABELS, TAGS, Span
from recipes.address_tagger.metrics import scores
from recipes.address_tagger.task import trimmed
from recipes.address_tagger.tokens import SLOTS

ROOT = Path(__file__).parents[2]
needs_trimming = pytest.mark.skipif(find_spec("pytest_smoke.spans") is None, reason="there is no pytest_smoke.spans")


def variant(task: AddressTagger, **changes: Any) -> AddressTagger:
    """Return the task with other settings and the same corpus."""
    other = copy.copy(task)
    for name, value in changes.items():
        assert hasattr(other, f"_{name}")
        setattr(other, f"_{name}", value)
    return other


def new_model(task: AddressTagger) -> nn.Module:
    """Return a model with the same weights every time, and random transitions."""
    torch.manual_seed(0)
    model = task.model()
    for parameter in model.crf.parameters():
        parameter.data = torch.randn(parameter.shape)
    return model


def joined(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches to one big batch."""
    longest = max(batch["mask"].shape[1] for batch in batches)

    def column(name: str, padding: int) -> torch.Tensor:
        parts = [batch[name] for batch in batches]  # type: ignore[literal-required]
        widths = [(0, 0) * (part.ndim - 2) + (0, longest - part.shape[1]) for part in parts]
        return torch.cat([nn.functional.pad(p, w, value=padding) for p, w in zip(parts, widths, strict=True)])

    return {
        "features": column("features", 0),
        "mask": column("mask", 0),
        "labels": column("labels", -100),
        "sources": tuple(source for batch in batches for source in batch["sources"]),
    }


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_terms_weighted_by_counts_equal_those_of_one_big_batch(task: AddressTagger, normalization: str) -> None:
    task = variant(task, crf_normalization=normalization)
    model = new_model(task).double()
    batches = list(islice(task.batches(5, seed=1), 4))
    assert len({task.counts(batch)["ce"] for batch in batches}) == 4  # else equal shares would do
    big = joined(batches)
    whole, counts = task.losses(model, big), task.counts(big)
    for term in ("ce", "crf"):
        parts = [task.losses(model, b)[term] * (task.counts(b)[term] / counts[term]) for b in batches]
        torch.testing.assert_close(sum(parts), whole[term], rtol=1e-5, atol=1e-6)


def test_per_sequence_is_per_token_times_the_mean_length(task: AddressTagger) -> None:
    model, batch = new_model(task), next(task.batches(16, seed=0))
    per_sequence = variant(task, crf_normalization="per_sequence").losses(model, batch)["crf"]
    mean_length = batch["mask"].sum() / 16
    torch.testing.assert_close(per_sequence, task.losses(model, batch)["crf"] * mean_length)


def test_with_crf_weight_0_only_cross_entropy_trains_and_the_crf_is_frozen(task: AddressTagger) -> None:
    alone = variant(task, crf_loss_weight=0.0)
    model, batch = alone.model(), next(alone.batches(16, seed=0))
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "crf.transitions_KK",
        "crf.start_K",
        "crf.end_K",
    }
    trainable = [p for p in model.parameters() if p.requires_grad]
    terms = alone.losses(model, batch)
    total = sum(alone.loss_weights[term] * loss for term, loss in terms.items())
    ours = torch.autograd.grad(total, trainable, retain_graph=True)
    for found, expected in zip(ours, torch.autograd.grad(terms["ce"], trainable), strict=True):
        assert torch.equal(found, expected)


def test_class_weights_apply_to_b_and_i_of_a_tag(task: AddressTagger) -> None:
    model, batch = new_model(task), next(task.batches(256, seed=0))
    weights = {"O": 0.5, "unit": 2.0, "region": 2.0, "country": 2.0}
    each = -model(batch["features"], batch["mask"]).log_softmax(-1)[batch["mask"]]
    gold = batch["labels"][batch["mask"]]
    weight = torch.tensor([weights.get(LABELS[label].removeprefix("B-").removeprefix("I-"), 1.0) for label in gold])
    expected = (weight * each.gather(1, gold[:, None])[:, 0]).sum() / weight.sum()
    torch.testing.assert_close(task.losses(model, batch)["ce"], expected)


def test_sources_count_the_batch_and_match_the_mix(task: AddressTagger) -> None:
    found = task.sources(next(task.batches(2000, seed=0)))
    assert sum(found.values()) == 2000
    weights = {"us": 0.6, "fr": 0.9, "de": 0.9, "gb": 1.0, "nl": 1.0, "ru": 1.2}
    total = sum(ROWS[source] * weight for source, weight in weights.items())
    for source, weight in weights.items():
        assert found[source] / 2000 == pytest.approx(ROWS[source] * weight / total, abs=0.04)


@pytest.mark.parametrize(
    ("name", "value", "fragment"),
    [
        ("crf_normalization", "per_batch", "'per_batch', but must be per_sequence or per_token"),
        ("class_weights", {"town": 2.0}, "class_weights has town, but the classes are O, house_number"),
        ("source_weights", {"us": 1.0}, "source_weights has us, but the sources are us, fr"),
    ],
)
def test_unknown_settings_are_an_error_that_says_what_is_allowed(
    recipe: dict[str, Any], name: str, value: object, fragment: str
) -> None:
    with pytest.raises(ValueError, match=fragment):
        AddressTagger(**{**recipe["args"], name: value})


def test_padding_changes_no_emission(task: AddressTagger) -> None:
    model = new_model(task).eval()
    batch = joined(list(islice(task.batches(4, seed=3), 4)))
    together = model(batch["features"], batch["mask"])
    for row in range(16):
        length = int(batch["mask"][row].sum())
        alone = model(batch["features"][row : row + 1, :length], batch["mask"][row : row + 1, :length])
        torch.testing.assert_close(alone[0], together[row, :length], rtol=1e-4, atol=1e-5)


def test_the_model_exports_with_any_batch_and_length(task: AddressTagger) -> None:
    model = new_model(task).eval()
    example = task.example_inputs()
    assert example[0].shape == (*example[1].shape, len(SLOTS))
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2, max=64)
    shapes = ({0: batch, 1: length}, {0: batch, 1: length})
    exported = torch.export.export(model, example, dynamic_shapes=shapes).module()
    other = next(task.batches(9, seed=5))
    torch.testing.assert_close(
        exported(other["features"], other["mask"]), model(other["features"], other["mask"]), rtol=1e-4, atol=1e-5
    )


def test_predictions_are_spans_of_the_text_and_match_the_scores(task: AddressTagger) -> None:
    task = variant(task, trim_spans=False)
    model = new_model(task)
    rows = list(task.predictions(model))
    assert len(rows) == 600
    pairs = []
    for row in rows:
        json.dumps(row)
        spans = [[Span(**span) for span in row[side]] for side in ("gold", "pred")]
        assert all(0 <= span.start < span.end <= len(row["raw"]) and span.tag in TAGS for span in spans[0] + spans[1])
        pairs.append((spans[0], spans[1]))
    assert any(predicted for _, predicted in pairs)
    assert task.evaluate(model) == scores(pairs)


@needs_trimming
def test_perfect_labels_give_gold_spans_only_with_trimming(task: AddressTagger) -> None:
    exact = {True: 0, False: 0}
    for trim in exact:
        for row in task._held_out:
            exact[trim] += variant(task, trim_spans=trim)._spans(row, row.labels) == list(row.address.spans)
    assert exact[True] == len(task._held_out)
    assert exact[False] < 0.6 * len(task._held_out)


@needs_trimming
def test_a_span_of_punctuation_only_is_dropped() -> None:
    assert trimmed("(Paris), - ", [Span("city", 0, 8), Span("region", 9, 10)]) == [Span("city", 1, 6)]


SPANS = st.lists(st.builds(Span, st.sampled_from(TAGS), st.integers(0, 3), st.integers(4, 6)), max_size=4, unique=True)


@given(st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=5))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(pairs: list[tuple[list[Span], list[Span]]]) -> None:
    found = scores(pairs)
    gold = {(at, span) for at, (spans, _) in enumerate(pairs) for span in spans}
    predicted = {(at, span) for at, (_, spans) in enumerate(pairs) for span in spans}
    f1s = []
    for tag in TAGS:
        of = [{pair for pair in side if pair[1].tag == tag} for side in (gold, predicted)]
        precision, recall = (len(of[0] & of[1]) / len(side) if side else None for side in (of[1], of[0]))
        f1 = 1.0 if precision is None and recall is None else 0.0
        if precision and recall:
            f1 = 2 * precision * recall / (precision + recall)
        f1s.append(f1)
        assert found[f"val_f1_{tag}"] == pytest.approx(f1)
    assert found["val_macro_f1"] == pytest.approx(sum(f1s) / len(f1s))
    same = sum(set(left) == set(right) for left, right in pairs)
    assert found["val_exact_match"] == pytest.approx(same / len(pairs))


def test_scoring_no_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="no text to score"):
        scores([])


SHORT = """
extends: {recipe}
full: {{warmup_steps: 10, batch_size: 16, grad_accum_steps: 2}}
args: {{trim_spans: false}}
smoke: {{max_steps: 150, evaluate_every_steps: 75, pipeline: false}}
checks: {{accept: [val_macro_f1 > 0.1 by step 150, val_exact_match >= 0]}}
"""


@pytest.mark.parametrize("name", ["address_tagger", "address_tagger_ce_only"])
def test_a_short_smoke_run_of_the_shipped_recipe_is_promoted(
    pytester: pytest.Pytester, run_pytest: Callable[..., pytest.RunResult], name: str
) -> None:
    (pytester.path / "recipes").symlink_to(ROOT / "recipes")
    (pytester.path / "short.smoke.yaml").write_text(SHORT.format(recipe=f"recipes/{name}.smoke.yaml"))
    pytester.makeini("[pytest]\n")
    run = run_pytest("--smoke", "--smoke-report", "report", "short.smoke.yaml")
    (outcome,) = json.loads((pytester.path / "report" / "verdicts.json").read_text())["outcomes"]
    findings = {finding["id"]: finding for finding in outcome["findings"]}
    assert run.ret == 0, run.stdout.str()
    assert outcome["verdict"] == "promote"
    assert findings["grad-ratio"]["observed"]["crf/ce"] > 0.1
    assert findings["accept[val_macro_f1 > 0.1 by step 150]"]["status"] == "pass"
    weight = 0.0 if name.endswith("ce_only") else 1.0
    norms = outcome["facts"]["gradient_norms"]
    assert norms["weighted"]["crf"] == pytest.approx(weight * norms["raw"]["crf"])

"""Terms, scores, generation and scheduled sampling of latent_prefix, compared with plain Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.latent_prefix import LatentPrefix, sampling, scores, terms
from recipes.latent_prefix.compressor import Compressor, View, answer_places, within
from recipes.latent_prefix.generate import LONGEST_ANSWER, greedy
from recipes.latent_prefix.passages import IGNORED, Batch, Passages
from recipes.latent_prefix.vocabulary import END

SEEDS = st.integers(0, 2**32)


def perturbed(task: LatentPrefix) -> Compressor:
    """Return a model with adapters whose weights are all nonzero and always the same."""
    torch.manual_seed(0)
    model = task.model()
    assert isinstance(model, Compressor)
    model.add_adapters(4)
    for parameter in model.encoder.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    for name, parameter in model.reader.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape)
    return model.eval()


@given(SEEDS)
def test_answer_terms_are_means_over_their_tokens(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    answer = torch.randint(0, 5, (3, 4), generator=generator)
    for row, length in enumerate(torch.randint(1, 5, (3,), generator=generator).tolist()):
        answer[row, length:] = IGNORED
    ours, theirs = (
        View(*(torch.randn(3, 4, size, generator=generator) for size in (5, 2)), torch.empty(0)) for _ in range(2)
    )
    found = terms.answer_terms(ours, theirs, answer)
    real = [(b, a) for b in range(3) for a in range(4) if answer[b, a] != IGNORED]
    p, q = (view.logits.softmax(-1).tolist() for view in (ours, theirs))

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    nll = {at: -math.log(p[at[0]][at[1]][int(answer[at])]) for at in real}
    expected = {
        "tf": mean(list(nll.values())),
        "first": mean([nll[at] for at in real if at[1] == 0]),
        "kCE": mean([nll[at] for at in real if at[1] < 3]),
        "KD": mean([sum(t * math.log(t / s) for t, s in zip(q[b][a], p[b][a], strict=True)) for b, a in real]),
        "state": mean([(ours.states[at] - theirs.states[at]).square().mean().item() for at in real]),
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_new_encoder_reproduces_the_frozen_model_in_the_text_phase(latent_task: LatentPrefix) -> None:
    model = latent_task.model()
    latent_task.on_stage_start(model, "A", "text")
    losses = latent_task.losses(model, next(latent_task.batches(8, seed=0)))
    assert set(losses) == {"tf", "first", "kCE", "KD", "state", "align"}
    for name in ("KD", "state", "align"):
        assert losses[name].item() == pytest.approx(0, abs=1e-6)


def test_new_adapters_keep_the_outputs_and_an_update_keeps_frozen_weights(latent_task: LatentPrefix) -> None:
    model = latent_task.model()
    assert isinstance(model, Compressor)
    latent_task.on_stage_start(model, "A", "latent")
    batch = next(latent_task.batches(8, seed=0))
    before = latent_task.losses(model, batch)
    latent_task.on_stage_start(model, "B", "latent")
    after = latent_task.losses(model, batch)
    assert {name: value.item() for name, value in after.items()} == {name: v.item() for name, v in before.items()}
    parameters = dict(model.named_parameters())
    trained = {name for name in parameters if "lora_" in name or name.startswith("encoder.")}
    kept = {name: p.detach().clone() for name, p in parameters.items() if name not in trained}
    assert len([name for name in trained if "lora_" in name]) == 2 * 4 * 2  # blocks, layers, factors
    optimizer = torch.optim.SGD([p for p in parameters.values() if p.requires_grad], lr=0.1)
    sum(after.values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    assert all(torch.equal(parameters[name], value) for name, value in kept.items())
    assert not torch.equal(latent_task.losses(model, batch)["tf"], after["tf"])


@pytest.mark.parametrize("phase", ["text", "latent"])
def test_terms_weighted_by_counts_equal_those_of_one_big_batch(
    latent_task: LatentPrefix, passages: Passages, phase: str
) -> None:
    model = perturbed(latent_task)
    latent_task.on_stage_start(model, "B", phase)
    random = Random(1)
    questions = [passages.question(random) for _ in range(12)]
    parts = [passages.batch(questions[at : at + 3]) for at in range(0, 12, 3)]
    whole = passages.batch(questions)
    expected, total = latent_task.losses(model, whole), latent_task.counts(whole)
    assert total.keys() == expected.keys()
    for name, value in expected.items():
        shares = [latent_task.losses(model, part)[name] * latent_task.counts(part)[name] for part in parts]
        torch.testing.assert_close(sum(shares) / total[name], value, rtol=1e-4, atol=1e-5)


def test_latents_depend_on_the_passage_and_not_on_the_question(latent_task: LatentPrefix, passages: Passages) -> None:
    model, random = perturbed(latent_task), Random(0)
    question, other = passages.question(random), passages.question(random)
    asked = [question._replace(asked=fact) for fact in question.passage]
    batch = passages.batch([*asked, other])
    latents = model.encode(batch, model.teach(batch).prefix).latents
    torch.testing.assert_close(latents[:6], latents[:1].expand(6, -1, -1), rtol=1e-4, atol=1e-5)
    assert (latents[6] - latents[0]).abs().max() > 0.1


def test_alignment_terms_are_squared_differences_without_padding(latent_task: LatentPrefix) -> None:
    model = perturbed(latent_task)
    latent_task.on_stage_start(model, "B", "latent")
    batch = next(latent_task.batches(5, seed=2))
    losses, taught = latent_task.losses(model, batch), model.teach(batch)
    encoding, embedded = model.encode(batch, taught.prefix), model.teacher.embed(batch["context"])
    view = model.read_latents(batch, encoding.latents)
    drift, centre, made = [], [], []
    for row, length in enumerate(batch["context_lengths"].tolist()):
        drift += list((encoding.states - embedded)[row, :length].square().mean(-1))
        centre.append((encoding.latents[row].mean(0) - embedded[row, :length].mean(0)).square().mean())
        made.append((view.prefix[row].mean(0) - taught.prefix[row, :length].mean(0)).square().mean())
    torch.testing.assert_close(terms.align(encoding, embedded, within(batch)), torch.stack(drift).mean())
    expected = {"latent_align": centre, "latent_prefix_align": made}
    for name, values in expected.items():
        torch.testing.assert_close(losses[name], torch.stack(values).mean(), rtol=1e-4, atol=1e-6)


def test_greedy_decoding_equals_decoding_each_prompt_alone(latent_task: LatentPrefix, passages: Passages) -> None:
    model, random = perturbed(latent_task), Random(4)
    batch = passages.batch([passages.question(random) for _ in range(4)])
    lengths = batch["context_lengths"] + batch["before"]
    found = greedy(model.teacher, model.teacher.embed(batch["text"]), lengths).tolist()
    assert len(found[0]) <= LONGEST_ANSWER
    for row, length in enumerate(lengths.tolist()):
        tokens = batch["text"][row, :length].tolist()
        for token in found[row]:
            assert model.teacher(torch.tensor([tokens]))[0, -1].argmax().item() == token
            tokens.append(token)
    assert len(found[0]) == LONGEST_ANSWER or all(END in row for row in found)


@given(st.integers(0, 1000), st.integers(1, 500), st.floats(0, 1))
def test_the_share_of_reference_tokens_decreases_linearly_to_its_minimum(drawn: int, over: int, least: float) -> None:
    share = sampling.gold_share(drawn, over, least)
    assert least <= share <= 1
    assert sampling.gold_share(0, over, least) == 1
    assert share >= sampling.gold_share(drawn + 1, over, least)
    if drawn >= over:
        assert share == least


@given(SEEDS)
def test_mixing_replaces_exactly_the_tokens_that_are_not_gold(passages: Passages, seed: int) -> None:
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    batch = passages.batch([passages.question(random) for _ in range(4)])
    batch["gold"] = torch.rand(batch["answer"].shape, generator=generator) < 0.5
    logits = torch.randn(*batch["answer"].shape, 50, generator=generator)
    expected = batch["tail"].tolist()
    for row, before in enumerate(batch["before"].tolist()):
        for place, token in enumerate(batch["answer"][row].tolist()):
            if token != IGNORED and not batch["gold"][row, place]:
                expected[row][before + place] = int(logits[row, place].argmax())
    assert sampling.mixed(batch, logits).tolist() == expected


def test_scheduled_sampling_changes_losses_in_latent_phases_only(
    latent_cache: object, latent_args: Mapping[str, object]
) -> None:
    task = LatentPrefix(**{**latent_args, "gold_share": 0.0, "annealed_over": 1})  # type: ignore[arg-type]
    model = perturbed(task)
    task.on_stage_start(model, "B", "text")
    assert "gold" not in next(task.batches(8, seed=0))
    task.on_stage_start(model, "B", "latent")
    first, second = islice(task.batches(24, seed=0), 2)
    assert first["gold"].all()
    assert not second["gold"].any()
    plain: Batch = {**second}
    del plain["gold"]
    mixed, true = task.losses(model, second), task.losses(model, plain)
    assert torch.equal(mixed["first"], true["first"])  # its first token is predicted after the question
    assert not torch.equal(mixed["tf"], true["tf"])


def test_answer_places_are_one_before_the_answer_tokens(passages: Passages) -> None:
    batch = passages.batch([passages.question(Random(seed)) for seed in range(6)])
    for row, places in enumerate(answer_places(batch).tolist()):
        for place, token in zip(places, batch["answer"][row].tolist(), strict=True):
            assert token in (IGNORED, int(batch["tail"][row, min(place + 1, batch["tail"].shape[1] - 1)]))
    assert within(batch).sum(1).tolist() == batch["context_lengths"].tolist()


ANSWERS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)


@given(ANSWERS, ANSWERS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(predicted: list[str], gold: list[str]) -> None:
    left, common = list(gold), 0
    for token in predicted:
        if token in left:
            left.remove(token)
            common += 1
    precision, recall = common / len(predicted), common / len(gold)
    expected = 2 * precision * recall / (precision + recall) if common else 0.0
    assert scores.f1(predicted, gold) == pytest.approx(expected)
    assert scores.exact_match(predicted, gold) == (predicted == gold)
    assert scores.f1([], gold) == 0


def test_logit_scores_of_two_answers_of_different_length() -> None:
    logits = torch.full((2, 2, 9), -100.0)
    logits[0, 0, 1] = logits[0, 1, 2] = logits[1, 0, 3] = 100.0
    for better in range(4, 9):
        logits[1, 0, better] = 100.0 + better
    found = scores.logit_scores(logits, torch.tensor([[1, 2], [3, IGNORED]]))
    assert found["first_acc"] == found["first_top5"] == found["pos1_acc"] == 0.5  # five are likelier than the 3
    assert found["pos2_acc"] == 1.0
    assert found["nll"] == pytest.approx((8 + math.log1p(sum(math.exp(-at) for at in (1, 2, 3, 4)))) / 3, rel=1e-3)

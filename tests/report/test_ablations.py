"""The ablation table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pytest_smoke.outcome import Facts, Outcome
from pytest_smoke.report.ablations import ablation_tables
from pytest_smoke.report.verdicts_json import verdicts_json


def outcome(cell: str | None, **changes: Any) -> Outcome:
    name = "constant" if cell is None else f"constant[{cell}]"
    facts = Facts(
        steps=400,
        loss_last=0.51234,
        main_metric="val_f1",
        main_metric_better="higher",
        cell_changes={"args.depth": 4} if cell else None,
    )
    plain: dict[str, Any] = {
        "id": f"a.smoke.yaml::{name}",
        "recipe": "a.smoke.yaml",
        "mode": "constant",
        "cell": cell,
        "verdict": "promote",
        "reason": "",
        "step": None,
        "text": "no rise",
        "decided_by": "loss-trend",
        "findings": (),
        "facts": facts,
        "metrics": {"val_f1": [[100, 0.2], [200, 0.5], [300, 0.5], [400, 0.25]]},
    }
    return Outcome(**{**plain, **changes})


def lines(*outcomes: Outcome) -> list[str]:
    (table,) = ablation_tables(outcomes, width=120)
    return [line for line, _ in table]


def test_the_baseline_comes_first_and_each_cell_has_a_row() -> None:
    """The first of two equal peaks; the change with its standard error, from a fit by hand."""
    unstable = {
        "verdict": "unstable",
        "reason": "rise",
        "step": 214,
        "facts": Facts(steps=215, loss_last=float("inf"), cell_changes={"full.grad_clip_norm": None}),
        "metrics": {"val_f1": [[100, float("nan")]]},
    }
    # At x = -1.5 ... 1.5: Sxx 5, Sxy 0.075, Syy 0.076875, so RSS 0.07575 and 3 x sqrt(0.07575 / 2 / 5) = 0.261.
    assert lines(outcome("a-deep"), outcome(None), outcome("b-unclipped", **unstable)) == [
        "ablations of a.smoke.yaml, mode constant",
        "cell         verdict          step  highest val_f1  change at the end        loss    changes",
        "baseline     promote          -     0.5 (step 200)  +0.045 ± 0.26 (4 evals)  0.5123  -",
        "a-deep       promote          -     0.5 (step 200)  +0.045 ± 0.26 (4 evals)  0.5123  args.depth: 4",
        "b-unclipped  unstable (rise)  214   -               -                        inf     "
        "full.grad_clip_norm: null",
    ]


def test_changes_wrap_at_the_width_of_the_terminal() -> None:
    changes = {"args.depth": 4, "full.learning_rate": 1e-3, "full.warmup_steps": 100}
    wide = outcome("a-deep", verdict="unstable", facts=Facts(steps=1, loss_last=2.0, cell_changes=changes), metrics={})
    plain = outcome(None, facts=Facts(steps=1, loss_last=1.0), metrics={})
    (table,) = ablation_tables([plain, wide], width=54)
    assert table == [
        ("ablations of a.smoke.yaml, mode constant", ""),
        ("cell      verdict   loss  changes", ""),
        ("baseline  promote   1     -", "promote"),
        ("a-deep    unstable  2     args.depth: 4,", "unstable"),
        ("                            full.learning_rate: 0.001,", "unstable"),
        ("                            full.warmup_steps: 100", "unstable"),
    ]


def test_a_wiring_run_is_shown_as_a_success() -> None:
    wired = {"verdict": "inconclusive", "reason": "wiring", "mode": "wiring"}
    (table,) = ablation_tables([outcome(None, **wired), outcome("a-deep", **wired)])
    assert all("  wiring ok  " in line and style == "promote" for line, style in table[2:])


def test_the_best_value_of_a_loss_is_the_lowest() -> None:
    facts = Facts(steps=1, main_metric="val_nll", main_metric_better="lower")
    metrics = {"val_nll": [[10, 2.0], [20, 1.5], [30, 1.75]]}
    rows = lines(outcome(None, facts=facts, metrics=metrics), outcome("x", facts=facts, metrics=metrics))
    assert rows[1].split()[-1] == "changes"
    assert "lowest val_nll" in rows[1]
    assert "1.5 (step 20)" in rows[2]
    assert "-0.25 (3 evals)" in rows[2]


def test_without_evaluation_and_deciding_steps_their_columns_are_left_out() -> None:
    rows = lines(
        outcome(None, facts=Facts(steps=1, loss_last=1.0), metrics={}),
        outcome("x", facts=Facts(steps=1, loss_last=2.0), metrics={}),
    )
    assert rows[1].split() == ["cell", "verdict", "loss", "changes"]
    assert rows[2].split() == ["baseline", "promote", "1", "-"]


def test_the_table_can_be_rebuilt_from_verdicts_json() -> None:
    """Also with values that are not finite, and in any order of the cells."""
    odd = outcome(
        "z",
        metrics={"val_f1": [[100, float("nan")], [200, 0.5]]},
        facts=replace(outcome("z").facts, loss_last=float("inf")),
    )
    original = [odd, outcome("b"), outcome(None)]
    read = [Outcome.from_dict(wire) for wire in json.loads(verdicts_json(original))["outcomes"]]
    assert lines(*read) == lines(*original) == lines(*reversed(original))
    assert "0.5 (step 200)" in lines(*original)[-1]


def test_one_cell_or_a_preflight_has_no_table() -> None:
    """Two modes are not two cells, and runs without a step have nothing to compare."""
    assert ablation_tables([outcome(None), outcome(None, mode="long-tail", id="l")]) == []
    assert ablation_tables([outcome(None, facts=Facts()), outcome("x", facts=Facts(steps=0))]) == []
    assert ablation_tables([]) == []
    two = [outcome(None), outcome("x"), outcome(None, recipe="b", id="b"), outcome("x", recipe="b", id="bx")]
    titles = [table[0][0] for table in ablation_tables(two)]
    assert titles == ["ablations of a.smoke.yaml, mode constant", "ablations of b, mode constant"]

"""The cells of a recipe side by side."""

from __future__ import annotations

import json
from typing import Any

from pytest_smoke.outcome import Outcome
from pytest_smoke.report.campaign import campaign_table, campaigns
from pytest_smoke.report.verdicts_json import verdicts_json


def outcome(cell: str | None, **changes: Any) -> Outcome:
    name = "constant" if cell is None else f"constant[{cell}]"
    facts = {"steps": 400, "loss_last": 0.51234, "main_metric": "val_f1", "main_metric_better": "higher"}
    facts |= {"cell_changes": {"args.depth": 4}} if cell else {}
    plain: dict[str, Any] = {
        "id": f"a.smoke.yaml::{name}",
        "recipe": "a.smoke.yaml",
        "mode": "constant",
        "cell": cell,
        "verdict": "promote",
        "reason": "",
        "step": None,
        "text": "no rise",
        "findings": (),
        "facts": facts,
        "metrics": {"val_f1": [[100, 0.2], [200, 0.5], [300, 0.5], [400, 0.25]]},
    }
    return Outcome(**{**plain, **changes})


def lines(*outcomes: Outcome) -> list[str]:
    (campaign,) = campaigns(outcomes)
    return [line for line, _ in campaign_table(campaign)]


def test_the_baseline_comes_first_and_a_row_says_all_of_a_cell() -> None:
    """The first of two equal peaks; the drift with its standard error, from a fit by hand."""
    doomed = {
        "verdict": "unstable",
        "reason": "rise",
        "step": 214,
        "facts": {"steps": 215, "loss_last": float("inf"), "cell_changes": {"full.grad_clip_norm": None}},
        "metrics": {"val_f1": [[100, float("nan")]]},
    }
    # At x = -1.5 ... 1.5: Sxx 5, Sxy 0.075, Syy 0.076875, so RSS 0.07575 and 3 x sqrt(0.07575 / 2 / 5) = 0.261.
    found = lines(outcome("a-deep"), outcome(None), outcome("b-unclipped", **doomed))
    assert found == [
        "campaign a.smoke.yaml constant",
        "cell         verdict          step  highest val_f1  drift at the end      loss    changes",
        "baseline     promote          -     0.5 at 200      +0.045 ± 0.26 over 4  0.5123  -",
        "a-deep       promote          -     0.5 at 200      +0.045 ± 0.26 over 4  0.5123  args.depth: 4",
        "b-unclipped  unstable (rise)  214   -               -                     inf     full.grad_clip_norm: null",
    ]


def test_lower_may_be_better() -> None:
    """Then the lowest is the best, and the criterion or the name said so."""
    facts = {"steps": 1, "main_metric": "val_nll", "main_metric_better": "lower"}
    metrics = {"val_nll": [[10, 2.0], [20, 1.5], [30, 1.75]]}
    found = lines(outcome(None, facts=facts, metrics=metrics), outcome("x", facts=facts, metrics=metrics))
    assert found[1].split("  ")[-1] == "changes"
    assert "lowest val_nll" in found[1]
    assert "1.5 at 20" in found[2]
    assert "-0.25 over 3" in found[2]


def test_without_a_metric_there_are_no_columns_for_it() -> None:
    """A task need not evaluate."""
    found = lines(
        outcome(None, facts={"steps": 1, "loss_last": 1.0}, metrics={}),
        outcome("x", facts={"steps": 1, "loss_last": 2.0}, metrics={}),
    )
    assert found[1].split() == ["cell", "verdict", "step", "loss", "changes"]
    assert found[2].split() == ["baseline", "promote", "-", "1", "-"]


def test_a_campaign_is_rebuilt_from_verdicts_json() -> None:
    """All it says is there, what is not finite as well, in whatever order the cells came in."""
    odd = outcome(
        "z",
        metrics={"val_f1": [[100, float("nan")], [200, 0.5]]},
        facts={**outcome("z").facts, "loss_last": float("inf")},
    )
    ran = [odd, outcome("b"), outcome(None)]
    read = [Outcome.from_dict(wire) for wire in json.loads(verdicts_json(ran))["outcomes"]]
    assert lines(*read) == lines(*ran) == lines(*reversed(ran))
    assert "0.5 at 200" in lines(*ran)[-1]


def test_one_cell_is_no_campaign_and_neither_is_a_preflight() -> None:
    """Two modes of one cell are no cells to compare; without a step there is nothing to compare."""
    assert campaigns([outcome(None), outcome(None, mode="long-tail", id="l")]) == []
    assert campaigns([outcome(None, facts={}), outcome("x", facts={"steps": 0})]) == []
    assert campaigns([]) == []
    two = [outcome(None), outcome("x"), outcome(None, recipe="b", id="b"), outcome("x", recipe="b", id="bx")]
    assert [campaign.recipe for campaign in campaigns(two)] == ["a.smoke.yaml", "b"]

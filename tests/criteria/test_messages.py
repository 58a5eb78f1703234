"""Every message of the criteria language, once, with real values."""

# ruff: noqa: E501  # each message on one line, as a user sees it

from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_smoke.criteria import parse
from pytest_smoke.errors import CriterionError

RUN: dict[str, list[tuple[int, float]]] = {
    "val_f1": [(200, 0.32), (400, 0.41), (800, 0.38)],
    "grad_norm": [(0, 3.0), (311, 612.4), (799, 8.0)],
    "latent_nll": [(200, 1.2), (400, 2.3)],
    "text_nll": [(100, 1.0), (200, 2.0), (400, 1.8)],
    "crf/ce": [(100, 0.031)],
    "broken": [(1, 1.0), (2, math.nan)],
    "zero": [(3, 0.0)],
}

JUDGED: list[tuple[str, dict[str, Any], str, str]] = [
    ("val_f1 > 0.35", {}, "", "val_f1 was 0.38 at step 800, the recipe requires > 0.35"),
    ("val_f1 > 0.6", {}, "criterion-failed", "val_f1 was 0.38 at step 800, the recipe requires > 0.6"),
    ("500 > max(grad_norm)", {}, "criterion-failed", "max(grad_norm) was 612.4 at step 311, the recipe requires < 500"),
    ("mean(grad_norm over stage B) < 9", {}, "", "mean(grad_norm over stage B) was 8, the recipe requires < 9"),
    ("grad_norm < 500 at end", {}, "", "grad_norm was 8 at step 799, the recipe requires < 500 at end"),
    (
        "val_f1 > 0.4 by step 500",
        {},
        "",
        "val_f1 was 0.41 at step 400, the recipe requires > 0.4 by step 500 (first met at this step)",
    ),
    (
        "val_f1 > 0.6 by epoch 5",
        {},
        "criterion-failed",
        "val_f1 was 0.41 at step 400, the recipe requires > 0.6 by epoch 5 (its best value)",
    ),
    (
        "val_f1 > 0.6 by step 2000",
        {},
        "criterion-failed",
        "val_f1 was 0.41 at step 400, the recipe requires > 0.6 by step 2000 (its best value); the run ended at step 800",
    ),
    (
        "latent_nll < 1.1 * text_nll",
        {},
        "criterion-failed",
        "latent_nll was 2.3 at step 400, the recipe requires < 1.1 * text_nll = 1.98 (text_nll was 1.8 at step 400)",
    ),
    (
        "latent_nll - text_nll < 0.2",
        {},
        "criterion-failed",
        "latent_nll - text_nll was 0.5 (latent_nll was 2.3 at step 400, text_nll was 1.8 at step 400), the recipe requires < 0.2",
    ),
    (
        "val_f1 > 2 * baseline.f1",
        {},
        "criterion-failed",
        "val_f1 was 0.38 at step 800, the recipe requires > 2 * baseline.f1 = 0.6 (baseline.f1 was 0.3)",
    ),
    (
        "broken < 9",
        {},
        "non-finite",
        "broken was NaN at step 2, the recipe requires < 9; NaN and infinity meet no criterion",
    ),
    (
        "`crf/ce` / zero < 1",
        {},
        "non-finite",
        "`crf/ce` / zero was NaN (crf/ce was 0.031 at step 100, zero was 0 at step 3), the recipe requires < 1; NaN and infinity meet no criterion",
    ),
    (
        "valf1 > 0.6",
        {},
        "missing-metric",
        "cannot evaluate valf1 > 0.6: metric valf1 was never recorded; did you mean val_f1?",
    ),
    (
        "ce > 0.1",
        {},
        "missing-metric",
        "cannot evaluate ce > 0.1: metric ce was never recorded; did you mean `crf/ce`?",
    ),
    (
        "xyz > 0.1",
        {},
        "missing-metric",
        "cannot evaluate xyz > 0.1: metric xyz was never recorded; known: broken, `crf/ce`, grad_norm, latent_nll, text_nll, val_f1, zero",
    ),
    (
        "val_f1 > baseline.f2",
        {},
        "missing-metric",
        "cannot evaluate val_f1 > baseline.f2: the baseline run has no metric f2; did you mean f1?",
    ),
    (
        "val_f1 > 0.6 over stage C",
        {},
        "unknown-stage",
        "cannot evaluate val_f1 > 0.6 over stage C: the run has no stage C; known: A, B",
    ),
    (
        "mean(grad_norm over steps 700-999) < 9",
        {},
        "run-too-short",
        "cannot evaluate mean(grad_norm over steps 700-999) < 9: 'over steps 700-999' needs step 999, but the run ended at step 800",
    ),
    (
        "val_f1 > 0.6 by step 100",
        {},
        "no-values",
        "cannot evaluate val_f1 > 0.6 by step 100: metric val_f1 has no value up to step 100; it has 3 values, at steps 200-800",
    ),
    (
        "latent_nll < val_f1 by step 300",
        {},
        "criterion-failed",
        "latent_nll was 1.2 at step 200, the recipe requires < val_f1 (0.32 at step 200) by step 300 (the closest step)",
    ),
    (
        "latent_nll + grad_norm < 9 by step 300",
        {},
        "no-values",
        "cannot evaluate latent_nll + grad_norm < 9 by step 300: latent_nll and grad_norm were never recorded at the same step up to step 300",
    ),
    (
        "val_f1 > baseline.f1",
        {"baseline": None},
        "missing-baseline",
        "cannot evaluate val_f1 > baseline.f1: it needs baseline.f1, but there is no baseline run",
    ),
    (
        "val_f1 > 0.6 by epoch 5",
        {"steps_per_epoch": None},
        "unknown-epoch-length",
        "cannot evaluate val_f1 > 0.6 by epoch 5: 'by epoch 5' needs the number of steps in an epoch; add steps_per_epoch to the recipe",
    ),
    (
        "val_f1 > 0.6 over stage A",
        {"stages": {}},
        "unknown-stage",
        "cannot evaluate val_f1 > 0.6 over stage A: the run has no stage A; known: none",
    ),
]


@pytest.mark.parametrize(("criterion", "more", "reason", "text"), JUDGED, ids=[case[0] for case in JUDGED])
def test_message_of_a_judged_criterion(criterion: str, more: dict[str, Any], reason: str, text: str) -> None:
    run: dict[str, Any] = {
        "baseline": {"f1": 0.3},
        "steps_run": 800,
        "stages": {"A": (0, 399), "B": (400, 799)},
        "steps_per_epoch": 100,
    }
    finding = parse(criterion).judge(RUN, **{**run, **more})
    assert (finding.reason, finding.text) == (reason, text)


NOT_PARSED = [
    (
        "",
        1,
        "expected a number, a metric (in backticks if it is not a plain name), one of max(...), min(...), mean(...), median(...), first(...), last(...) or '(', found the end",
    ),
    ("val_f1", 7, "expected a comparison (<= >= == != < >), found the end"),
    ("val_f1 > 0.6 > 0.2", 14, "a second comparison starts at '>'; write two criteria, one comparison each"),
    ("val_f1 > 0.6 and loss < 2", 14, "a second comparison starts at 'and'; write two criteria, one comparison each"),
    ("val_f1 = 1", 8, "'=' is not part of the criteria language; write '==' for equality"),
    ("val_f1 > 80%", 12, "'%' is not part of the criteria language; write 80 % as 0.8"),
    ("val_f1 ≥ 1", 8, "'≥' is not part of the criteria language; write '>='"),
    ("val_f1 > 2^3", 11, "'^' is not part of the criteria language; there is no power operator"),
    (
        "val_f1 > `",
        10,
        "'`' is not part of the criteria language; write a name between two backticks, as in `val/f1`",
    ),
    ("max(a, b) < 1", 6, "',' is not part of the criteria language; a function takes one expression"),
    (
        "a > 1: b",
        6,
        "':' is not part of the criteria language; a name before a criterion has at most 60 characters and none of : ` < > = !, as in 'health: a < 1'",
    ),
    ("a & b", 3, "'&' is not part of the criteria language; write two criteria, one comparison each"),
    (
        "a § b",
        3,
        "'§' is not part of the criteria language; allowed: a number, a metric (in backticks if it is not a plain name), one of max(...), min(...), mean(...), median(...), first(...), last(...), ( ) + - * / <= >= == != < >, 'over stage NAME', 'over steps A-B', 'by step N', 'by epoch N', 'at end'",
    ),
    ("3 < 4", 1, "a criterion needs at least one metric of the smoke run itself"),
    (
        "mx(loss) < 3",
        1,
        "there is no function 'mx' (did you mean 'max'?); functions: max, min, mean, median, first, last",
    ),
    (
        "max(3) < loss",
        5,
        "max(...) needs a metric inside it, as in max(loss); a number or another function is not enough",
    ),
    ("max(loss < 3", 10, "expected an operator, 'over stage NAME', 'over steps A-B' or ')', found '<'"),
    (
        "loss < 3 ovr stage B",
        10,
        "expected an operator or the end, found 'ovr' (did you mean 'over'?); allowed here: + - * /, 'over stage NAME', 'over steps A-B', 'by step N', 'by epoch N', 'at end'",
    ),
    (
        "loss < 3 4",
        10,
        "expected an operator or the end, found '4'; allowed here: + - * /, 'over stage NAME', 'over steps A-B', 'by step N', 'by epoch N', 'at end'",
    ),
    ("loss < 3 over steps 9", 22, "expected '-' between the first and the last step, found the end"),
    ("loss < 3 over steps 9-4", 10, "the last step, 4, is before the first, 9"),
    ("loss < 3 over stage 1", 21, "expected the name of a stage (in backticks if it is not a plain name), found '1'"),
    ("loss < 3 by stop 4", 13, "expected 'step' or 'epoch', found 'stop'"),
    ("loss < 3 by step 4.5", 18, "expected the step, a whole number, found '4.5'"),
    (
        "loss < 3 by step 4 at end",
        20,
        "a criterion can have only one 'by' or 'at end', as in 'loss < 3 by step 400' or 'loss < 3 at end'",
    ),
    ("loss < 1_000", 8, "'1_000' is not a number; allowed forms: 500, 0.5, 1e-3"),
    ("loss < 1e999", 8, "'1e999' is larger than the largest float, 1.8e308"),
    ("(" * 31 + "a", 32, "more than 30 nested levels; simplify the expression"),
    ("a" + "+a" * 100, 201, "the criterion is too long: at most 200 names, numbers and operators are allowed"),
]


@pytest.mark.parametrize(("criterion", "column", "problem"), NOT_PARSED, ids=[case[0][:40] for case in NOT_PARSED])
def test_message_of_a_text_that_is_not_a_criterion(criterion: str, column: int, problem: str) -> None:
    with pytest.raises(CriterionError) as raised:
        parse(criterion)
    assert (raised.value.column, raised.value.problem) == (column, problem)


def test_message_with_the_caret_below_the_offending_characters() -> None:
    with pytest.raises(CriterionError) as raised:
        parse("mx(loss) < 3")
    assert str(raised.value).split("\n") == [
        "column 1: there is no function 'mx' (did you mean 'max'?); functions: max, min, mean, median, first, last",
        "  mx(loss) < 3",
        "  ^^",
    ]

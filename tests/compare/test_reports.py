"""Reports with impossible values are refused with a sentence, however they are damaged."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.compare.comparison import Run, compare
from pytest_smoke.compare.runs import read_runs
from pytest_smoke.errors import ReportError
from pytest_smoke.files import VERDICTS, VERDICTS_SCHEMA, strict_json
from pytest_smoke.report.comparison import comparison_markdown, comparison_text

STAGE = {"name": "A", "first_step": 0, "steps": 9, "planned_steps": 9, "settings": {"lr": 1}}
FACTS = {"steps": 9, "effective_batch_samples": 8, "seconds": 3.0, "better": {"f1": "higher"}, "stages": [STAGE]}
OUTCOME = {
    "id": "a::b",
    "verdict": "promote",
    "reason": "",
    "text": "t",
    "recipe": "a",
    "mode": "b",
    "cell": "",
    "facts": {**FACTS, "settings": {"lr": 1}, "args": {"x": 1}},
    "curve": {"step": [0, 1], "loss": [3.0, 2]},
    "metrics": {"f1": [[1, 0.5], [2, 0.6]]},
}
REPORT = {"schema": VERDICTS_SCHEMA, "outcomes": [OUTCOME]}
VALUES = [None, -1, 1e400, "x", [], {}, True, 10**400, [[1]], {"a": {"b": []}}, "9" * 5000, 0, 1.5]


def runs_of(path: Path, tree: Any) -> dict[str, Run]:
    path.write_text(json.dumps(tree))
    runs = read_runs(str(path))
    assert isinstance(runs, dict)
    return runs


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every container in a tree with each of its keys."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [place for key in keys for place in ((tree, key), *places(tree[key]))]


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_report_is_compared_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    (whole,) = runs_of(tmp_path / VERDICTS, REPORT).values()
    refused = 0
    for _ in range(300):
        tree = copy.deepcopy(REPORT)
        container, key = rng.choice(places(tree))
        if rng.random() < 0.2:
            del container[key]
        else:
            container[key] = rng.choice(VALUES)
        try:
            for run in runs_of(tmp_path / VERDICTS, tree).values():
                for found in (compare(whole, run), compare(run, whole)):
                    assert comparison_text(found)
                    assert comparison_markdown(found)
                    strict_json(found.to_dict())
        except ReportError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": 1, "outcomes": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        (json.dumps(REPORT).replace('"steps": 9', '"steps": -9', 1), "steps is -9, not a whole number of 0 or more"),
        (json.dumps(REPORT).replace('"steps": 9', f'"steps": {"9" * 300}', 1), "not a whole number"),
        (json.dumps(REPORT).replace("[1, 0.5]", "[-1, 0.5]"), "a step is -1"),
        (json.dumps(REPORT).replace('"first_step": 0, ', ""), "the key 'first_step' is missing"),
    ],
    ids=["deep", "negative", "huge", "metric", "missing"],
)
def test_an_impossible_value_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / VERDICTS).write_text(text)
    with pytest.raises(ReportError, match=says):
        read_runs(str(tmp_path / VERDICTS))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / VERDICTS)
    with pytest.raises(ReportError, match="this is a pipe, not a file"):
        read_runs(str(tmp_path / VERDICTS))

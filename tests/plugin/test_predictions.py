"""`predictions(model)`: a smoke run reports which kinds of errors its model makes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.plugin.conftest import RECIPE, Project

TAGS = '''
import tasks

class Tags(tasks.Teacher):
    """Predicts the house number in every text, in every second one with the comma after it."""

    rows = 10

    def predictions(self, model):
        assert not model.training
        for number in range(self.rows):
            text = f"Rue Foch {100 + number}, Lyon"
            gold = {"tag": "house", "start": 9, "end": 12}
            yield {"raw": text, "gold": [gold], "pred": [{**gold, "end": 12 + number % 2}]}

class Garbled(Tags):
    def predictions(self, model):
        yield {"text": "Rue Foch"}

class Silent(Tags):
    def predictions(self, model):
        return None

class Raises(Tags):
    def predictions(self, model):
        raise KeyError("city")

class Opaque(Tags):
    def predictions(self, model):
        yield {"raw": model}
'''


@pytest.fixture
def tagger(project: Project) -> Project:
    (project.path / "tagger.py").write_text(TAGS)
    return project


def test_the_terminal_verdicts_json_and_diagnose_report_the_same_error_counts(tagger: Project) -> None:
    """`diagnose` reads the predictions from the report folder."""
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", "tagger:Tags"))
    result = tagger.run("--smoke", "--smoke-report", "out")
    result.assert_outcomes(passed=1)
    said = "10 examples: 5 of 10 gold spans missed (50 %: bio_slip 50 %); 5 of 10 predicted spans wrong (50 %: *"
    result.stdout.fnmatch_lines([f"good::constant: {said}"])
    (outcome,) = tagger.verdicts()
    (finding,) = [finding for finding in outcome["findings"] if finding["id"] == "prediction-errors"]
    assert finding["data"]["tags"]["house"]["fn"]["buckets"]["bio_slip"]["count"] == 5
    (path,) = (tagger.path / "out" / "predictions").iterdir()
    command = [sys.executable, "-m", "pytest_smoke", "diagnose", str(path), "--format", "json", "--trim"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["report"]["all"]["fn"]["errors"] == 0, (
        "after trimming, every predicted span equals its gold span"
    )


def test_error_counts_are_printed_without_a_report_folder(tagger: Project) -> None:
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", "tagger:Tags"))
    tagger.run("--smoke").stdout.fnmatch_lines(["*5 of 10 gold spans missed*"])


def test_rows_of_an_unknown_form_warn_and_leave_the_promotion(tagger: Project) -> None:
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", "tagger:Garbled"))
    result = tagger.run("--smoke", "--smoke-report", "out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["warning: good::constant: prediction-errors: predictions(model): *1:*"])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("Opaque", "as row 0: it must be a mapping with 'raw', 'gold' and 'pred'"),
        ("Silent", "predictions(model) returned None: it must return rows, one per held-out example"),
        ("Raises", "KeyError: 'city' at tagger.py:"),
    ],
)
def test_predictions_that_fail_warn_and_leave_the_promotion(tagger: Project, task: str, said: str) -> None:
    """The trained weights are kept, and no incomplete predictions file is."""
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", f"tagger:{task}"))
    tagger.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (outcome,) = tagger.verdicts()
    (finding,) = [finding for finding in outcome["findings"] if finding["id"] == "prediction-errors"]
    assert (finding["status"], finding["reason"]) == ("warn", "unreadable-predictions")
    assert said in finding["text"]
    assert not list((tagger.path / "out").glob("predictions/*"))
    assert list((tagger.path / "out").glob("checkpoints/*/trained/model.safetensors"))


def test_wiring_mode_does_not_call_predictions(tagger: Project) -> None:
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", "tagger:Opaque"))
    result = tagger.run("--smoke", "--smoke-mode", "wiring", "--smoke-report", "out")
    result.stdout.fnmatch_lines(["*1 wiring ok*"])

"""`predictions(model)`: a smoke says which kinds of errors its model makes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.plugin.conftest import RECIPE, Project

TAGS = '''
import tasks

class Tags(tasks.Teacher):
    """Finds a house number in every text, and takes the comma along in every second."""

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


def test_errors_are_sorted_said_and_left_for_the_command(tagger: Project) -> None:
    """The same counts in the terminal, in `verdicts.json` and from `diagnose` on the file that stays."""
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
    assert json.loads(run.stdout)["report"]["all"]["fn"]["errors"] == 0, "trimmed, every span is the gold one"


def test_without_a_report_folder_they_are_sorted_all_the_same(tagger: Project) -> None:
    """And nothing is left."""
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", "tagger:Tags"))
    tagger.run("--smoke").stdout.fnmatch_lines(["*5 of 10 gold spans missed*"])


def test_rows_in_no_known_form_warn_and_decide_nothing(tagger: Project) -> None:
    """The training was fine."""
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", "tagger:Garbled"))
    result = tagger.run("--smoke", "--smoke-report", "out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["warning: good::constant: prediction-errors: predictions(model): *1:*"])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("Opaque", "as row 0: it must be a mapping with 'raw', 'gold' and 'pred'"),
        ("Silent", "predictions(model) returned None: it must give rows, one a held-out example"),
        ("Raises", "KeyError: 'city' at tagger.py:"),
    ],
)
def test_predictions_that_break_throw_no_finished_smoke_away(tagger: Project, task: str, said: str) -> None:
    """The training was fine, its trained weights are kept, and nothing half-written is."""
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", f"tagger:{task}"))
    tagger.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (outcome,) = tagger.verdicts()
    (finding,) = [finding for finding in outcome["findings"] if finding["id"] == "prediction-errors"]
    assert (finding["status"], finding["reason"]) == ("warn", "malformed")
    assert said in finding["text"]
    assert not list((tagger.path / "out").glob("predictions/*"))
    assert list((tagger.path / "out").glob("checkpoints/*/trained/model.safetensors"))


def test_a_wiring_run_is_not_asked(tagger: Project) -> None:
    """Its model has learnt nothing yet."""
    tagger.recipe(base=RECIPE.replace("tasks:Teacher", "tagger:Opaque"))
    result = tagger.run("--smoke", "--smoke-mode", "wiring", "--smoke-report", "out")
    result.stdout.fnmatch_lines(["*1 wiring ok*"])

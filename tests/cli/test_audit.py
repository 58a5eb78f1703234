"""Run `audit` and check its output and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "pytest_smoke", "audit")
ROOT = Path(__file__).parents[2]

RECIPE = """\
task: draws_task:Task
full: {batch_size: 64, learning_rate: 1.0e-3, max_steps: 10}
smoke: {max_steps: 5}
"""
MIX = """\
mix:
  sources:
    nad: {rows: 700000, weight: 0.5, share: 0.35}
    osm: {rows: 330000}
    gn: {rows: 320000}
"""
TASK = """
import random
class Task:
    weights = {"nad": 350, "osm": 330, "gn": 320}
    def model(self): raise AssertionError
    def losses(self, model, batch): raise AssertionError
    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        print("opening the corpus")
        chance = random.Random(seed)
        while True:
            yield chance.choices(list(self.weights), list(self.weights.values()), k=batch_size)
    def sources(self, batch):
        return batch
class Unweighted(Task):
    weights = {"nad": 700, "osm": 330, "gn": 320}
class Raises(Task):
    def sources(self, batch):
        raise KeyError("source")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a rootdir with a task, a recipe in a subfolder, and a corpus of 7, 10 and 9 rows."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "draws_task.py").write_text(TASK)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.smoke.yaml").write_text(RECIPE + MIX)
    corpus = tmp_path / "corpus"
    for source, rows in {"nad": 7, "osm": 10, "gn": 9}.items():
        (corpus / source).mkdir(parents=True)
        (corpus / source / "part-0000.jsonl").write_text("{}\n" * rows)
    return tmp_path


def audit(project: Path, *args: str) -> tuple[int, str, str]:
    done = subprocess.run([*COMMAND, *args], cwd=project, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_the_table_of_a_mix_that_is_as_intended(project: Path) -> None:
    assert audit(project, "recipes/r.smoke.yaml") == (
        0,
        "source     rows  weight  estimated  intended  problem\n"
        "nad     700,000     0.5     35.0 %    35.0 %  -\n"
        "osm     330,000       1     33.0 %         -  -\n"
        "gn      320,000       1     32.0 %         -  -\n"
        "\n"
        "recipes/r.smoke.yaml: the mix is as intended\n",
        "",
    )


def test_a_source_with_35_percent_instead_of_20_is_named(project: Path) -> None:
    recipe = project / "recipes" / "r.smoke.yaml"
    recipe.write_text(RECIPE + MIX.replace("share: 0.35", "share: 0.2"))
    code, out, err = audit(project, "recipes/r.smoke.yaml")
    assert (code, err) == (1, "")
    assert "nad     700,000     0.5     35.0 %    20.0 %  share-off-target\n" in out
    assert out.endswith(
        "recipes/r.smoke.yaml: the mix is not as intended\n"
        "  share-off-target: source 'nad' is 35.0 % of the estimated mix (700,000 rows x weight 0.5), not the intended "
        "20.0 %\n"
    )


def test_a_corpus_is_audited_with_and_without_the_weights_of_a_recipe(project: Path) -> None:
    code, out, _ = audit(project, "corpus", "--format", "json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (0, "as-intended")
    assert found["sources"][0] == {
        "source": "osm", "rows": 10, "weight": 1.0, "estimated": pytest.approx(10 / 26), "intended": None,
        "sampled": None, "verdict": "ok",
    }  # fmt: skip
    code, out, _ = audit(project, "corpus", "--recipe", "recipes/r.smoke.yaml", "--format", "json")
    found = json.loads(out)
    assert code == 1
    assert {row["source"]: row["estimated"] for row in found["sources"]} == pytest.approx(
        {"osm": 10 / 22.5, "gn": 9 / 22.5, "nad": 3.5 / 22.5}
    )
    assert [(fault["reason"], fault["source"]) for fault in found["faults"]] == [
        ("share-off-target", "nad"),
        ("dominant-source", "osm"),
    ]
    assert "source 'nad' has 7 rows, the recipe states 700,000" in found["notes"]
    (project / "corpus" / "gn").rename(project / "corpus" / "wiki")
    code, out, _ = audit(project, "corpus", "--recipe", "recipes/r.smoke.yaml")
    assert code == 1
    assert "  source-without-rows: source 'gn' has no rows, but weight 1 in the mix\n" in out
    assert "  unknown-source: source 'wiki' has 9 rows, but is not in the mix (nad, osm, gn)\n" in out


def test_the_corpus_of_a_recipe_is_counted(project: Path) -> None:
    mix = "mix: {corpus: ../corpus, dominant_share: 0.5, sources: {nad: {}, osm: {}, gn: {weight: 2}}}\n"
    (project / "recipes" / "r.smoke.yaml").write_text(RECIPE + mix)
    code, out, err = audit(project, "recipes/r.smoke.yaml")
    assert (code, err) == (1, "")
    assert "gn         9       2     51.4 %  dominant-source, leading-source\n" in out


@pytest.mark.parametrize(("task", "code", "verdict"), [("Task", 0, "ok"), ("Unweighted", 1, "sampled-share-off")])
def test_samples_of_the_task_are_compared_with_the_mix(project: Path, task: str, code: int, verdict: str) -> None:
    (project / "recipes" / "r.smoke.yaml").write_text(RECIPE.replace(":Task", f":{task}") + MIX)
    returned, out, err = audit(project, "recipes/r.smoke.yaml", "--draw", "300", "--format", "json")
    found = json.loads(out)
    assert (returned, err) == (code, "opening the corpus\n")
    assert found["samples"] == 300 * 64
    assert {row["verdict"] for row in found["sources"]} == {verdict}
    nad = next(row for row in found["sources"] if row["source"] == "nad")
    assert nad["sampled"] == pytest.approx(0.35 if code == 0 else 700 / 1350, abs=0.02)


def test_without_a_mix_the_samples_of_the_task_are_shown(project: Path) -> None:
    (project / "recipes" / "r.smoke.yaml").write_text(RECIPE.replace(":Task", ":Unweighted"))
    code, out, _ = audit(project, "recipes/r.smoke.yaml", "--draw", "300")
    assert code == 0
    assert out.splitlines()[0].split() == ["source", "sampled", "problem"]
    assert "  note: source 'nad' is 5" in out


@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        (["absent"], ["absent: file or folder not found"]),
        (["absent.yaml"], ["absent.yaml:1:1: file not found"]),
        (["recipes/r.smoke.yaml", "--by", "rows"], ["--by and --source-field", "--recipe"]),
        (
            ["recipes/r.smoke.yaml", "--recipe", "x.yaml"],
            ["--recipe needs a corpus, but recipes/r.smoke.yaml is a recipe"],
        ),
        (["corpus", "--draw", "3"], ["--draw needs a recipe"]),
        (["corpus", "--draw", "0"], ["'0' is not a whole number of 1 or more"]),
        (["plain.smoke.yaml"], ["plain.smoke.yaml has no `mix` section"]),
        (["broken.smoke.yaml"], ["broken.smoke.yaml:4:", "unknown key sauces in mix"]),
        (
            ["raises.smoke.yaml", "--draw", "3"],
            ["sampling from the task failed: KeyError: 'source' at draws_task.py:18"],
        ),
    ],
)
def test_an_audit_that_fails_is_one_error_and_exit_code_2(project: Path, args: list[str], fragments: list[str]) -> None:
    (project / "plain.smoke.yaml").write_text(RECIPE)
    (project / "broken.smoke.yaml").write_text(RECIPE + "mix: {sauces: {a: {rows: 1}}}\n")
    (project / "raises.smoke.yaml").write_text(RECIPE.replace(":Task", ":Raises") + MIX)
    code, out, err = audit(project, *args)
    assert (code, out) == (2, "")
    assert all(fragment in err for fragment in fragments), err
    assert "Traceback" not in err


def test_an_error_in_the_json_form_is_json(project: Path) -> None:
    code, out, err = audit(project, "absent", "--format", "json")
    assert (code, err) == (2, "")
    assert json.loads(out) == {
        "audited": "absent", "verdict": "error", "text": "absent: file or folder not found",
    }  # fmt: skip


def test_names_that_the_terminal_cannot_show_are_escaped(project: Path) -> None:
    rows: list[dict[str, Any]] = [{"source": "a\nb"}, {"source": "\ud800"}, {"source": "ö"}]
    (project / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [*COMMAND, "x.jsonl", "--source-field", "source"],
        cwd=project, capture_output=True, timeout=60, env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"'a\\nb' " in done.stdout
    assert b"\\xf6 " in done.stdout


def test_torch_is_imported_only_to_sample(project: Path) -> None:
    code = (
        "import sys; from pytest_smoke.__main__ import main\n"
        "main(['audit', *sys.argv[1:]]); print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    for args, loaded in (
        (["corpus"], "False False"),
        (["recipes/r.smoke.yaml"], "False True"),
        (["recipes/r.smoke.yaml", "--draw", "2"], "True True"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *args], cwd=project, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == loaded

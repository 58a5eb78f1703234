"""What `--smoke-tensorboard` writes, and how it fails."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from tests.plugin.conftest import Project

event_accumulator: Any = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="the package tensorboard is not installed"
)
OPTIONS = ("--smoke", "--smoke-report", "out", "--smoke-tensorboard")


def runs(project: Project) -> dict[str, Any]:
    """Return TensorBoard's reader of each run, by the name of its recipe."""
    found = {}
    for folder in sorted((project.path / "out" / "tensorboard").iterdir()):
        events = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        found[folder.name.partition(".")[0]] = events
    return found


def test_a_session_that_trains_nothing_names_no_curves(project: Project) -> None:
    project.recipe()
    result = project.run("--smoke-preflight", *OPTIONS[1:])
    result.stdout.fnmatch_lines(["report: out/index.html"])
    assert "to look at the curves" not in result.stdout.str()


def test_each_run_has_a_folder_with_its_own_events_only(project: Project) -> None:
    project.recipe()
    project.extending("wild", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n")
    result = project.run(*OPTIONS, "-n", "2")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["to look at the curves: tensorboard --logdir out/tensorboard"])

    found = runs(project)
    assert sorted(found) == ["good", "wild"]
    for outcome in project.verdicts():
        events = found[outcome["recipe"].partition(".")[0]]
        with (project.path / "out" / outcome["facts"]["trace"]).open() as file:
            rows = list(csv.DictReader(file))
        for tag in ("loss", "lr", "grad_norm", "probe_loss", "loss/ce"):
            seen = [(event.step, event.value) for event in events.Scalars(tag)]
            assert seen == [
                (int(row["step"]), pytest.approx(float(row[tag]), rel=1e-6)) for row in rows if row[tag] != ""
            ]
        # The metrics after the last step are the last point of a run whose verdict is about no single step.
        assert [event.step for event in events.Tensors("verdict")] == [outcome["step"] or 400]
    assert found["good"].Scalars("metrics/val_accuracy")

    # `judge` reads them, as it reads those of any trainer.
    [folder] = (project.path / "out" / "tensorboard").glob("good*")
    judged = f"from pytest_smoke.__main__ import main; import sys; sys.exit(main(['judge', {str(folder)!r}]))"
    project.pytester.runpython_c(judged).stdout.fnmatch_lines(["*: promote: *"])

    # The second session trains one of them again, for fewer steps.
    own = project.path / "out" / "tensorboard" / "own" / "events.out.tfevents.1"
    own.parent.mkdir()
    own.touch()
    project.run(*OPTIONS, "--smoke-mode", "wiring", "good.smoke.yaml")
    assert own.exists()
    own.unlink()
    own.parent.rmdir()
    found = runs(project)
    assert sorted(found) == ["good"]
    assert [event.step for event in found["good"].Scalars("loss")] == list(range(10))

    # A session without the option leaves no events that belong to other verdicts.
    project.run("--smoke", "--smoke-report", "out", "--smoke-preflight")
    assert runs(project) == {}


def test_events_that_cannot_be_written_fail_the_session_with_a_sentence(project: Project) -> None:
    project.recipe()
    (project.path / "out").mkdir()
    (project.path / "out" / "tensorboard").touch()
    result = project.run(*OPTIONS, "--smoke-mode", "wiring")
    result.stdout.fnmatch_lines(["ERROR: *tensorboard* could not be written: *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(project.verdicts()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--smoke", "--smoke-tensorboard"], "*--smoke-tensorboard needs --smoke-report DIR: *"),
        (
            ["-p", "without_tensorboard", *OPTIONS],
            "*--smoke-tensorboard needs the package tensorboard (pip install tensorboard): *",
        ),
        (
            ["-p", "broken_tensorboard", *OPTIONS],
            "*--smoke-tensorboard: the package tensorboard cannot be imported: TypeError: Descriptors*",
        ),
        (
            ["--smoke-bisect", "good.smoke.yaml", "good.smoke.yaml", *OPTIONS[1:]],
            "*--smoke-bisect writes no TensorBoard event files: *",
        ),
    ],
)
def test_what_is_missing_is_a_usage_error(project: Project, options: list[str], message: str) -> None:
    project.recipe()
    project.pytester.makepyfile(
        without_tensorboard="import sys\nsys.modules['tensorboard.plugins.hparams'] = None\n",
        broken_tensorboard="import sys\nsys.path.insert(0, 'broken')\n",
    )
    broken = project.path / "broken" / "tensorboard"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise TypeError('Descriptors cannot be created directly')\n")
    result = project.run(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_the_package_is_imported_only_if_it_is_asked_for(project: Project) -> None:
    project.recipe()
    project.pytester.makepyfile(without_tensorboard="import sys\nsys.modules['tensorboard'] = None\n")
    result = project.run("-p", "without_tensorboard", "--smoke", "--smoke-mode", "wiring", "--smoke-report", "out")
    result.stdout.fnmatch_lines(["report: out/index.html"])
    assert not (project.path / "out" / "tensorboard").exists()

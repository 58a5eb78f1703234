"""`--smoke`: what is collected, how items are named and chosen, and what they say."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project


def test_without_smoke_nothing_of_a_recipe_is_collected_or_imported(project: Project) -> None:
    """A broken recipe and a task that would raise on import do no harm."""
    project.recipe("bad", "nonsense: [")
    project.pytester.makepyfile(test_plain="import sys\ndef test_plain():\n    assert 'yaml' not in sys.modules\n")
    project.run("-v").assert_outcomes(passed=1)


def test_a_recipe_named_without_smoke_says_what_to_type(project: Project) -> None:
    """pytest's own words would be that it found nothing."""
    project.recipe()
    result = project.run("good.smoke.yaml::constant")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*recipes are collected only with --smoke: pytest --smoke good.smoke.yaml::constant*"])


def test_a_promoted_recipe_passes_and_says_so(project: Project) -> None:
    """The word in -v, and a row of the table with steps, evidence, loss and seconds."""
    project.recipe()
    result = project.run("--smoke", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "good.smoke.yaml::constant PROMOTE *",
            "*= smoke runs =*",
            "verdict *smoke run *steps *evidence *loss *smallest rise *time*",
            "promote *good::constant *400 *384 *->*",
        ]
    )


def test_a_doomed_recipe_fails_with_its_reason_first(project: Project) -> None:
    """Verdict word and sentence open the failure text and the short summary; the rest of it can be acted on."""
    project.recipe()
    project.extending("wild", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n")
    result = project.run("--smoke", "-v", "wild.smoke.yaml")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "wild.smoke.yaml::constant UNSTABLE *",
            "*_ wild.smoke.yaml: constant _*",
            "unstable (*",
            "  loss * steps 0-*",
            "  pass *batch-geometry: *",
            "  FAIL *loss-trend: see above",
            "  hint: reduce learning_rate (5), or revisit what is new in the recipe",
            "  wild.smoke.yaml:3",
            "  rerun: pytest --smoke --smoke-device cpu wild.smoke.yaml::constant",
            "UNSTABLE wild.smoke.yaml::constant - unstable (*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_metric_that_peaked_and_fell_is_promoted_with_a_warning(project: Project) -> None:
    """The line under the table says so; the session passes, and a metric that only rises says nothing."""
    project.recipe("rises", "  evaluate_every_steps: 50\n")
    longer = "full: {batch_size: 128}\nsmoke: {max_steps: 800}\n"
    project.extending("peaks", longer + "task: tasks:Overfits\nmetrics: {val_accuracy: {items: 2000}}\n", of="rises")
    result = project.run("--smoke")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "promote *peaks::constant *",
            "warning: peaks::constant: peak-regression?val_accuracy?: val_accuracy was best at step * (??.?? %) and "
            "ended at ??.?? % (step 800), a fall beyond the noise of 2000 items*",
        ]
    )
    result.stdout.no_fnmatch_line("*rises*peak-regression*")


def test_all_faults_of_a_recipe_are_one_collection_error(project: Project) -> None:
    """Each has its own line with path, line and column; a criterion's place is its own, too."""
    project.recipe(
        base="task: tasks:Teachre\nfull: {batch_size: 0, learning_rate: 1e-3, max_steps: 10}\nsmoke: {max_stps: 10}\n"
        "checks: {accept: ['val_accuracy >']}\n"
    )
    result = project.run("--smoke")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines_random(
        [
            "*good.smoke.yaml:1:7: *Teachre*Teacher*",
            "*good.smoke.yaml:2:20: *batch_size*0*",
            "*good.smoke.yaml:2:38: *1e-3*1.0e-3*",
            "*good.smoke.yaml:3:9: *max_stps*max_steps*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    project.recipe(extra="checks: {accept: ['val_accuracy >']}\n")
    project.run("--smoke").stdout.fnmatch_lines(["*good.smoke.yaml:9:19: criterion 'val_accuracy >'*"])


def test_modes_and_cells_are_items_that_can_be_chosen(project: Project) -> None:
    """`-k`, `-m`, ids and --collect-only treat them as any test."""
    project.recipe(extra="ablate:\n  slow: {full.learning_rate: 1.0e-4}\n  noisy: {args.noise: 0.1}\n")
    collected = project.run("--smoke", "--collect-only", "-q").stdout
    collected.fnmatch_lines(
        ["good.smoke.yaml::constant", "good.smoke.yaml::constant[[]slow]", "good.smoke.yaml::constant[[]noisy]"]
    )
    project.run("--smoke", "--collect-only", "-q", "-k", "slow").stdout.fnmatch_lines(["1/3 tests collected*"])
    project.run("--smoke", "--collect-only", "-q", "-m", "not smoke").stdout.fnmatch_lines(["*3 deselected*"])
    project.run("--smoke", "--collect-only", "-q", "good.smoke.yaml::constant[noisy]").stdout.fnmatch_lines(
        ["1 test collected*"]
    )


def test_last_failed_exitfirst_and_durations_work_as_ever(project: Project) -> None:
    """A failed smoke is rerun by --lf, stops under -x, and has a duration."""
    project.recipe("a_good")
    project.extending("b_bad", "checks: {accept: [val_accuracy > 2]}\n", of="a_good")
    project.extending("c_bad", "smoke: {grad_clip_norm: 1.0}\n", of="a_good")
    result = project.run("--smoke", "-x", "--durations=5", "-vv")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*s call *a_good.smoke.yaml::constant"])
    project.run("--smoke", "--lf", "--collect-only", "-q").stdout.fnmatch_lines(["b_bad.smoke.yaml::constant"])


@pytest.mark.parametrize("without", ["cacheprovider", "xdist", "terminal", "capture", "junitxml", "debugging"])
def test_it_works_without_other_plugins(project: Project, without: str) -> None:
    """None of pytest's own optional plugins is needed."""
    project.recipe()
    assert project.run("--smoke", "-p", f"no:{without}").ret == 0


def test_marked_tests_run_only_with_smoke(project: Project) -> None:
    """Without it they are skipped with a reason; under --smoke-strict that skip fails."""
    project.pytester.makepyfile(
        test_marked="import pytest\n@pytest.mark.smoke\ndef test_it():\n    pass\ndef test_plain():\n    pass\n"
    )
    result = project.run("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*only with --smoke*"])
    project.run("--smoke").assert_outcomes(passed=2)
    strict = project.run("--smoke-strict")
    strict.assert_outcomes(passed=1, errors=1)
    strict.stdout.fnmatch_lines(["*only with --smoke (--smoke-strict)*"])


def test_other_recipe_names_are_an_ini_away(project: Project) -> None:
    """`smoke_files` adds globs of names, or of paths where they hold a slash."""
    project.recipe().rename(project.path / "good.recipe.yml")
    (project.path / "nested").mkdir()
    (project.path / "nested" / "x.yaml").write_text((project.path / "good.recipe.yml").read_text())
    project.pytester.makeini("[pytest]\nsmoke_files = *.recipe.yml nested/*.yaml\n")
    project.run("--smoke", "--collect-only", "-q").stdout.fnmatch_lines(
        ["good.recipe.yml::constant", "nested/x.yaml::constant"]
    )

"""`--smoke`: what is collected, how items are named and selected, and what they print."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project


def test_without_the_option_no_recipe_is_collected_and_yaml_is_not_imported(project: Project) -> None:
    project.recipe("bad", "nonsense: [")
    project.pytester.makepyfile(test_plain="import sys\ndef test_plain():\n    assert 'yaml' not in sys.modules\n")
    project.run("-v", fresh=True).assert_outcomes(passed=1)


def test_a_recipe_given_without_the_option_is_a_usage_error_with_the_command(project: Project) -> None:
    """pytest's own message would be that it found no such item."""
    project.recipe()
    result = project.run("good.smoke.yaml::constant")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*recipes are collected only with --smoke: pytest --smoke good.smoke.yaml::constant*"])


def test_a_promoted_recipe_passes_with_a_row_in_the_table(project: Project) -> None:
    """The row has steps, evidence, loss and time; `-v` prints the verdict."""
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


def test_an_unstable_recipe_fails_and_its_reason_comes_first(project: Project) -> None:
    """The failure text and the short summary start with the verdict; curve, checks, hint, place and rerun follow."""
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
            "  hint: reduce learning_rate (5), or undo the last change to the recipe",
            "  wild.smoke.yaml:3",
            "  rerun: pytest --smoke --smoke-device cpu wild.smoke.yaml::constant",
            "UNSTABLE wild.smoke.yaml::constant - unstable (*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_metric_that_peaks_and_falls_is_promoted_with_a_warning(project: Project) -> None:
    """A metric that only rises has no warning."""
    project.recipe("rises", "  evaluate_every_steps: 50\n")
    longer = "full: {batch_size: 128}\nsmoke: {max_steps: 800}\n"
    project.extending("peaks", longer + "task: tasks:Overfits\nmetrics: {val_accuracy: {items: 2000}}\n", of="rises")
    result = project.run("--smoke")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "promote *peaks::constant *",
            "warning: peaks::constant: peak-regression?val_accuracy?: val_accuracy fell from ??.?? % (step *) to "
            "??.?? % (step 800), more than noise explains (p * 2,000 items, *",
        ]
    )
    result.stdout.no_fnmatch_line("*rises*peak-regression*")


def test_one_collection_error_lists_all_faults_of_a_recipe_with_line_and_column(project: Project) -> None:
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


def test_keyword_marker_and_id_select_among_the_cells_of_a_recipe(project: Project) -> None:
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


def test_last_failed_exitfirst_and_durations_work_for_smoke_runs(project: Project) -> None:
    project.recipe("a_good")
    project.extending("b_bad", "checks: {accept: [val_accuracy > 2]}\n", of="a_good")
    project.extending("c_bad", "smoke: {grad_clip_norm: 1.0}\n", of="a_good")
    result = project.run("--smoke", "-x", "--durations=5", "-vv")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["1 smoke run was not executed: c_bad.smoke.yaml::constant", "*s call *a_good.smoke.yaml::constant"]
    )
    result.stdout.no_fnmatch_line("ERROR*without an outcome*")
    project.run("--smoke", "--lf", "--collect-only", "-q").stdout.fnmatch_lines(["b_bad.smoke.yaml::constant"])


@pytest.mark.parametrize("without", ["cacheprovider", "xdist", "terminal", "capture", "junitxml", "debugging"])
def test_a_smoke_run_works_without_an_optional_plugin(project: Project, without: str) -> None:
    project.recipe()
    assert project.run("--smoke", "-p", f"no:{without}").ret == 0


def test_tests_marked_smoke_run_only_with_the_option(project: Project) -> None:
    """Without it they are skipped with a reason; `--smoke-strict` makes that skip fail."""
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


def test_the_ini_option_smoke_files_adds_other_recipe_names(project: Project) -> None:
    """A glob with a slash matches the path, any other glob the file name."""
    project.recipe().rename(project.path / "good.recipe.yml")
    (project.path / "nested").mkdir()
    (project.path / "nested" / "x.yaml").write_text((project.path / "good.recipe.yml").read_text())
    project.pytester.makeini("[pytest]\nsmoke_files = *.recipe.yml nested/*.yaml\n")
    project.run("--smoke", "--collect-only", "-q").stdout.fnmatch_lines(
        ["good.recipe.yml::constant", "nested/x.yaml::constant"]
    )

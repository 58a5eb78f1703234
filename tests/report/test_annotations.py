"""GitHub's annotations, read back as GitHub's runner reads them."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.report.annotations import SHOWN, annotation_commands, without_commands
from tests.report.hostile import ANY_TEXT, hostile_outcomes
from tests.report.test_summary_markdown import failed
from tests.report.test_terminal import outcome

COMMAND = re.compile(r"::(?P<level>error|warning|notice) (?P<properties>.*?)::(?P<text>.*)")


def read(line: str) -> tuple[str, dict[str, str], str]:
    """Return level, properties and text. The runner splits at the first `::`, then at commas, then unescapes."""
    match = COMMAND.fullmatch(line)
    assert match is not None, line
    pairs = (pair.partition("=") for pair in match["properties"].split(","))
    return match["level"], {name: unescaped(value) for name, _, value in pairs}, unescaped(match["text"])


def unescaped(text: str) -> str:
    for number, sign in (("0D", "\r"), ("0A", "\n"), ("3A", ":"), ("2C", ","), ("25", "%")):
        text = text.replace(f"%{number}", sign)
    return text


def test_a_run_that_was_not_promoted_is_an_error_at_its_line() -> None:
    (line,) = annotation_commands([failed(1, "50 % up, then: down")], path_of=lambda path: f"ml/{path}")
    title = "r00001.smoke.yaml%3A%3Aconstant%3A unstable (rise)"
    assert line.startswith(f"::error file=ml/r.smoke.yaml,line=3,title={title}::50 %25 up")
    level, properties, text = read(line)
    assert (level, properties["title"]) == ("error", "r00001.smoke.yaml::constant: unstable (rise)")
    assert text == "50 % up, then: down\nhint: reduce learning_rate"


def test_a_fault_of_a_recipe_is_an_error_at_its_line_and_column_before_all_others() -> None:
    fault = "a,b.smoke.yaml:10:3: key 'x y' must be a name: 100 %"
    first, second, third = annotation_commands([failed(1)], faults=[fault, "cannot be read"])
    assert read(first) == (
        "error",
        {"file": "a,b.smoke.yaml", "line": "10", "col": "3", "title": "a,b.smoke.yaml: fault in the recipe"},
        "key 'x y' must be a name: 100 %",
    )
    assert read(second)[1:] == ({"title": "recipe"}, "cannot be read")
    assert "unstable" in third


def test_code_outside_of_the_checkout_is_annotated_at_the_recipe() -> None:
    unstable = failed(1)
    crashed = replace(unstable, findings=(replace(unstable.findings[0], place="/usr/lib/task.py:30"),))

    def inside(path: str) -> str:
        return "" if path.startswith("/") else path

    (line,) = annotation_commands([crashed], path_of=inside)
    assert read(line)[1]["file"] == "r.smoke.yaml"
    (line,) = annotation_commands([crashed], path_of=lambda path: "")
    assert read(line)[1].keys() == {"title"}


def test_a_warning_of_a_promoted_run_is_a_warning_and_a_clean_promotion_is_silent() -> None:
    findings = (
        Finding(id="peak-regression", status="warn", text="fell", key_place="a.smoke.yaml:9"),
        Finding(id="mix", status="pass", text="fair", key_place="a.smoke.yaml:4"),
    )
    assert annotation_commands([outcome(findings=findings[1:])]) == []
    (line,) = annotation_commands([outcome(findings=findings)])
    assert read(line)[:2] == (
        "warning",
        {"file": "a.smoke.yaml", "line": "9", "title": "a.smoke.yaml::constant: peak-regression"},
    )


def test_completed_runs_are_silent_and_skipped_ones_are_errors_only_if_they_fail_the_session() -> None:
    assert annotation_commands([outcome(verdict="inconclusive", reason="preflight")]) == []
    skipped = [outcome(verdict="inconclusive", reason="unmet-requirements", text="needs 1 cuda device")]
    assert [read(line)[0] for line in annotation_commands(skipped)] == ["warning"]
    assert [read(line)[0] for line in annotation_commands(skipped, skips_fail=True)] == ["error"]


def test_the_worst_ten_of_a_level_are_shown_and_the_others_are_counted() -> None:
    holds = [failed(number, verdict="hold") for number in range(SHOWN)]
    unstable = [failed(100 + number) for number in range(3)]
    warned = outcome(findings=tuple(Finding(id=f"w{number}", status="warn", text="t") for number in range(11)))
    found = [read(line) for line in annotation_commands([*holds, warned, *unstable])]
    assert [level for level, _, _ in found] == ["error"] * SHOWN + ["warning"] * SHOWN + ["notice"] * 2
    assert ["unstable" in properties["title"] for _, properties, _ in found[:4]] == [True, True, True, False]
    assert found[-2][2].startswith("3 more errors not shown here")
    assert found[-1][2].startswith("1 more warning not shown here")


@given(st.lists(hostile_outcomes(), max_size=3))
def test_no_text_can_add_a_line_a_property_or_another_command(outcomes: list[Outcome]) -> None:
    for line in annotation_commands(outcomes):
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", line)
        _, properties, _ = read(line)
        assert properties.keys() <= {"file", "line", "title"}
        assert properties.get("line", "1").isdecimal()


def test_a_line_of_a_log_cannot_be_a_command() -> None:
    text = "a :: b\n  ::error::forged\n::add-mask::x\n##[error]old\nid::constant"
    assert without_commands(text) == "a :: b\n  : :error::forged\n: :add-mask::x\n## [error]old\nid::constant"


@given(ANY_TEXT)
def test_no_log_has_a_command(text: str) -> None:
    found = without_commands(f"{text}\n  {text}")
    assert not any(line.strip().startswith("::") or "##[" in line for line in found.split("\n"))

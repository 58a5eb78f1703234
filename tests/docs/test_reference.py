"""The reference pages are what `docs/generate.py` makes of the code."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from pytest_smoke import events, outcome, recipe_texts
from pytest_smoke.judge.checks.check import Check, Reason
from pytest_smoke.judge.checks.registry import CHECKS
from pytest_smoke.recipe.model import Recipe

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = (
    "checks.md",
    "commands.md",
    "events.md",
    "faults.md",
    "options.md",
    "python-api.md",
    "recipe.md",
    "verdicts-json.md",
)
COMMAND = "python docs/generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """Load the script."""
    spec = spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["generate"] = module  # dataclasses and inspect look modules up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(generate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with pages that are just written."""
    folder: Path = tmp_path_factory.mktemp("docs") / "reference"
    assert generate.main([], folder) == 0
    return folder


def code_cells(page: Path, column: int = 0) -> list[str]:
    """Return the code spans in one column of all tables."""
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    return [span for row in rows if len(row) > column for span in re.findall(r"`([^`]+)`", row[column])]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_stale(generate: ModuleType, page: str) -> None:
    written = (REFERENCE / page).read_text() if (REFERENCE / page).is_file() else "missing"
    assert written == generate.render(page), f"docs/reference/{page} differs from the code; run: {COMMAND}"


def test_there_are_no_other_pages(generate: ModuleType) -> None:
    assert sorted(generate.PAGES) == sorted(path.name for path in REFERENCE.iterdir()) == sorted(PAGES)


def test_check_names_stale_missing_and_unknown_pages(
    generate: ModuleType, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for page in PAGES:
        (tmp_path / page).write_text((written / page).read_text())
    assert generate.main(["--check"], tmp_path) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "checks.md").write_text((written / "checks.md").read_text().replace("`rise`", "`risen`"))
    (tmp_path / "recipe.md").unlink()
    (tmp_path / "old.md").write_text("# Old\n")
    assert generate.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"docs/reference/{page} differs from the code; run: {COMMAND}" for page in ("old.md", "recipe.md", "checks.md")
    ]


def test_a_new_check_is_on_its_page_without_further_edits(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = Reason(id="too-blue", status="fail", when="the plots are too blue")
    check = Check(id="colours", question="Are the plots legible?", when="end", verdict="hold", reasons=(reason,))
    monkeypatch.setattr(generate, "CHECKS", (*CHECKS, check))
    page = generate.render("checks.md")
    assert "| [`colours`](#colours) | Are the plots legible? | end | `hold` |" in page
    assert "| `too-blue` | `fail` | `hold` | the plots are too blue |" in page


@pytest.mark.parametrize("page", PAGES)
def test_every_description_is_there(generate: ModuleType, page: str) -> None:
    """A table's last column is the description, except for the recipe key of a check, which may be missing."""
    rows = [line for line in generate.render(page).splitlines() if line.startswith("| ")]
    assert [row for row in rows if row.endswith("|  |") and not row.startswith("| [`")] == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_open_with_a_sentence_and_have_no_dates_and_paths(generate: ModuleType, page: str) -> None:
    text = generate.render(page)
    title, sentence = text.split("\n\n")[:2]
    assert title.startswith("# ")
    assert re.match(r"[A-Z][^|]*[.?]", sentence)
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert re.search(r"20\d\d-\d\d|0x[0-9a-f]{6}", text) is None


def test_every_option_and_ini_key_of_pytest_is_listed(written: Path, pytestconfig: pytest.Config) -> None:
    listed = {cell.split()[0] for cell in code_cells(written / "options.md")}
    options = {name for name in vars(pytestconfig.option) if name.split("_")[0] == "smoke"}
    assert {cell.removeprefix("--").replace("-", "_") for cell in listed if cell.startswith("--")} == options
    assert {"smoke_files", "smoke", "gpu(count=1,"} <= listed
    assert pytestconfig.getini("smoke_files") is not None


def test_every_recipe_key_is_listed(written: Path) -> None:
    listed = code_cells(written / "recipe.md")
    assert [path for path in listed if "." not in path] == ["extends", *Recipe.model_fields]
    for path in (
        "full.learning_rate",
        "smoke.pipeline.tolerance",
        "stages[].phases[].name",
        "checks.resume.at_step",
        "metrics.NAME.better",
        "mix.sources.NAME.share",
        "requires.memory_gib",
    ):
        assert path in listed


def test_every_check_with_every_reason_is_listed(written: Path) -> None:
    listed = code_cells(written / "checks.md")
    assert [cell for cell in listed if cell in {check.id for check in CHECKS}][: len(CHECKS)] == [
        check.id for check in CHECKS
    ]
    assert {reason.id for check in CHECKS for reason in check.reasons} <= set(listed)


def test_every_field_of_an_outcome_and_every_event_is_listed(written: Path) -> None:
    facts = {*outcome.Facts.__annotations__, recipe_texts.DIGEST} - {recipe_texts.TEXT}  # the file has each text once
    assert facts <= set(code_cells(written / "verdicts-json.md"))
    page = (written / "events.md").read_text()
    for message in (*events.Event.__args__, *events.Command.__args__):
        assert f"### {message.__name__}\n" in page


def test_every_command_has_an_exit_status(written: Path) -> None:
    rows = [line for line in (written / "commands.md").read_text().splitlines() if line.startswith("| [`")]
    assert [re.search(r"\| 0 if .*\.? \|$", row) is not None for row in rows] == [True] * len(rows) != []


def test_every_public_name_is_listed(written: Path) -> None:
    import pytest_smoke

    page = (written / "python-api.md").read_text()
    for name in pytest_smoke.__all__:
        assert name == "__version__" or f"### {name}\n" in page or f"| `{name}` |" in page

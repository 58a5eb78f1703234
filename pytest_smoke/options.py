"""Command line, ini and markers."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import NoReturn

import pytest

MODES = ("constant", "long-tail", "wiring")
MARKERS = (
    "smoke: a smoke test; it runs only with --smoke",
    "gpu(count=1, memory_gib=0): needs that many GPUs with that much memory each; skipped where they are missing",
)
RECIPE_GLOB = "*.smoke.yaml"


def add_options(parser: pytest.Parser) -> None:
    """Every option and ini key of the plugin."""
    group = parser.getgroup("smoke", "verdict smokes")
    group.addoption("--smoke", action="store_true", help="collect recipes (*.smoke.yaml) and run tests marked smoke")
    group.addoption("--smoke-mode", choices=MODES, help="run every recipe in this mode, whatever it says itself")
    group.addoption(
        "--smoke-preflight", action="store_true", help="check that smokes are fair rehearsals, and run nothing"
    )
    group.addoption(
        "--smoke-device",
        type=_device,
        default="auto",
        metavar="DEVICE",
        help="auto (default), cpu, mps, cuda or cuda:N",
    )
    group.addoption(
        "--smoke-report", type=Path, metavar="DIR", help="write verdicts.json, traces and checkpoints to DIR"
    )
    group.addoption(
        "--smoke-resume",
        action="store_true",
        help="go on with smokes that an earlier session with this option left unfinished in --smoke-report",
    )
    group.addoption(
        "--smoke-isolation",
        choices=("process", "none"),
        default="process",
        help="process (default): each smoke in a process of its own; none: in pytest's, for debuggers",
    )
    group.addoption(
        "--smoke-timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="kill a smoke that finished no step for so long (default 600; 0: never)",
    )
    group.addoption("--smoke-no-early-stop", action="store_true", help="run doomed smokes to their end")
    group.addoption(
        "--smoke-bisect",
        nargs=2,
        metavar=("GOOD", "BAD"),
        help="find the settings that make a stable recipe unstable; each is FILE, FILE::CELL or an item's id",
    )
    group.addoption("--smoke-strict", action="store_true", help="fail what would be skipped for want of a device")
    parser.addini("smoke_files", type="args", default=[], help=f"globs of recipe files beside {RECIPE_GLOB}")


def _device(text: str) -> str:
    kind, _, index = text.partition(":")
    if text in ("auto", "cpu", "mps", "cuda") or (kind == "cuda" and index.isascii() and index.isdigit()):
        return text
    raise pytest.UsageError(f"--smoke-device {text!r}: must be auto, cpu, mps, cuda or cuda:N")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise pytest.UsageError(f"--smoke-timeout {text!r}: must be seconds, 0 or more")
    return seconds


def check(config: pytest.Config) -> None:
    """Settle what one option implies for another. Raises UsageError where the command cannot mean what it says."""
    option = config.option
    if option.smoke_bisect:
        _only_bisect(config)
    if option.smoke_preflight:
        option.smoke = True
    if getattr(option, "usepdb", False):  # absent under `-p no:debugging`
        option.smoke_isolation = "none"  # a debugger needs the frames in this process
    if option.smoke_report is not None:
        typed = option.smoke_report
        option.smoke_report = config.invocation_params.dir / typed  # a test may change the folder
        try:
            option.smoke_report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"--smoke-report {typed}: no folder can be made there: {error.strerror}") from None
    if option.smoke_resume and option.smoke_report is None:
        raise pytest.UsageError("--smoke-resume needs --smoke-report DIR: checkpoints are kept there")
    asked = [arg for arg in config.args if arg.partition("::")[0].endswith(RECIPE_GLOB.removeprefix("*"))]
    if asked and not option.smoke:
        raise pytest.UsageError(f"recipes are collected only with --smoke: pytest --smoke {' '.join(asked)}")


def _only_bisect(config: pytest.Config) -> None:
    """Make the one item of a bisect all that is collected."""
    option = config.option
    if option.smoke_preflight:
        raise pytest.UsageError("--smoke-bisect trains, and --smoke-preflight runs nothing: give one of the two")
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        raise pytest.UsageError(f"--smoke-bisect runs nothing but its own smokes; leave out {' '.join(config.args)}")
    files = [config.invocation_params.dir / named.partition("::")[0] for named in option.smoke_bisect]
    for named, file in zip(option.smoke_bisect, files, strict=True):
        if not file.is_file():
            raise pytest.UsageError(f"--smoke-bisect {named}: there is no file {file}")
    option.smoke = True
    config.args = [str(files[1])]


def refuse_namesake() -> None:
    """PyPI's pytest-smoke owns the same import package and `--smoke`. Raises UsageError where it is installed."""
    try:
        version = metadata.version("pytest-smoke")
    except metadata.PackageNotFoundError:
        return
    raise pytest.UsageError(
        f"pytest-smoke {version} is installed beside pytest-verdict-smoke: another project with the same import "
        "package (pytest_smoke) and the same option --smoke; pip uninstall both, then install the one you mean"
    )


def skip_or_fail(reason: str, config: pytest.Config) -> NoReturn:
    """Skip for want of something, or fail under --smoke-strict."""
    if config.option.smoke_strict:
        pytest.fail(f"{reason} (--smoke-strict)", pytrace=False)
    pytest.skip(reason)

"""Command line, ini keys and markers."""

from __future__ import annotations

import os
import shlex
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pytest_smoke.allowed import COMMANDS_KEY, TASKS_KEY, AllowedCode
from pytest_smoke.devices import DEVICE_HELP, parse_device
from pytest_smoke.errors import SmokeError
from pytest_smoke.roots import root_above
from pytest_smoke.text import either

MODES = ("constant", "long-tail", "wiring")
MARKERS = (
    "smoke: a smoke test; it runs only with --smoke",
    "gpu(count=1, memory_gib=0): needs that many GPUs with that much memory each; skipped where they are missing",
)
JUNIT_PROPERTIES = ("testcase", "testsuite")
RECIPE_GLOB = "*.smoke.yaml"
DEFAULT_TIMEOUT_SECONDS = 600.0
READS_ONLY = (
    *("collectonly", "help", "version", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow"),
    *("setuponly", "setupplan"),
)
"""Options of pytest with which a session executes no item."""


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini key of the plugin."""
    group = parser.getgroup("smoke", "smoke runs")
    group.addoption("--smoke", action="store_true", help="collect recipes (*.smoke.yaml) and run tests marked smoke")
    group.addoption("--smoke-mode", choices=MODES, help="run every recipe in this mode, whatever the recipe says")
    group.addoption(
        "--smoke-preflight",
        action="store_true",
        help="only compare each smoke run with its full run; nothing is trained",
    )
    group.addoption(
        "--smoke-device", type=_device, default="auto", metavar="DEVICE", help=f"device to train on: {DEVICE_HELP}"
    )
    group.addoption(
        "--smoke-report",
        type=Path,
        metavar="DIR",
        help="write an HTML page (index.html), verdicts.json, summary.md, smoke.sarif, receipts, traces, checkpoints, "
        "predictions and packages to DIR",
    )
    group.addoption(
        "--smoke-sign-key",
        type=Path,
        metavar="KEY",
        help="sign the receipts of promotions with this SSH key; needs --smoke-report. For a key in the SSH agent, "
        "name the .pub file",
    )
    group.addoption(
        "--smoke-tensorboard",
        action="store_true",
        help="also write TensorBoard event files to DIR/tensorboard; needs --smoke-report DIR and the package "
        "tensorboard",
    )
    group.addoption(
        "--smoke-resume",
        action="store_true",
        help="resume smoke runs that a previous --smoke-resume session did not finish; needs --smoke-report",
    )
    group.addoption(
        "--smoke-isolation",
        choices=("process", "none"),
        default="process",
        help="process (default): train each smoke run in a process of its own; none: in the pytest process, for "
        "debuggers",
    )
    group.addoption(
        "--smoke-timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="stop a smoke run that makes no progress for this many seconds (default 600; 0: never)",
    )
    group.addoption(
        "--smoke-no-early-stop",
        action="store_true",
        help="train to the last step even if the verdict is certain before",
    )
    group.addoption(
        "--smoke-executor",
        type=_executor,
        default="local",
        metavar="local|ray[=ADDRESS]",
        help="local (default): train on this machine; ray: train in the Ray cluster at ADDRESS; without an address, in "
        "the one that RAY_ADDRESS names, or in one that is started on this machine",
    )
    group.addoption(
        "--smoke-bisect",
        nargs=2,
        metavar=("GOOD", "BAD"),
        help="find the settings that make a stable recipe unstable; each is FILE, FILE::CELL or an item's id",
    )
    group.addoption(
        "--smoke-strict",
        action="store_true",
        help="fail smoke runs and tests that would be skipped because a device or something else that they require is "
        "missing",
    )
    group.addoption(
        "--smoke-shard",
        metavar="I/N",
        help="run shard I of N, so that N sessions share the items; the shard of an item depends on its id alone; "
        "slurm: take I and N from SLURM_PROCID and SLURM_NTASKS, which srun sets",
    )
    parser.addini(
        "smoke_ray_excludes",
        type="args",
        default=[],
        help="patterns, as in .gitignore, of what --smoke-executor ray does not send to the cluster",
    )
    parser.addini(
        "smoke_files", type="args", default=[], help=f"globs of further recipe files, in addition to {RECIPE_GLOB}"
    )
    parser.addini(
        TASKS_KEY,
        type="args",
        default=[],
        help="globs of modules and packages outside the rootdir that a recipe may name, such as company.tasks.*",
    )
    parser.addini(
        COMMANDS_KEY,
        type="bool",
        default=True,
        help="whether a recipe may start a program with the key command; false where others write the recipes",
    )
    parser.addini(
        "smoke_junit_properties",
        type="string",
        default=JUNIT_PROPERTIES[0],
        help="element of JUnit XML with the figures of smoke runs: testcase, or testsuite for readers that validate "
        "the file, as the Jenkins plugin xunit does",
    )


def _device(text: str) -> str:
    try:
        return parse_device(text)
    except SmokeError as error:
        raise pytest.UsageError(f"--smoke-device {error}") from None


def _executor(text: str) -> str:
    kind, equals, address = text.partition("=")
    if text != "local" and (kind != "ray" or (equals and not address)):
        raise pytest.UsageError(f"--smoke-executor {text!r}: must be local, ray or ray=ADDRESS")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise pytest.UsageError(f"--smoke-timeout {text!r}: must be a number of seconds, 0 or more")
    return seconds


def check(config: pytest.Config) -> None:
    """Apply what one option implies for another. Raises UsageError if options contradict each other."""
    option = config.option
    where = config.getini("smoke_junit_properties")
    if where not in JUNIT_PROPERTIES:
        raise pytest.UsageError(f"smoke_junit_properties = {where}: must be {either(JUNIT_PROPERTIES)}")
    if option.smoke_bisect:
        _only_bisect(config)
    if option.smoke_preflight:
        option.smoke = True
    if getattr(option, "usepdb", False):  # absent under `-p no:debugging`
        option.smoke_isolation = "none"  # a debugger needs the frames in this process
    if option.smoke_report is not None:
        typed = option.smoke_report
        if option.smoke:
            _refuse_other_rootdir(config, "--smoke-report", typed)
        option.smoke_report = config.invocation_params.dir / typed  # a test may change the current folder
        try:
            if option.smoke and executes_items(option):
                option.smoke_report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "a file or a broken link has this name" if isinstance(error, FileExistsError) else error.strerror
            raise pytest.UsageError(f"--smoke-report {typed}: cannot create the folder: {why}") from None
    if option.smoke_tensorboard and option.smoke_report is None:
        raise pytest.UsageError("--smoke-tensorboard needs --smoke-report DIR: the event files are written there")
    if option.smoke_sign_key is not None:
        if option.smoke_report is None:
            raise pytest.UsageError("--smoke-sign-key needs --smoke-report DIR: receipts are written there")
        _refuse_other_rootdir(config, "--smoke-sign-key", option.smoke_sign_key)
        option.smoke_sign_key = config.invocation_params.dir / option.smoke_sign_key
    if option.smoke_resume and option.smoke_report is None:
        raise pytest.UsageError("--smoke-resume needs --smoke-report DIR: checkpoints are kept there")
    if option.smoke_executor != "local":
        _check_executor(config)
    if option.smoke_shard is not None and not option.smoke:
        raise pytest.UsageError("--smoke-shard needs --smoke")
    recipes = [arg for arg in config.args if arg.partition("::")[0].endswith(RECIPE_GLOB.removeprefix("*"))]
    if recipes and not option.smoke:
        raise pytest.UsageError(f"recipes are collected only with --smoke: pytest --smoke {' '.join(recipes)}")


def allowed_code(config: pytest.Config) -> AllowedCode:
    """Return the code that recipes may name besides that of the rootdir."""
    return AllowedCode(tasks=tuple(config.getini(TASKS_KEY)), commands=config.getini(COMMANDS_KEY))


def _check_executor(config: pytest.Config) -> None:
    """Raise UsageError for options that need the smoke runs to be on this machine, and if Ray is not installed."""
    option = config.option
    named = f"--smoke-executor {option.smoke_executor}"
    if find_spec("ray") is None:
        raise pytest.UsageError(f"{named} needs Ray: pip install 'pytest-verdict-smoke[ray]'")
    if not option.smoke:
        raise pytest.UsageError(f"{named} needs --smoke")
    others = {
        "--smoke-isolation none": option.smoke_isolation == "none",
        "--smoke-bisect": bool(option.smoke_bisect),
        "--smoke-resume": option.smoke_resume,
        "-n": bool(getattr(option, "numprocesses", None) or getattr(option, "tx", None)),
    }
    for other, is_given in others.items():
        if is_given:
            raise pytest.UsageError(f"{named} trains on other machines: remove {other}")


def executes_items(option: Any) -> bool:
    """Tell whether a session with these options executes items; one that only lists something must change no file."""
    return not any(getattr(option, name, False) for name in READS_ONLY)


def _refuse_other_rootdir(config: pytest.Config, option: str, value: Path) -> None:
    """Raise UsageError if pytest took an option's path for a test, and with it another rootdir than without the option.

    pytest searches its rootdir before it knows the options of plugins, and then every argument that exists is a test.
    The ids of smoke runs are relative to the rootdir, tasks are imported from it, and its ini file counts.
    """
    is_chosen = config.getoption("rootdir", None) is not None or config.getoption("inifilename", None) is not None
    words = (*config.invocation_params.args, *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")))
    if is_chosen or not any(Path(word) == value for word in words):
        return
    has_tests = config.args_source is pytest.Config.ArgsSource.ARGS
    here = config.invocation_params.dir
    expected = root_above(here) or (None if has_tests else here.resolve())
    if expected is None or expected == config.rootpath.resolve() or (has_tests and config.inipath is not None):
        return  # the tests that are named may belong to another project
    if (here / value).resolve().is_relative_to(expected):
        return  # another argument is the cause
    raise pytest.UsageError(
        f"pytest took {value} for a test, and {config.rootpath} for its rootdir instead of {expected}: write "
        f"{option}={value}"
    )


def _only_bisect(config: pytest.Config) -> None:
    """Make the item of the bisect the only one that is collected."""
    option = config.option
    if option.smoke_preflight:
        raise pytest.UsageError("--smoke-bisect trains, --smoke-preflight does not: use one of them")
    if option.smoke_shard is not None:
        raise pytest.UsageError("--smoke-bisect is one item: remove --smoke-shard")
    if option.smoke_tensorboard:
        raise pytest.UsageError("--smoke-bisect writes no TensorBoard event files: remove --smoke-tensorboard")
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        raise pytest.UsageError(f"--smoke-bisect runs only its own smoke runs; remove {' '.join(config.args)}")
    files = [config.invocation_params.dir / named.partition("::")[0] for named in option.smoke_bisect]
    for named, file in zip(option.smoke_bisect, files, strict=True):
        if not file.is_file():
            raise pytest.UsageError(f"--smoke-bisect {named}: there is no file {file}")
    option.smoke = True
    config.args = [str(files[1])]


def refuse_namesake() -> None:
    """Raise UsageError if PyPI's pytest-smoke is installed, which has the same import package and `--smoke`."""
    try:
        version = metadata.version("pytest-smoke")
    except metadata.PackageNotFoundError:
        return
    raise pytest.UsageError(
        f"pytest-smoke {version} and pytest-verdict-smoke are both installed. They are different projects that share "
        "the import package pytest_smoke and the option --smoke: uninstall both, then install the one you need"
    )


def skip_or_fail(reason: str, config: pytest.Config) -> NoReturn:
    """Skip the test because something is missing, or fail it under --smoke-strict."""
    if config.option.smoke_strict:
        pytest.fail(f"{reason} (--smoke-strict)", pytrace=False)
    pytest.skip(reason)

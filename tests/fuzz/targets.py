"""Readers of files that others may have written, as functions of bytes: each may raise nothing but SmokeError."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pytest_smoke.bisect.cache import _read as read_bisect
from pytest_smoke.compare.runs import read_runs
from pytest_smoke.criteria import parse
from pytest_smoke.errors import SmokeError
from pytest_smoke.files import VERDICTS
from pytest_smoke.history.trend import history
from pytest_smoke.logs.judging import RunDescription, judge_logs
from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.logs.read import read_all
from pytest_smoke.mix.corpus import count_corpus
from pytest_smoke.ner.examples import read_lines
from pytest_smoke.outcome import Facts
from pytest_smoke.page.history import history_page
from pytest_smoke.page.report import page
from pytest_smoke.page.sources import runs_of
from pytest_smoke.page.trace import TraceError, read_trace
from pytest_smoke.receipts.receipt import SCHEMA, parse_receipt
from pytest_smoke.recipe.configs.file import read_config
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.report.history import history_text
from pytest_smoke.train.checkpoints.io import read_state
from pytest_smoke.train.export import package
from pytest_smoke.train.export.verify import _contents, _manifest

Target = Callable[[bytes, Path], object]
"""Reads bytes, as a file in a folder that it may write to."""


def _written(data: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def recipe(data: bytes, folder: Path) -> None:
    """Load a recipe, and what a session shows of it."""
    _written(b"class T:\n    def __init__(self, **args): ...\n", folder / "t.py")
    for case in load_cases(_written(data, folder / "a.smoke.yaml"), root=folder):
        assert case.name, case.stages


def criterion(data: bytes, folder: Path) -> None:
    """Parse a criterion and judge it."""
    parsed = parse(data.decode("utf-8", errors="surrogateescape"))
    series = {name: [(0, 1.0), (9, 0.5)] for name in parsed.metrics}
    baseline = dict.fromkeys(parsed.baselines, 0.5)
    parsed.judge(series, baseline=baseline, steps_run=10)


def config(data: bytes, folder: Path) -> None:
    """Read a trainer's config file in each format, and a recipe's settings from it."""
    _written(b"class T: ...\n", folder / "t.py")
    for suffix in ("yaml", "json", "toml", "py"):
        name = f"config.{suffix}"
        text = f"task: t:T\nfull: {{from: {name}}}\nsmoke: {{max_steps: 3}}\n"
        with suppress(SmokeError):
            read_config(_written(data, folder / name), name)
        with suppress(SmokeError):
            load_cases(_written(text.encode(), folder / "a.smoke.yaml"), root=folder)


def log(data: bytes, folder: Path) -> None:
    """Read and judge a trainer's log."""
    logs = read_all(str(_written(data, folder / "train.log")), ColumnNames())
    judge_logs(logs, RunDescription())


def events(data: bytes, folder: Path) -> None:
    """Read and judge a TensorBoard event file."""
    logs = read_all(str(_written(data, folder / "events.out.tfevents.1")), ColumnNames())
    judge_logs(logs, RunDescription())


def verdicts(data: bytes, folder: Path) -> None:
    """Read a `verdicts.json` in every way that a command does."""
    path = _written(data, folder / "report" / VERDICTS)
    found = runs_of(str(path), ColumnNames(), RunDescription())
    page(found.runs, problems=found.problems)
    with suppress(SmokeError):
        read_runs(str(path))
    read = history([folder / "report"])
    history_text(read)
    history_page(read)


def trace(data: bytes, folder: Path) -> None:
    """Read the trace of a report folder."""
    _written(data, folder / "traces/a.csv")
    with suppress(TraceError):
        read_trace(folder, Facts(trace="traces/a.csv", trace_sha256=sha256(data).hexdigest()))


def receipt(data: bytes, folder: Path) -> None:
    """Read a receipt as it is, and with the SHA-256 of its content, as someone who edits one would write it."""
    with suppress(SmokeError):
        parse_receipt(data, "a.receipt.json")
    with suppress(ValueError, RecursionError):
        tree = json.loads(data)
        if isinstance(tree, dict):
            tree.pop("sha256", None)
            text = json.dumps(tree, indent=1, sort_keys=True)
            signed = {**tree, "sha256": sha256(text.encode()).hexdigest(), "schema": tree.get("schema", SCHEMA)}
            data = (json.dumps(signed, indent=1, sort_keys=True) + "\n").encode()
    parse_receipt(data, "a.receipt.json")


def manifest(data: bytes, folder: Path) -> None:
    """Read the manifest of a package, and its recipe."""
    for name in (package.MANIFEST, package.RECIPE, package.EXAMPLES):
        _written(data, folder / name)
    with suppress(SmokeError):
        package.changed_files(folder, _manifest(folder)["files"])
    _contents(folder, {"tolerance": 0.1})


def checkpoint(data: bytes, folder: Path) -> None:
    """Read the description of a checkpoint."""
    read_state(_written(data, folder / "checkpoint.json").parent)


def bisect(data: bytes, folder: Path) -> None:
    """Read the state of a bisect."""
    read_bisect(_written(data, folder / "bisect.json"))


def corpus(data: bytes, folder: Path) -> None:
    """Count the rows of data files and manifests."""
    for name in ("rows.jsonl", "rows.csv", "manifest.json", "manifest.csv"):
        with suppress(SmokeError):
            count_corpus(_written(data, folder / name))


def examples(data: bytes, folder: Path) -> None:
    """Read the examples of a tagger."""
    read_lines(data.splitlines(keepends=True), "rows.jsonl")


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        *(recipe, criterion, config, log, events, verdicts, trace),
        *(receipt, manifest, checkpoint, bisect, corpus, examples),
    )
}

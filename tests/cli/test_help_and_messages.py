"""Everything that the commands say, in files that can be read as one text: tests/cli/snapshots/."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.__main__ import COMMANDS, PROGRAM, main
from pytest_smoke.cli import judge as judge_command
from tests.snapshots import assert_snapshot

SNAPSHOTS = Path(__file__).parent / "snapshots"
WIDTH = 80

RECIPE = "task: a_task:Task\nfull: {batch_size: 64, learning_rate: 1.0e-3, max_steps: 10}\nsmoke: {max_steps: 5}\n"
MIX = "mix: {sources: {nad: {rows: 700, share: 0.2}, osm: {rows: 200}, gn: {rows: 100}}}\n"
CONFIG = """\
train: {batch_size: 8, grad_accum_steps: 2, num_gpus: 4, lr: 0.02, warmup_steps: 100, max_steps: 9000, seed: 3}
scheduler: cosine
precision: bf16
grad_clip: 1.0
model: {n_heads: 8}
"""
PREDICTION = '{"raw": "Paris, 75008", "gold": [[7, 12, "postcode"]], "pred": [[5, 12, "postcode"]]}\n'


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python versions break lines at different places, so only the words are compared."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as stopped:
        main([*([command] if command else []), "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= WIDTH
    assert_snapshot(SNAPSHOTS / f"help-{command or 'commands'}.txt", text, words_only=True)


def outcome(item: str, batch: int, **facts: Any) -> dict[str, Any]:
    """Return the parts of an outcome in verdicts.json that `compare` reads."""
    return {
        "id": item,
        "recipe": item.partition("::")[0],
        "mode": "constant",
        "cell": None,
        "verdict": "promote",
        "reason": "",
        "text": "the loss did not rise",
        "facts": {"steps": 3, "effective_batch_samples": batch, "train_seconds": 1.5, **facts},
        "curve": {"step": [0, 1, 2], "loss": [3.0, 2.0, 1.5]},
        "metrics": {"val_f1": [[1, 0.25], [2, 0.5]], "val_nll": [[1, 2.0], [2, 2.0]]},
    }


def report(*outcomes: dict[str, Any]) -> str:
    return json.dumps({"schema": 1, "outcomes": outcomes})


def stages(first: int, second: int) -> list[dict[str, Any]]:
    """Return the stages A and B, of which B has run `second` of 2 steps."""
    return [
        {"name": "A", "first_step": 0, "steps": first, "planned_steps": first},
        {"name": "B", "first_step": first, "steps": second, "planned_steps": 2},
    ]


def log(steps: int) -> str:
    return "step,loss,elapsed\n" + "".join(f"{n},{1 + math.exp(-n)},{n}\n" for n in range(steps))


FILES = {
    "pytest.ini": "[pytest]\n",
    "a_task.py": "class Task: ...\n",
    "recipe.smoke.yaml": RECIPE + MIX,
    "plain.smoke.yaml": RECIPE,
    "corpus/nad/part-0.jsonl": "{}\n" * 9,
    "corpus/osm/part-0.jsonl": "{}\n",
    "corpus/wiki/part-0.jsonl": "{}\n" * 3,
    "corpus/wiki/part-1.jsonl": "",
    "corpus/README.md": "about\n",
    "manifest/manifest.json": '{"nad": 7, "osm": 5, "gn": 5}',
    "full.yaml": CONFIG,
    "smoke.yaml": CONFIG.replace("cosine", "constant").replace("9000", "900"),
    "cosine.yaml": CONFIG.replace("9000", "900").replace("n_heads: 8", "n_heads: 4"),
    "open.yaml": CONFIG.replace("num_gpus: 4", "").replace("0.02", "'${base.lr}'").replace("grad_clip: 1.0", "frob: 1"),
    "new.jsonl": PREDICTION,
    "short.csv": log(2),
    "long.csv": log(4),
    "runs/a.csv": log(2),
    "runs/b.csv": log(2),
    "old/verdicts.json": report(outcome("a.smoke.yaml::constant", 64), outcome("b.smoke.yaml::constant", 64)),
    "new/verdicts.json": report(outcome("a.smoke.yaml::constant", 128), outcome("c.smoke.yaml::constant", 128)),
    "staged/verdicts.json": report(outcome("s.smoke.yaml::constant", 64, stages=stages(1, 2))),
    "stopped/verdicts.json": report(outcome("s.smoke.yaml::constant", 64, stages=stages(1, 1))),
    "empty/verdicts.json": report(),
    "future/verdicts.json": '{"schema": 9, "outcomes": []}',
    "other/verdicts.json": "[]",
    "broken/verdicts.json": "{",
    "partial/verdicts.json": '{"schema": 1, "outcomes": [{"id": "a"}]}',
}

CORPORA: dict[str, str | bytes] = {
    "no-data/about.md": "about\n",
    "no-rows/a.jsonl": "",
    "unknown-format/a.arrow": "x",
    "not-gzip/a.jsonl.gz": b"no gzip",
    "bad-csv/a.csv": 'text\n"open\nquote\n',
    "not-utf8/a.csv": b"text\n\xff\n",
    "manifest-empty/manifest.json": "[]",
    "manifest-json/manifest.json": "{",
    "manifest-shape/manifest.json": '"nad"',
    "manifest-twice/manifest.json": '{"a": 1, "a": 2}',
    "manifest-negative/manifest.json": '{"a": -1}',
    "manifest-name/manifest.json": '[{"rows": 3}]',
    "manifest-unit/manifest.json": '[{"source": "a", "lines": 3}]',
    "manifest-mixed/manifest.json": '{"a": {"rows": 1}, "b": {"shards": 2}}',
    "manifest-columns/manifest.csv": "name,rows\na,1\n",
    "manifest-source/manifest.csv": "source,rows\n,1\n",
    "manifest-both/manifest.json": "{}",
    "manifest-both/manifest.csv": "source,rows\na,1\n",
}
FIELDS: dict[str, str] = {
    "number.jsonl": '{"source": 3}\n',
    "missing.jsonl": "{}\n",
    "broken.jsonl": "{\n",
    "column.csv": "text\nx\n",
}
LINES = (
    *("{", "[1, 2]", '{"raw": "a", "gold": []}', '{"raw": 3, "gold": [], "pred": []}'),
    '{"raw": "a", "gold": "a", "pred": []}',
    '{"raw": "a", "gold": [], "pred": [], "gold": []}',
    '{"raw": "a", "gold": {"t": 3}, "pred": []}',
    '{"raw": "a", "gold": {"": "a"}, "pred": []}',
    '{"raw": "a", "gold": [[0, 1]], "pred": []}',
    '{"raw": "a", "gold": [[0, 1.5, "t"]], "pred": []}',
    '{"raw": "a", "gold": [[0, 0, "t"]], "pred": []}',
    '{"raw": "ab", "gold": [[2, 1, "t"]], "pred": []}',
    '{"raw": "a", "gold": [], "pred": [[0, 9, "t"]]}',
)

SCENARIOS = {
    "judge": (
        "judge long.csv --planned 0",
        "judge long.csv --follow --planned 9 --poll 0",
        "judge long.csv --follow",
        "judge long.csv short.csv --follow --planned 9",
        "judge - --follow --planned 9",
        "judge absent.csv",
        "judge long.csv --lr rate",
    ),
    "preflight": (
        "preflight full.yaml smoke.yaml",
        "preflight full.yaml cosine.yaml",
        "preflight full.yaml open.yaml",
        "preflight full.yaml absent.yaml",
        "preflight full.yaml corpus/README.md",
        "preflight full.yaml smoke.yaml --full seed=4",
        "preflight plain.smoke.yaml smoke.yaml",
    ),
    "audit": (
        "audit recipe.smoke.yaml",
        "audit corpus",
        "audit corpus --recipe recipe.smoke.yaml",
        "audit manifest",
        "audit absent",
        "audit recipe.smoke.yaml --by rows",
        "audit recipe.smoke.yaml --recipe plain.smoke.yaml",
        "audit corpus --draw 3",
        "audit corpus --draw 0",
        "audit plain.smoke.yaml",
        "audit corpus --by manifest",
        "audit corpus --by manifest --source-field source",
        "audit corpus --by shards --source-field source",
        *(f"audit {name}" for name in dict.fromkeys(path.partition("/")[0] for path in CORPORA)),
        *(f"audit {name} --source-field source" for name in FIELDS),
    ),
    "compare": (
        "compare short.csv long.csv",
        "compare short.csv long.csv --old-batch 64 --new-batch 32",
        "compare old new",
        "compare old::a.smoke.yaml::constant old::b.smoke.yaml::constant",
        "compare staged stopped",
        "compare staged::s.smoke.yaml::constant old::a.smoke.yaml::constant",
        "compare old short.csv",
        "compare old::x short.csv",
        "compare old::a.smoke.yaml::constant short.csv --old-batch 8",
        "compare absent.csv short.csv",
        "compare runs short.csv",
        *(f"compare {name} short.csv" for name in ("empty", "future", "other", "broken", "partial")),
    ),
    "diagnose": (
        "diagnose new.jsonl",
        "diagnose new.jsonl --trim",
        "diagnose new.jsonl --before new.jsonl",
        "diagnose new.jsonl --keep-full-stop",
        "diagnose - --before -",
        "diagnose absent.jsonl",
        "diagnose new.jsonl --examples -1",
        *(f"diagnose line-{at}.jsonl" for at in range(len(LINES))),
        "diagnose all-lines.jsonl",
        "diagnose nothing.jsonl",
    ),
    "probe": (
        "probe absent.smoke.yaml",
        "probe plain.smoke.yaml --cell wide",
        "probe plain.smoke.yaml --device gpu",
        "probe plain.smoke.yaml --batches 0",
    ),
    "init": ("init trial",),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with the input files of all scenarios."""
    lines = {f"line-{at}.jsonl": line + "\n" for at, line in enumerate(LINES)}
    nothing = {"nothing.jsonl": "\n", "all-lines.jsonl": "\n".join(LINES)}
    for name, text in {**FILES, **CORPORA, **FIELDS, **lines, **nothing}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    return tmp_path


def run(argv: list[str]) -> int:
    """Run a command, also if argparse stops it."""
    try:
        return main(argv)
    except SystemExit as stopped:
        return int(stopped.code or 0)


@pytest.mark.parametrize("command", SCENARIOS)
@pytest.mark.usefixtures("folder")
def test_messages(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    parts = []
    for line in SCENARIOS[command]:
        code = run(shlex.split(line))
        out, err = capsys.readouterr()
        errors = [text for text in err.splitlines() if not text.startswith(("usage:", "   "))]
        parts.append("\n".join([f"$ {PROGRAM} {line}", *out.splitlines(), *errors, f"exit status {code}"]))
    assert_snapshot(SNAPSHOTS / f"messages-{command}.txt", "\n\n".join(parts) + "\n")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("folder")
def test_an_interrupt_while_following(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stop: Callable[..., None] = interrupted
    monkeypatch.setattr(judge_command, "_follow", stop)
    assert main(["judge", "long.csv", "--follow", "--planned", "9"]) == 2
    assert capsys.readouterr().err == "judge: interrupted before there was a verdict\n"

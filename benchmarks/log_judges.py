"""Compare log judges on labelled training logs, and print one Markdown table per set of logs.

    pip install losslint trainspotter runmedic trainproof gradsnitch finetune-doctor pytest-torch
    python benchmarks/log_judges.py --curves FOLDER [--tool NAME ...]

FOLDER has at least one of the sets
    cpu_runs.csv + cpu_runs/   columns file, window, label (healthy | unstable-visible); judges the first WINDOW rows
    logs.csv + logs/           columns file, verdict (promote | unstable); judges the whole log
and its logs have the columns `step,loss[,grad_norm][,lr][,probe_loss]`. The column lr is removed, because the labels
are about the loss alone. Logs with other labels are skipped. Commands are started once per log, so their CPU time is
mostly the start of an interpreter; gradsnitch and pytest-torch are called in this process.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

from log_judge_tools import TOOLS, Outcome, Tool

SETS = {"cpu_runs": "label", "logs": "verdict"}
"""The sets, and the column of the label in each."""
TRUTH = {"healthy": "healthy", "promote": "healthy", "unstable-visible": "unstable", "unstable": "unstable"}
"""Truth by label."""
REMOVED = {"lr"}
OUTCOMES: tuple[Outcome, ...] = ("fail", "warn", "could not judge", "pass")
WORDS = ("failed", "warned", "undecided", "passed")
COLUMNS = [
    "tool",
    "version",
    *(f"{truth} {word}" for truth in ("healthy", "unstable") for word in WORDS),
    "CPU seconds",
]


def copy_log(source: Path, target: Path, window: int | None) -> None:
    """Copy the first `window` rows (None: all) without the removed columns."""
    with source.open(newline="") as lines, target.open("w", newline="") as out:
        reader = csv.DictReader(lines)
        names = [name for name in reader.fieldnames or () if name not in REMOVED]
        write = csv.DictWriter(out, names, extrasaction="ignore")
        write.writeheader()
        write.writerows(islice(reader, window))


def labelled_logs(curves: Path, name: str, folder: Path) -> list[tuple[str, Path]]:
    """Copy the labelled logs of a set to `folder`, and return the truth and the copy of each."""
    logs = []
    with (curves / f"{name}.csv").open(newline="") as lines:
        for n, row in enumerate(csv.DictReader(lines)):
            if (truth := TRUTH.get(row[SETS[name]])) is None:
                continue
            log = folder / f"{n:04d}.csv"
            copy_log(curves / name / row["file"], log, int(row["window"]) if row.get("window") else None)
            logs.append((truth, log))
    return logs


def outcome_of(tool: Tool, log: Path) -> Outcome:
    """Judge a log; a tool that crashes or prints something unreadable could not judge it."""
    try:
        return tool.judge(log)
    except (ValueError, LookupError, TypeError, ArithmeticError, subprocess.TimeoutExpired) as error:
        print(f"{tool.name}, {log.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return "could not judge"


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the commands it has run, which other load does not lengthen."""
    return sum(os.times()[:4])


def table_row(tool: Tool, logs: list[tuple[str, Path]]) -> str:
    """Judge all logs with a tool, and format the counts as a row of the table."""
    if tool.version is None:
        return f"| {tool.name} | not installed |" + " |" * (len(COLUMNS) - 2)
    began = cpu_seconds()
    counts = Counter((truth, outcome_of(tool, log)) for truth, log in logs)
    seconds = cpu_seconds() - began
    cells = [str(counts[truth, outcome]) for truth in ("healthy", "unstable") for outcome in OUTCOMES]
    return "| " + " | ".join([tool.name, tool.version, *cells, f"{seconds:.0f}"]) + " |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True, metavar="FOLDER", help="folder of labelled logs")
    names = sorted(tool.name for tool in TOOLS)
    parser.add_argument("--tool", choices=names, action="append", metavar="NAME", help=f"only these of {names}")
    args = parser.parse_args()
    sets = [name for name in SETS if (args.curves / f"{name}.csv").exists()]
    if not sets:
        parser.error(f"{args.curves} has neither {' nor '.join(f'{name}.csv' for name in SETS)}")
    print(f"{datetime.date.today()}, Python {platform.python_version()}")
    for name in sets:
        with tempfile.TemporaryDirectory() as folder:
            logs = labelled_logs(args.curves, name, Path(folder))
            counts = Counter(truth for truth, _ in logs)
            print(f"\n{name}: {counts['healthy']} healthy, {counts['unstable']} unstable\n")
            print("| " + " | ".join(COLUMNS) + " |")
            print("|---|---|" + "---:|" * (len(COLUMNS) - 2))
            for tool in TOOLS:
                if tool.only in ("", name) and (not args.tool or tool.name in args.tool):
                    print(table_row(tool, logs), flush=True)


if __name__ == "__main__":
    main()

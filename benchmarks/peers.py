"""Log judges side by side on labelled curves, as Markdown: one table a set.

    pip install losslint trainspotter runmedic trainproof gradsnitch finetune-doctor pytest-torch
    python benchmarks/peers.py --curves FOLDER [--tool NAME ...]

FOLDER holds any of
    cpu_runs.csv + cpu_runs/   file, window, label (healthy | unstable-visible): the first WINDOW rows are judged
    logs.csv + logs/           file, verdict (promote | unstable): the whole log is judged
with logs of `step,loss[,grad_norm][,lr][,probe_loss]`. The labels speak of the loss, so the lr column is withheld.
Other labels are left out. Commands run once a log, so their CPU seconds are mostly the start of an interpreter;
libraries (gradsnitch, pytest-torch) are called in this process.
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

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers_tools import TOOLS, Outcome, Tool

SETS = {"cpu_runs": "label", "logs": "verdict"}
"""A set and the column of its labels."""
SIDES = {"healthy": "healthy", "promote": "healthy", "unstable-visible": "unstable", "unstable": "unstable"}
WITHHELD = {"lr"}
OUTCOMES: tuple[Outcome, ...] = ("fail", "warn", "could not judge", "pass")
WORDS = ("failed", "warned", "undecided", "passed")
COLUMNS = ["tool", "version", *(f"{side} {word}" for side in ("healthy", "unstable") for word in WORDS), "CPU seconds"]


def prefix(source: Path, target: Path, window: int | None) -> None:
    """Copy the first `window` rows without the columns that are withheld."""
    with source.open(newline="") as lines, target.open("w", newline="") as out:
        reader = csv.DictReader(lines)
        kept = [name for name in reader.fieldnames or () if name not in WITHHELD]
        write = csv.DictWriter(out, kept, extrasaction="ignore")
        write.writeheader()
        write.writerows(islice(reader, window))


def cases(curves: Path, name: str, folder: Path) -> list[tuple[str, Path]]:
    """Side and log of each labelled curve of a set."""
    found = []
    with (curves / f"{name}.csv").open(newline="") as lines:
        for n, row in enumerate(csv.DictReader(lines)):
            if (side := SIDES.get(row[SETS[name]])) is None:
                continue
            log = folder / f"{n:04d}.csv"
            prefix(curves / name / row["file"], log, int(row["window"]) if row.get("window") else None)
            found.append((side, log))
    return found


def outcome(tool: Tool, log: Path) -> Outcome:
    """What the tool says of a log; a crash or an answer that is none is no verdict."""
    try:
        return tool.judge(log)
    except (ValueError, LookupError, TypeError, ArithmeticError, subprocess.TimeoutExpired) as error:
        print(f"{tool.name}, {log.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return "could not judge"


def cpu_seconds() -> float:
    """CPU time of this process and of the commands it has run: a busy machine does not lengthen it."""
    return sum(os.times()[:4])


def table_row(tool: Tool, logs: list[tuple[str, Path]]) -> str:
    """A tool's row of the table."""
    if tool.version is None:
        return f"| {tool.name} | not installed |" + " |" * (len(COLUMNS) - 2)
    start = cpu_seconds()
    seen = Counter((side, outcome(tool, log)) for side, log in logs)
    seconds = cpu_seconds() - start
    counts = [str(seen[side, word]) for side in ("healthy", "unstable") for word in OUTCOMES]
    return "| " + " | ".join([tool.name, tool.version, *counts, f"{seconds:.0f}"]) + " |"


def main() -> None:
    """Print the tables."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--curves", type=Path, required=True, metavar="FOLDER", help="labelled curves")
    names = sorted(tool.name for tool in TOOLS)
    parse.add_argument("--tool", choices=names, action="append", metavar="NAME", help=f"only these of {names}")
    args = parse.parse_args()
    sets = [name for name in SETS if (args.curves / f"{name}.csv").exists()]
    if not sets:
        parse.error(f"{args.curves} has neither {' nor '.join(f'{name}.csv' for name in SETS)}")
    print(f"{datetime.date.today()}, Python {platform.python_version()}")
    for name in sets:
        with tempfile.TemporaryDirectory() as folder:
            logs = cases(args.curves, name, Path(folder))
            sides = Counter(side for side, _ in logs)
            print(f"\n{name}: {sides['healthy']} healthy, {sides['unstable']} unstable\n")
            print("| " + " | ".join(COLUMNS) + " |")
            print("|---|---|" + "---:|" * (len(COLUMNS) - 2))
            for tool in TOOLS:
                if tool.only in ("", name) and (not args.tool or tool.name in args.tool):
                    print(table_row(tool, logs), flush=True)


if __name__ == "__main__":
    main()

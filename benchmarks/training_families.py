"""Train many short runs of kinds that the shared curves do not hold, and label them.

    python benchmarks/training_families.py --out FOLDER --split dev [--families vae,lion_teacher] [--workers 2]

FOLDER then holds `cpu_runs.csv` (columns `file,window,label,why,onset_step,family,split`) and `cpu_runs/*.csv` (columns
`step,loss,grad_norm,lr,probe_loss`, one file per run and window, with about 40 probe losses each), as
`score_verdicts.py --curves FOLDER` reads them, and in `slices/` what the labels were made from: `--relabel` labels the
same runs again. Seeds are fixed. A split takes half an hour to an hour on two cores.

Every run is a real training: a grid of learning rates from safe to far too high, with and without clipping, runs
without warm-up, learning rates that grow, jump for a while or rise for good, and batches with wrong labels for a while
or for good. A label comes from the loss on a fixed slice of samples that the log does not hold, scored at least 100
times per window; `families/labels.py` has the rules.

A family belongs to one split: `dev` (families/dev.py) or `held-out` (families/held_out.py). Constants of the judge may
be chosen on `dev`. The held-out split measures the result: do not look at its verdicts while constants are chosen.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.pool import Pool
from pathlib import Path

import torch
from families import dev, held_out
from families.labels import Recorded, label_window
from families.training import Family, Run, Variant, train, variants

FAMILIES: dict[str, Family] = {family.name: family for family in (*dev.FAMILIES, *held_out.FAMILIES)}
COLUMNS = ("file", "window", "label", "why", "onset_step", "family", "split")
LABELS = ("healthy", "unstable-visible", "unstable-hidden", "grey", "dead", "shift")
Row = dict[str, str | int]


def write_window(path: Path, run: Run, window: int) -> None:
    """Write the log of a window: one row per point, to five digits."""
    probes = run.probes_of(window)
    with path.open("w", newline="") as out:
        write = csv.writer(out)
        write.writerow(("step", "loss", "grad_norm", "lr", "probe_loss"))
        for step, (loss, norm, rate) in enumerate(zip(run.losses[:window], run.norms, run.rates, strict=False)):
            probe = f"{probes[step]:.5g}" if step in probes else ""
            write.writerow((step, f"{loss:.5g}", f"{norm:.5g}", f"{rate:.5g}", probe))


def label_rows(name: str, variant: str, record: Recorded, windows: Sequence[int]) -> list[Row]:
    """Label the windows of a run: the rows of `cpu_runs.csv`."""
    rows: list[Row] = []
    for window in windows:
        found = label_window(record, window)
        onset = "" if found.onset is None else found.onset
        file, split = f"{variant}_w{window}.csv", FAMILIES[name].split
        rows.append(dict(zip(COLUMNS, (file, window, found.label, found.why, onset, name, split), strict=True)))
    return rows


def train_and_label(job: tuple[Path, str, Variant]) -> list[Row]:
    """Train one run, write its windows and its slice losses, and return its rows of `cpu_runs.csv`."""
    folder, name, variant = job
    torch.set_num_threads(1)
    run = train(FAMILIES[name], variant)
    stem = f"{name}_{variant.name}_s{variant.seed}"
    for window in run.windows():
        write_window(folder / "cpu_runs" / f"{stem}_w{window}.csv", run, window)
    record = run.recorded()
    (folder / "slices" / f"{stem}.json").write_text(json.dumps({"windows": run.windows(), **asdict(record)}))
    return label_rows(name, stem, record, run.windows())


def label_again(job: tuple[Path, str]) -> list[Row]:
    """Label a run of an earlier call from its recorded losses."""
    path, name = job
    stored = json.loads(path.read_text())
    return label_rows(
        name, path.stem, Recorded(**{k: v for k, v in stored.items() if k != "windows"}), stored["windows"]
    )


def write_labels(path: Path, rows: Sequence[Row], replaced: Sequence[str]) -> None:
    """Write the labels, and keep those of families that this call did not train."""
    kept: list[Row] = []
    if path.exists():
        with path.open(newline="") as lines:
            kept = [dict(row) for row in csv.DictReader(lines) if row["family"] not in replaced]
    with path.open("w", newline="") as out:
        write = csv.DictWriter(out, COLUMNS)
        write.writeheader()
        write.writerows(
            sorted([*kept, *rows], key=lambda row: (str(row["file"]).rsplit("_w", 1)[0], int(row["window"])))
        )


def print_table(rows: Sequence[Row]) -> None:
    """Print the labels per family as a Markdown table."""
    print("| family | split | " + " | ".join(LABELS) + " |\n|---|---" + "|---" * len(LABELS) + "|")
    counts = Counter((row["family"], row["label"]) for row in rows)
    for name in dict.fromkeys(row["family"] for row in rows):
        cells = " | ".join(str(counts[name, label]) for label in LABELS)
        print(f"| {name} | {FAMILIES[str(name)].split} | {cells} |")
    totals = Counter(row["label"] for row in rows)
    print("| all | | " + " | ".join(str(totals[label]) for label in LABELS) + " |")


def started(pool: Pool, folder: Path, name: str, relabel: bool) -> Iterator[list[Row]]:
    """Train the runs of a family, or label them again."""
    if relabel:
        stems = [f"{name}_{variant.name}_s{variant.seed}" for variant in variants(FAMILIES[name])]
        return pool.imap_unordered(label_again, [(folder / "slices" / f"{stem}.json", name) for stem in stems])
    return pool.imap_unordered(train_and_label, [(folder, name, variant) for variant in variants(FAMILIES[name])])


def main() -> None:
    """Train the chosen families, a family at a time, and write their labels after each."""
    assert __doc__ is not None
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--out", type=Path, required=True)
    parse.add_argument("--split", choices=("dev", "held-out"), required=True)
    parse.add_argument("--families", help="names, separated by commas; default: all of the split")
    parse.add_argument("--workers", type=int, default=2)
    parse.add_argument("--relabel", action="store_true", help="label the runs in FOLDER again, without training")
    args = parse.parse_args()
    known = [name for name, family in FAMILIES.items() if family.split == args.split]
    names = args.families.split(",") if args.families else known
    if unknown := sorted(set(names) - set(known)):
        parse.error(f"no family of the split {args.split}: {', '.join(unknown)}; known are {', '.join(known)}")
    for folder in ("cpu_runs", "slices"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    rows: list[Row] = []
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for name in names:
            own = [row for found in started(pool, args.out, name, args.relabel) for row in found]
            write_labels(args.out / "cpu_runs.csv", own, [name])
            rows += own
            print(f"{name}: {len(own)} windows, {time.perf_counter() - began:.0f} s", flush=True)
    print_table(rows)


if __name__ == "__main__":
    main()

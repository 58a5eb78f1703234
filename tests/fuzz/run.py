"""Fuzz the readers for some minutes: `python -m tests.fuzz.run [TARGET ...] --seconds 60`.

Each target has a process of its own, whose address space is limited. With `atheris` installed, coverage guides it, and
what reaches new code is kept in `--keep DIR`; without it, or with `--engine mutation`, mutations of the corpus are
tried. An input that is refused with anything but SmokeError, takes 5 s or too much memory is written to
`tests/fuzz/found/`, and the exit status is 1. Put it into `tests/fuzz/corpus/TARGET/` once it is fixed: the suite reads
everything in there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
CORPUS, FOUND = FOLDER / "corpus", FOLDER / "found"
MEMORY_BYTES = 4 * 2**30
"""Address space of a process; importing torch takes 2 GiB of it."""
TARGETS = (
    *("recipe", "criterion", "config", "log", "events", "verdicts", "trace"),
    *("receipt", "manifest", "checkpoint", "bisect", "corpus", "examples"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the targets one after the other, and print what each did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=TARGETS, help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--engine", choices=("atheris", "mutation"), help="default: atheris if it is installed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that reached new code")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    engine = args.engine or ("atheris" if importlib.util.find_spec("atheris") else "mutation")
    if args.one:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        return _mutate(args.targets[0], args.seconds, args.seed)
    statuses = []
    for target in args.targets:
        if engine == "mutation":
            command = [sys.executable, "-m", "tests.fuzz.run", target, "--one", f"--seconds={args.seconds}"]
            statuses.append(subprocess.run([*command, f"--seed={args.seed}"], check=False).returncode)
        else:
            statuses.append(_guide(target, args.seconds, args.seed, args.keep))
    return int(any(statuses))


def _mutate(target: str, seconds: float, seed: int) -> int:
    from pytest_smoke.errors import SmokeError
    from tests.fuzz.engine import inputs, limited_time, seeds_of
    from tests.fuzz.targets import TARGETS as FUNCTIONS

    tried, slowest, found, seen = 0, 0.0, 0, set()
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        for data in inputs(seeds_of(target, CORPUS), seed):
            began = time.monotonic()
            if began > ends:
                break
            tried += 1
            try:
                with contextlib.suppress(SmokeError), limited_time():
                    FUNCTIONS[target](data, Path(name))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                frame = traceback.extract_tb(error.__traceback__)[-1]
                kind = (type(error).__name__, frame.filename, frame.lineno)
                if kind not in seen:
                    seen.add(kind)
                    found += 1
                    path = FOUND / target / hashlib.sha256(data).hexdigest()[:12]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                    print(f"FOUND {path}: {type(error).__name__}: {error!s:.200}", flush=True)
                    traceback.print_exc(limit=-4)
            slowest = max(slowest, time.monotonic() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{target}: {tried} executions, {found} findings, slowest {slowest:.2f} s, peak {peak} MiB", flush=True)
    return int(bool(found))


def _guide(target: str, seconds: int, seed: int, keep: Path | None) -> int:
    with tempfile.TemporaryDirectory() as name:
        grown = keep / target if keep else Path(name)
        grown.mkdir(parents=True, exist_ok=True)
        (FOUND / target).mkdir(parents=True, exist_ok=True)
        options = ["-timeout=5", "-rss_limit_mb=4096", f"-max_total_time={seconds}", f"-seed={seed + 1}"]
        options += ["-max_len=20000", f"-artifact_prefix={FOUND / target}/", "-print_final_stats=1", "-verbosity=1"]
        folders = [str(grown), str(CORPUS / target)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", target, *options, *folders], capture_output=True, check=False
        )
    output = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
    figures = [line for line in output.splitlines() if line.startswith("stat::")]
    print(f"{target}: exit status {done.returncode}; " + "; ".join(line[6:] for line in figures), flush=True)
    if done.returncode:
        print(output[-3000:], flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

"""Runs a command as a smoke run: its log becomes events, and a verdict that is certain stops it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_smoke.errors import CommandError, LogError
from pytest_smoke.events import (
    BatchSizes,
    Ended,
    Event,
    LearningRateDiffers,
    Metrics,
    NotChecked,
    ProbeLoss,
    SourceFiles,
)
from pytest_smoke.files import file_sha256
from pytest_smoke.interruption import ARRIVAL_SECONDS, SIGNALS
from pytest_smoke.logs.columns import is_held_out
from pytest_smoke.logs.find import is_known_name
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.samples import samples_told
from pytest_smoke.monitor.child import ProcessResult, Watch, failed_run, result_of
from pytest_smoke.monitor.command.batch_lines import StatedBatch, batch_columns, stated_batch
from pytest_smoke.monitor.command.growing_log import MAX_BYTES, GrowingLog, last_lines
from pytest_smoke.monitor.command.log_steps import LoggedRun, logged_run, rate_difference
from pytest_smoke.monitor.command.process import CommandProcess
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.plain import plain_text
from pytest_smoke.recipe.command import CommandPlan
from pytest_smoke.text import count, seconds
from pytest_smoke.train.launch import OUTPUT_BYTES, OUTPUT_LINES

POLL_SECONDS = 0.1
"""Time between two looks at the log."""
LOOK_SECONDS = 0.5
"""Time between two looks at the size of what is written: a fast disk takes about 1 GB in it."""
SLEEP_PER_READ = 30
"""Sleep at least this many times as long as the last read took, so that reading takes 3 % of a core at most: each read
parses the whole log."""
LOG_SUFFIXES = (".log", ".txt", ".out", ".csv", ".tsv", ".json", ".jsonl")
"""Ends of the names of files that could be the missing log."""
SEARCHED_FILES = 2000
"""Files that are looked at for one that could be the missing log."""
NO_MODEL = "the log of a command does not show the model"
NO_SAMPLES = "the log of a command does not show its samples"
NOT_SHOWN = {
    "updates": NO_MODEL,
    "learning": NO_MODEL,
    "model-mode": NO_MODEL,
    "shared-storage": NO_MODEL,
    "grad-ratio": "the log of a command does not show the gradients of single loss terms",
    "accumulation": "a command splits its batches itself",
    "memory": "a command draws its batches itself",
    "ranks": NO_SAMPLES,
    "data-repeats": NO_SAMPLES,
    "supervised-tokens": NO_SAMPLES,
    "mix-drawn": NO_SAMPLES,
    "items-drawn": NO_SAMPLES,
}
"""Checks that no log has data for, each with the reason."""
RANKS_NOT_SHOWN = (
    "a log does not show whether the ranks average their gradients or add them up; `compare` with the log of one "
    "process does"
)
NO_REPEATED_BATCH = "a command draws its batches itself, and cannot be given one again and again"
NO_RATE = "the log has no learning rate, so nothing shows that the schedule of the mode was used"
BATCH_BYTES = 2**20
"""Bytes at the beginning of the log and of the output in which it is looked for. Of too large an output, they stay."""
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)', re.MULTILINE)
_EXCEPTION = re.compile(
    r"^(?:\[rank\d+\]: ?)?((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt)\b.*)", re.MULTILINE
)
"""The last line of a traceback, also behind the prefix of torchrun."""
_USAGE_ERROR = re.compile(r"^\S+: error: .+", re.MULTILINE)
"""What argparse prints about a flag that it does not know."""
WITHOUT_LOSS = ("no-loss-column", "empty")
"""Reasons of the readers for a log that has no loss (yet)."""
TELLS_WHEN = ("ended-early", "no-log", "no-loss", "steps-out-of-order")
"""Reasons whose text says how far the log goes."""
OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError", "DefaultCPUAllocator: can't allocate memory")


def run_command(
    plan: CommandPlan, monitor: RunMonitor, output: Path, timeout_seconds: float | None, watch: Watch | None, root: str
) -> ProcessResult:
    """Run a command until it exits, its run is complete or unstable, or its log does not grow for `timeout_seconds`.

    What it prints goes to the file `output`. Raises OSError if that cannot be written.
    """
    sources = {path: file_sha256(Path(path)) for path in plan.sources(root)}
    reasons = NOT_SHOWN | ({"overfit": NO_REPEATED_BATCH} if monitor.case.mode == "wiring" else {})
    if monitor.case.settings.world_size > 1:
        reasons |= {"accumulation": RANKS_NOT_SHOWN}
    monitor.on_events([NotChecked(reasons=reasons), SourceFiles(sources)])
    fault = _folder_fault(plan, root)
    if fault is not None:
        return ProcessResult(finding=failed_run(monitor, "command-not-started", fault, key="cwd"))
    columns = plan.columns
    names = ColumnNames(loss=columns.loss, lr=columns.lr, step=columns.step, probe_loss=columns.probe_loss)
    output.unlink(missing_ok=True)
    log = GrowingLog(plan.log or str(output), names)
    try:
        with CommandProcess(plan, output) as process:
            return _Run(plan, monitor, process, log, output, watch, root).follow(timeout_seconds)
    except CommandError as error:
        text = f"the command cannot be started: {error}"
        hint = "name the program as in a terminal, or by its path from cwd; no shell looks for aliases and builtins"
        return ProcessResult(finding=failed_run(monitor, "command-not-started", text, key="command", hint=hint))


class _Run:
    """One run of a command, and what is known of it so far."""

    def __init__(
        self,
        plan: CommandPlan,
        monitor: RunMonitor,
        process: CommandProcess,
        log: GrowingLog,
        output: Path,
        watch: Watch | None,
        root: str,
    ) -> None:
        self._plan, self._monitor, self._process, self._log = plan, monitor, process, log
        self._output, self._watch, self._root = output, watch, root
        self._started = self._progressed = time.monotonic()
        self._started_wall = time.time()
        self._run: LoggedRun | None = None
        """What the newest read showed."""
        self._has_rate = False
        self._metrics: set[tuple[str, int]] = set()
        self._batch_told = False
        self._rate_told = False

    def follow(self, timeout_seconds: float | None) -> ProcessResult:
        """Read the log until there is nothing more to learn."""
        pause = POLL_SECONDS
        while True:
            exited = self._wait(pause)
            if not exited and (key := self._too_large()):
                return self._stop_writing(key)
            began = time.monotonic()
            self._read(is_complete=exited)
            if self._watch is not None:
                self._watch(self._monitor)
            if exited:
                return self._exited()
            if self._monitor.take_command() is not None:
                self._process.stop()
                return self._ended()
            if self._run is not None and self._run.beyond is not None:
                self._process.stop()
                if not self._run.steps:
                    self._tell_end()
                    return self._starts_late()
                return self._ended(note="; the command would have trained on and was stopped")
            if self._is_late(timeout_seconds):
                return self._late(timeout_seconds or 0.0)
            pause = max(POLL_SECONDS, SLEEP_PER_READ * (time.monotonic() - began))

    def _wait(self, pause: float) -> bool:
        """Wait for the command to exit, or until it is time to read again, or there is too much to read."""
        deadline = time.monotonic() + pause
        while not (exited := self._process.wait(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))):
            if time.monotonic() >= deadline or self._too_large():
                break
        return exited

    def _too_large(self) -> str:
        """Return the recipe's key of what the command has written too much to, `command` or `log`; empty if neither."""
        if _size(self._output) > MAX_BYTES:
            return "command"
        return "log" if self._plan.log is not None and self._log.grown_bytes > MAX_BYTES else ""

    def _stop_writing(self, key: str) -> ProcessResult:
        """Stop a command that would fill the disk. `key`: of `_too_large`."""
        self._process.stop()
        self._tell_end()
        wrote = f"wrote to its log {self._shown(self._log.path)}" if key == "log" else "printed"
        text = f"the command {wrote} more than {MAX_BYTES // 2**20} MiB, which is not read, and was stopped"
        result = self._failure("log-too-large", text, hint="print less often", key=key)
        if key == "command":
            with suppress(OSError):
                os.truncate(self._output, BATCH_BYTES)  # the result has its newest lines
        return result

    def _read(self, *, is_complete: bool) -> None:
        log = self._log.read(is_complete=is_complete)
        if log is None or not (log.points or log.non_finite):
            return
        run = logged_run(
            log.points,
            self._monitor.case.run_steps,
            micro_batches=self._plan.micro_batches,
            is_complete=is_complete or log.non_finite is not None,
        )
        if run is None:
            return
        difference = self._difference(log, run)
        events = [*self._points(log, run, difference), *self._metrics_of(log, run)]
        if events:
            self._progressed = time.monotonic()
        self._run = run
        self._monitor.on_events(events)

    def _points(self, log: Log, run: LoggedRun, difference: LearningRateDiffers | None) -> Iterator[Event]:
        """Yield the new points, or all of them if the log reads differently than before.

        A difference follows its step at once: how much the log has grown since must not change the outcome.
        """
        earlier = self._run
        if earlier is None or run.spacing != earlier.spacing or run.steps[: len(earlier.steps)] != earlier.steps:
            yield run.spacing
            known = 0
            self._metrics.clear()
        else:
            known = len(earlier.steps)
        if not self._batch_told and (told := self._batch(log, run)) is not None:
            self._batch_told = True
            yield told
        scores = dict(run.probe_losses)
        for step in run.steps[known:]:
            if step.step in scores:
                yield ProbeLoss(step.step, scores[step.step])
            yield step
            if difference is not None and difference.step <= step.step:
                yield difference
                difference = None
        if difference is not None:
            yield difference

    def _metrics_of(self, log: Log, run: LoggedRun) -> Iterator[Event]:
        """Yield the new values of the columns that are no part of the points."""
        last = run.steps[-1].step if run.steps else -1
        declared = self._monitor.case.recipe.metrics
        for name, values in log.other_columns().items():
            metric = "_".join(name.split())
            is_evaluation = is_held_out(name) or metric in declared
            for step, value in values:
                if step <= last and (name, step) not in self._metrics:
                    self._metrics.add((name, step))
                    yield Metrics(step, {metric: value}, is_evaluation)

    def _difference(self, log: Log, run: LoggedRun) -> LearningRateDiffers | None:
        """Return the first difference from the schedule, once."""
        rates = _logged_rates(log, run, self._plan.micro_batches)
        self._has_rate = bool(rates)
        difference = rate_difference(rates, self._monitor.case.stages[0], run.spacing.first_step)
        if difference is None or self._rate_told:
            return None
        self._rate_told = True
        return difference

    def _batch(self, log: Log, run: LoggedRun) -> BatchSizes | None:
        """Return how many samples a step has, if the log or the output says so."""
        settings = self._monitor.case.settings
        if (told := samples_told(log)) is not None:
            line, samples = told
            stated = StatedBatch(line=line, samples=samples * self._plan.micro_batches, micro_batch=settings.batch_size)
            return self._batch_sizes(run, stated)
        heads = [self._log.text[:BATCH_BYTES], *batch_columns(log)]
        if self._plan.log is not None:
            with self._output.open("rb") as file:
                heads.append(file.read(BATCH_BYTES))
        found = stated_batch(heads, settings.batch_size, settings.grad_accum_steps, settings.world_size)
        return None if found is None else self._batch_sizes(run, found)

    def _batch_sizes(self, run: LoggedRun, stated: StatedBatch) -> BatchSizes:
        declared = self._monitor.case.settings.effective_batch
        return BatchSizes(
            step=run.steps[-1].step if run.steps else 0,
            first_step=run.spacing.first_step,
            declared=declared,
            samples=stated.samples,
            micro_batch=stated.micro_batch,
            steps=len(run.steps),
            steps_off=len(run.steps) if stated.samples != declared else 0,
            log_line=plain_text(stated.line),
        )

    def _is_late(self, timeout_seconds: float | None) -> bool:
        return timeout_seconds is not None and time.monotonic() - self._progressed >= timeout_seconds

    def _ended(self, *, note: str = "") -> ProcessResult:
        """Return how a run ended that was stopped, from what its log showed."""
        self._tell_end()
        result = result_of(self._monitor)
        finding = result.finding
        return replace(result, finding=replace(finding, text=f"{finding.text}{note}"))

    def _tell_end(self) -> None:
        made = self._run.made_steps if self._run is not None else 0
        if self._monitor.stopped_because:
            made = self._monitor.steps  # what the log shows after it does not count
        if made and self._monitor.case.mode == "wiring" and self._process.exit_status == 0:
            made = self._monitor.case.run_steps  # a wiring run may be shorter than the distance of two points
        reasons = {} if self._has_rate else {"schedule": NO_RATE, "lr-applied": NO_RATE}
        if not self._batch_told:
            reasons["batch-drawn"] = "the log does not say how many samples a step has"
        self._monitor.on_events(
            [
                NotChecked(reasons=reasons),
                Ended(made, time.monotonic() - self._started, None),
            ]
        )

    def _exited(self) -> ProcessResult:
        status, monitor = self._process.exit_status or 0, self._monitor
        if -status in SIGNALS:
            time.sleep(ARRIVAL_SECONDS)  # a job was cancelled, and the signal to this process may be on its way
        self._tell_end()
        if monitor.stopped_because:
            return result_of(monitor)
        if status:
            return self._failed_by_itself(status)
        if self._run is None:
            return self._without_points()
        if not self._run.steps:
            return self._starts_late()
        if not monitor.complete:
            last = self._run.steps[-1].step
            text = (
                f"the command ended with exit status 0, but its log ends at step {last}: the smoke run has "
                f"{count(monitor.case.run_steps, 'step')}"
            )
            hint = (
                "pass {max_steps} or {run_steps} on to the command; if its log counts something else than optimizer "
                "steps, set log: {step: NAME} or log: {counts: micro-batches}"
            )
            return self._failure("ended-early", text, hint=hint, key="command")
        return result_of(monitor)

    def _starts_late(self) -> ProcessResult:
        assert self._run is not None
        text = (
            f"the log starts at step {self._run.beyond}, after the {count(self._monitor.case.run_steps, 'step')} of "
            "the smoke run"
        )
        hint = "start from step 0: the smoke run must not continue from a checkpoint of a trainer that keeps its step"
        return self._failure("steps-out-of-order", text, hint=hint, key="command")

    def _late(self, timeout: float) -> ProcessResult:
        monitor, problem = self._monitor, self._log.problem
        self._process.stop()
        self._read(is_complete=True)
        self._tell_end()
        if monitor.complete:
            text = f"; the command did not exit within {seconds(timeout)} after it and was stopped"
            finding = result_of(monitor).finding
            return ProcessResult(finding=replace(finding, text=finding.text + text))
        if self._run is None:
            return self._without_points(f"{seconds(timeout)} after its start", problem)
        text = f"the log of the command did not grow for {seconds(timeout)}, and the command was stopped"
        return self._failure("hang", text, hint="raise --smoke-timeout if the command needs longer between two points")

    def _without_points(self, when: str = "", problem: LogError | None = None) -> ProcessResult:
        """Say why no point was read: the log is missing, is an old one, or has no loss."""
        path, problem = self._plan.log, problem or self._log.problem
        state = f"{when}, while the command still ran, " if when else "the command ended with exit status 0, but "
        if path is not None and not os.path.lexists(path):
            text = f"{state}its log {self._shown(path)} did not exist"
            return self._failure("no-log", text, hint=self._where_it_may_be(), key="log")
        if path is not None and self._log.is_old:
            text = f"{state}its log {self._shown(path)} was not written to: what it contains is older than the run"
            return self._failure("no-log", text, hint=self._where_it_may_be(), key="log")
        where = f"its log {self._shown(path)}" if path is not None else "what it prints"
        why = str(problem or "")
        if problem is not None and problem.reason not in WITHOUT_LOSS:
            is_column = problem.reason == "no-such-column"
            why = f"log.{why.removeprefix('--')}" if is_column else why
            text = f"{state}{where} cannot be judged: {why}"
            hint = "name a column that the log has" if is_column else ""
            hint = self._where_it_may_be() if problem.reason == "unreadable" and path is not None else hint
            return self._failure("no-loss", text, hint=hint, key="log")
        columns = why.partition("; columns: ")[2]
        why = f": its numbers are {columns}" if columns else f": {_first_sentence(why)}" if why else ""
        text = f"{state}{where} has no loss of any step{why}"
        hint = (
            "print step and loss in one line, as 'step 10: loss 2.31', or name the columns: "
            "log: {loss: NAME, step: NAME}"
        )
        return self._failure("no-loss", text, hint=hint, key="log")

    def _failed_by_itself(self, status: int) -> ProcessResult:
        printed = self._last_lines()
        raised = _EXCEPTION.findall(printed)
        said = raised or _USAGE_ERROR.findall(printed)
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        text = f"the command ended with {how}" + (f": {plain_text(said[-1])[:300]}" if said else "")
        reason = "exception" if raised else "crash"
        if any(one in printed for one in OUT_OF_MEMORY):
            reason = "out-of-memory"
        return self._failure(reason, text, place=self._place(printed), key="command")

    def _place(self, printed: str) -> str:
        """Return `file:line` of the innermost frame of a traceback that is below the rootdir."""
        base = os.path.join(os.path.abspath(self._root), "")
        frames = [(os.path.join(self._plan.cwd, path), line) for path, line in _FRAME.findall(printed)]
        own = [(path, line) for path, line in frames if path.startswith(base) and "site-packages" not in path]
        return f"{own[-1][0].removeprefix(base)}:{own[-1][1]}" if own else ""

    def _failure(self, reason: str, text: str, *, hint: str = "", place: str = "", key: str = "") -> ProcessResult:
        steps = self._monitor.trace.steps
        last = steps[-1].step if steps else None
        when = f" (after step {last})" if last is not None else " (before the first step in the log)"
        when = "" if reason in TELLS_WHEN else when
        at = f" at {place}" if place else ""
        finding = Finding(
            id="run",
            status="fail",
            reason=reason,
            text=f"{text}{at}{when}",
            step=last,
            hint=hint,
            place=place,
            key=key,
        )
        return ProcessResult(finding=finding, output=self._last_lines())

    def _last_lines(self) -> str:
        return plain_text(last_lines(self._output, lines=OUTPUT_LINES, size=OUTPUT_BYTES))

    def _where_it_may_be(self) -> str:
        found = self._likely_log()
        if found:
            return f"it wrote {found}: set log to that file"
        return "set log to the file that the command writes, or to stdout"

    def _likely_log(self) -> str:
        """Name a file that the command wrote and that is called like a log; empty if there is none."""
        looked_at, found = 0, list[str]()
        for folder, folders, files in os.walk(self._plan.cwd):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                looked_at += 1
                path = os.path.join(folder, name)
                if looked_at > SEARCHED_FILES:
                    break
                if not name.endswith(LOG_SUFFIXES) or path == str(self._output):
                    continue
                if _is_newer(path, self._started_wall):
                    found.append(os.path.relpath(path, self._plan.cwd))
        return min(found, key=lambda path: not is_known_name(os.path.basename(path)), default="")

    def _shown(self, path: str) -> str:
        return path.removeprefix(os.path.join(os.path.abspath(self._root), ""))


def _logged_rates(log: Log, run: LoggedRun, micro_batches: int) -> list[tuple[int, float]]:
    """Return the steps whose own line has a learning rate, with it; other points carry an earlier one."""
    if log.lr_column is None or log.table is None:
        return []
    first = run.spacing.first_step
    logged = {log.row_steps[row] for row in log.table.columns[log.lr_column].rows}
    own = {(step - first) // micro_batches + first for step in logged}
    return [(row.step, row.lr) for row in run.steps if row.lr is not None and row.step in own]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was removed
        return 0


def _folder_fault(plan: CommandPlan, root: str) -> str | None:
    if os.path.isdir(plan.cwd):
        return None
    shown = plan.cwd.removeprefix(os.path.join(os.path.abspath(root), ""))
    return f"the command cannot be started: there is no folder {shown}; cwd is relative to pytest's rootdir"


def _is_newer(path: str, moment: float) -> bool:
    try:
        return os.stat(path).st_mtime >= moment
    except OSError:
        return False


def _first_sentence(text: str) -> str:
    return text.partition("; ")[0]

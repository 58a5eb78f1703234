"""One smoke run: preflight, training, judging, and everything put into an outcome."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pytest_smoke.errors import BaselineError
from pytest_smoke.events import DataFiles, SourceFiles
from pytest_smoke.files import file_name, os_error_text, write_atomic
from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.judge.checks.baseline import baseline, unreadable_baseline
from pytest_smoke.judge.checks.loss import preflight_only
from pytest_smoke.judge.checks.prediction_errors import unreadable_predictions
from pytest_smoke.judge.checks.registry import DEFAULT, Registry
from pytest_smoke.judge.checks.resume import resumed
from pytest_smoke.judge.checks.sources import sources
from pytest_smoke.judge.verdict import decide
from pytest_smoke.monitor.artifacts import (
    checkpoints_of,
    command_output,
    judge_predictions,
    output_of,
    pipeline_plan,
    predictions_of,
    remove_files,
    saving_of,
    trace_of,
)
from pytest_smoke.monitor.baseline import read_baseline
from pytest_smoke.monitor.child import ProcessResult, RunWatcher, failed_run, run_here, run_in_child
from pytest_smoke.monitor.command.run import run_command
from pytest_smoke.monitor.describe import read_settings
from pytest_smoke.monitor.facts import checkpoint_facts, planned_facts, run_facts
from pytest_smoke.monitor.resume import check_resume
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.sources import Sources
from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.plain import exception_text, plain_record, plain_text
from pytest_smoke.receipts.build import receipt_of_run
from pytest_smoke.receipts.folder import remove_receipt
from pytest_smoke.receipts.receipt import Receipt
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.command import CommandPlan
from pytest_smoke.train.plan import RunPlan

OTHER_FOLDER = "name another folder with --smoke-report, or with TMPDIR for temporary files"
"""What to do about a folder that cannot be written to."""
HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"free space on the disk, or {OTHER_FOLDER}"),
    errno.EROFS: f"make the folder writable, or {OTHER_FOLDER}",
    **dict.fromkeys(  # also of a file that may not be read
        (errno.EACCES, errno.EPERM), f"change the permissions of this path; for a folder of results, {OTHER_FOLDER}"
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files: `ulimit -n 1024`"),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), "free memory, or end other processes"),
}
"""What to do about an error of the system around a run, by its number."""
NO_FACTS = Facts()
"""What is known of a run before it starts; made once, because a session may have thousands of runs."""
NO_DEVICE = "none"
"""Device of a session that only makes the checks that need no run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How smoke runs are executed in this session."""

    root: str
    """Folder that tasks are imported from."""
    device: str = "auto"
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:N`; `NO_DEVICE` with `preflight_only`."""
    hold_device: Callable[[Callable[[str], object]], AbstractContextManager[str]] | None = None
    """Waits for a device that no other run uses, holds it, and yields its name; it is given what shows that it waits.
    None: `device` is used as it is."""
    isolation: Literal["process", "none"] = "process"
    """`process`: train in a training process; `none`: in this one, for debuggers."""
    timeout_seconds: float | None = None
    """Longest time without progress; None: no limit."""
    early_stop: bool = True
    """Whether a run stops as soon as its verdict is certain."""
    preflight_only: bool = False
    """Whether only the checks that need no run are made."""
    report_folder: Path | None = None
    """Where `traces/*.csv`, `checkpoints/` and `packages/` go; None: nowhere."""
    resume: bool = False
    """Whether runs continue from what an earlier session left in the report folder."""
    registry: Registry = field(default=DEFAULT, repr=False)
    """The checks to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """A smoke run that was executed."""

    outcome: Outcome
    error: Exception | None = None
    """What the task raised, if it ran in this process."""
    receipt: Receipt | None = None
    """What the run depends on and has shown; None for one that was not judged, and for one without a report folder."""
    interrupt: BaseException | None = None
    """What interrupted the run (Ctrl-C, say); the caller keeps the outcome and raises it again."""


def run_smoke(case: Case, options: RunOptions, *, item_id: str, watch: RunWatcher | None = None) -> SmokeResult:
    """Execute the smoke run `case` of an item, and judge it. Whatever goes wrong, there is an outcome."""
    run = _SmokeRun(case, options, item_id=item_id, watch=watch)
    was_interrupted: Callable[[], bool] = bool  # until the block says more
    with INTERRUPTION.held():
        try:
            with INTERRUPTION.released() as was_interrupted:
                result = run.with_receipt(run.execute())
        except Exception as error:
            result = SmokeResult(outcome=run.failed(error))
        except BaseException as interrupt:
            return SmokeResult(outcome=run.interrupted(interrupt), interrupt=interrupt)
        if was_interrupted():  # the task, or a library in this process, caught it
            caught = KeyboardInterrupt()
            return SmokeResult(outcome=run.interrupted(caught), interrupt=caught)
    return result


class _SmokeRun:
    """One smoke run, and what is known of it so far."""

    def __init__(self, case: Case, options: RunOptions, *, item_id: str, watch: RunWatcher | None) -> None:
        self._case, self._options, self._item_id, self._watch = case, options, item_id, watch
        self._on_events = watch.on_events if watch is not None else None
        self._root, self._report = Path(options.root), options.report_folder
        self._started = time.perf_counter()
        self._findings: list[Finding] = []
        self._facts = NO_FACTS
        self._monitor: RunMonitor | None = None
        self._files: Sources | None = None
        self._is_device_held = False

    def with_receipt(self, result: SmokeResult) -> SmokeResult:
        """Add the receipt, if the run was judged and there is a folder to write it to."""
        outcome, monitor, files = result.outcome, self._monitor, self._files
        if self._report is None or files is None or self._options.preflight_only or outcome.completed:
            return result
        data: dict[str, Mapping[str, Any]] = {}
        for event in monitor.events(DataFiles) if monitor is not None else ():
            data |= event.digests
        receipt = receipt_of_run(
            self._case,
            outcome,
            root=self._root,
            files=files.files(monitor.events(SourceFiles) if monitor is not None else ()),
            data=data,
            isolation=self._options.isolation,
            early_stop=self._options.early_stop,
        )
        outcome = replace(outcome, facts=replace(outcome.facts, fingerprint=receipt.fingerprint))
        return replace(result, outcome=outcome, receipt=receipt)

    def _phase(self, doing: str) -> None:
        if self._watch is not None:
            self._watch.phase(doing)

    def _hold_device(self, until: ExitStack) -> None:
        """Wait for the device, and hold it; the time does not count as the run's."""
        if self._options.hold_device is None or self._options.preflight_only or self._is_device_held:
            return
        began = time.perf_counter()
        device = until.enter_context(self._options.hold_device(self._phase))
        self._options, self._is_device_held = replace(self._options, device=device), True
        self._started += time.perf_counter() - began

    def execute(self) -> SmokeResult:
        """Make every check, and train in between."""
        with ExitStack() as stack:
            return self._execute(stack)

    def _execute(self, stack: ExitStack) -> SmokeResult:
        options, registry = self._options, self._options.registry
        self._facts = planned_facts(self._case, root=self._root)
        files = self._files = Sources(self._case, root=self._root, item_id=self._item_id)
        if not self._case.is_complete:
            self._hold_device(stack)
            if (failure := self._read_settings()) is not None:
                return SmokeResult(outcome=self._outcome([failure.finding], self._facts, output=failure.output))
        case = self._case
        if edited := files.edited_recipe():
            self._findings.append(sources(edited, before_run=True))
        self._findings += registry.before_run(case)
        baseline_values: Mapping[str, float] | None = None
        if case.recipe.checks.baseline is not None and not options.preflight_only:
            baseline_values, finding = _baseline(case, options, self._item_id)
            self._findings.append(finding)
        failed = any(finding.status == "fail" for finding in self._findings)
        if options.preflight_only or failed:
            if not failed:
                self._findings.append(preflight_only())
            return SmokeResult(outcome=self._outcome(self._findings, self._facts))
        if self._report is not None:
            remove_files(self._report, self._item_id)
            remove_receipt(self._report, self._item_id)  # now: a session that is killed must not leave an older one
        self._monitor = RunMonitor(
            case, early_stop=options.early_stop, baseline=baseline_values, registry=options.registry
        )
        self._hold_device(stack)
        return self._train(self._monitor, files, baseline_values)

    def _read_settings(self) -> ProcessResult | None:
        """Complete the case with the settings of its trainer; return why that failed."""
        options = self._options
        self._phase("building the trainer to read its settings")
        found = read_settings(
            self._case,
            root=options.root,
            device=options.device if options.device != NO_DEVICE else "auto",
            isolation=options.isolation,
            timeout_seconds=options.timeout_seconds,
        )
        if isinstance(found, ProcessResult):
            return found
        self._case = found
        self._facts = planned_facts(found, root=self._root)
        return None

    def failed(self, error: Exception) -> Outcome:
        """Return the outcome of a run around which `error` was raised; whatever the task raises is in `execute`."""
        if isinstance(error, OSError) and error.errno in HINTS:
            why, hint, lines = os_error_text(error), HINTS[error.errno], list[str]()
        else:
            why, hint, lines = exception_text(error), "", traceback.format_exception(error)
        text = f"the smoke run could not be executed and judged: {why}"
        finding = Finding(id="run", status="fail", reason="internal-error", text=text, hint=hint)
        return self._outcome(
            [*self._findings, finding], self._facts, monitor=self._monitor, output=plain_text("".join(lines[-5:]))
        )

    def interrupted(self, interrupt: BaseException) -> Outcome:
        """Return the outcome of a run that the user, a signal or a plugin interrupted; its steps so far are kept.

        Findings that more steps could not have changed are kept, too, so that an instability stays one.
        """
        monitor = self._monitor
        step = monitor.steps - 1 if monitor is not None and monitor.steps else None
        when = "before the first step" if step is None or monitor is None else f"after step {step}{monitor.progress}"
        signal = f" by {interrupt}" if isinstance(interrupt, KeyboardInterrupt) and str(interrupt) else ""
        finding = Finding(
            id="run", status="not-checked", reason="interrupted", text=f"interrupted{signal} {when}", step=step
        )
        findings, facts = [*self._findings, finding], self._facts
        if monitor is not None:
            findings += monitor.early_findings.values()
            findings += [one for one in monitor.judge_loss() if one.status == "fail"]
            facts = checkpoint_facts(run_facts(facts, monitor, self._case), monitor, checkpoints_of(self._item_id))
            facts = replace(facts, seconds=self._seconds(monitor))
            facts = self._with_trace(facts, monitor, findings)
        return self._outcome(findings, facts, monitor=monitor)

    def _seconds(self, monitor: RunMonitor) -> float:
        return round(monitor.seconds_before + time.perf_counter() - self._started, 3)

    def _train(self, monitor: RunMonitor, files: Sources, baseline_values: Mapping[str, float] | None) -> SmokeResult:
        case, options, report, item_id = self._case, self._options, self._report, self._item_id
        package = report / "packages" / file_name(item_id) if report else None
        self._phase("starting")
        if case.recipe.trainer == "command":
            with command_output(report, item_id=item_id) as printed:
                command = CommandPlan.of(case, options.root)
                log = output_of(item_id) if report is not None else None
                self._facts = replace(self._facts, command=command.argv, log=log)
                result = run_command(
                    command, monitor, printed, options.timeout_seconds, self._on_events, root=options.root
                )
            return self._judged(monitor, files, baseline_values, result)
        with ExitStack() as stack:
            pipeline = stack.enter_context(pipeline_plan(case, package))
            saving = stack.enter_context(saving_of(case, report, item_id=item_id, resume=options.resume))
            predictions = stack.enter_context(predictions_of(case, report, item_id=item_id))
            plan = replace(
                RunPlan.of(case, root=options.root, device=options.device, checkpoints=saving),
                pipeline=pipeline,
                predictions=str(predictions) if predictions else None,
            )
            result = self._run(plan, monitor)
            if case.recipe.checks.resume:
                self._phase("repeating steps in a new process, for the check resume")
            resume_findings = check_resume(case, plan, monitor, options.timeout_seconds)
            prediction_findings = (
                [unreadable_predictions(monitor.predictions_error)]
                if monitor.predictions_error
                else judge_predictions(predictions)
            )
        return self._judged(
            monitor, files, baseline_values, result, after_training=[*resume_findings, *prediction_findings]
        )

    def _judged(
        self,
        monitor: RunMonitor,
        files: Sources,
        baseline_values: Mapping[str, float] | None,
        result: ProcessResult,
        *,
        after_training: Sequence[Finding] = (),
    ) -> SmokeResult:
        """Make the checks of a run that has ended, and return its outcome."""
        case, options, report, item_id = self._case, self._options, self._report, self._item_id
        package = report / "packages" / file_name(item_id) if report else None
        early = monitor.early_findings.values()
        known = {finding.check for finding in early}
        without_data = [one for one in options.registry.without_data(monitor) if one.check not in known]
        replaced = {finding.check for finding in without_data}
        findings = [
            *(finding for finding in self._findings if finding.check not in replaced),
            sources(files.edited(monitor.events(SourceFiles), baseline_values)),
            *resumed(sorted(monitor.trace.resumed_at), monitor.restart_reason),
            result.finding,
            *early,
            *without_data,
            *monitor.judge_loss(),
            *options.registry.at_end(monitor),
            *after_training,
        ]
        facts = checkpoint_facts(run_facts(self._facts, monitor, case), monitor, checkpoints_of(item_id))
        facts = replace(
            facts,
            seconds=self._seconds(monitor),
            package=str(package) if package is not None and package.exists() else None,
        )
        facts = self._with_trace(facts, monitor, findings)
        for problem in facts.checkpoint_problems:
            add_to_run(findings, "checkpoint-not-written", problem)
        outcome = self._outcome(findings, facts, monitor=monitor, output=result.output)
        return SmokeResult(outcome=outcome, error=result.error)

    def _run(self, plan: RunPlan, monitor: RunMonitor) -> ProcessResult:
        if self._options.isolation == "none" and plan.launched:
            started = f"{plan.processes} others" if plan.processes > 1 else "another one"
            text = f"--smoke-isolation none trains in the pytest process, and launch starts {started}"
            hint = "remove launch to debug the task in one process, or leave the option out"
            finding = failed_run(monitor, "needs-processes", text, key="launch", hint=hint)
            return ProcessResult(finding=finding)
        if self._options.isolation == "none":
            return run_here(plan, monitor, self._on_events)
        return run_in_child(plan, monitor, self._options.timeout_seconds, self._on_events)

    def _with_trace(self, facts: Facts, monitor: RunMonitor, findings: list[Finding]) -> Facts:
        """Write the trace and return facts that name it; if that fails, the passed finding `run` becomes a warning."""
        if self._report is None or not monitor.steps:
            return facts
        name, text = trace_of(self._item_id), monitor.trace.to_csv()
        try:
            write_atomic(self._report / name, text)
        except OSError as error:
            add_to_run(findings, "trace-not-written", f"{name} could not be written: {error.strerror or error}")
            return facts
        return replace(facts, trace=name, trace_sha256=sha256(text.encode()).hexdigest())

    def _outcome(
        self, findings: Sequence[Finding], facts: Facts, *, monitor: RunMonitor | None = None, output: str = ""
    ) -> Outcome:
        return _outcome(
            self._case, self._item_id, findings, facts, self._options.registry, monitor=monitor, output=output
        )


def add_to_run(findings: list[Finding], reason: str, problem: str) -> None:
    """Make the finding `run` a warning about a file that could not be written, unless the run did not pass."""
    for at, finding in enumerate(findings):
        if finding.id == "run" and finding.status in ("pass", "warn"):
            text = f"{finding.text}; {problem}"
            findings[at] = replace(finding, status="warn", reason=finding.reason or reason, text=text)


def skipped_outcome(case: Case, why: str, *, item_id: str, root: Path) -> Outcome:
    """Return the outcome of a smoke run that this machine cannot execute."""
    finding = Finding(id="run", status="not-checked", reason="unmet-requirements", text=why, key="requires")
    return _outcome(case, item_id, [finding], planned_facts(case, root=root), DEFAULT)


def _baseline(case: Case, options: RunOptions, item_id: str) -> tuple[Mapping[str, float] | None, Finding]:
    try:
        values = read_baseline(case, root=Path(options.root), item_id=item_id)
    except BaselineError as error:
        return None, unreadable_baseline(error)
    return values, baseline(case, values)


def _outcome(
    case: Case,
    item_id: str,
    findings: Sequence[Finding],
    facts: Facts,
    registry: Registry,
    *,
    monitor: RunMonitor | None = None,
    output: str = "",
) -> Outcome:
    completed = registry.completed(findings, case)
    verdict = decide(completed, registry)
    metrics = monitor.trace.metrics if monitor else {}
    outcome = Outcome(
        id=item_id,
        recipe=case.path,
        mode=case.mode,
        cell=case.cell,
        verdict=verdict.word,
        reason=verdict.reason,
        step=verdict.step,
        text=verdict.text,
        decided_by=verdict.decided_by,
        findings=tuple(completed),
        facts=facts,
        curve=monitor.trace.curve() if monitor else {},
        metrics={name: [list(point) for point in points] for name, points in metrics.items()},
        gradients=monitor.trace.gradient_norms() if monitor else {},
        output=output,
    )
    return plain_record(outcome)  # checks of plugins, and recipes, may hold other values

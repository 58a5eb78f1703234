"""The checks `resume` and `resumed`: a run that continues from a checkpoint makes the same steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose, isnan

from pytest_smoke.events import Step
from pytest_smoke.judge.checks.check import ENDED_EARLY, Check, Reason
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, listed, number

TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 5e-3}
"""Largest relative difference on an accelerator, by precision. Atomic additions come in any order there, so sums differ
in their last bits (2^-24, 2^-9 and 2^-12 of their size), and training lets that grow over a few dozen steps; a lost
data order or optimizer state shows as several per cent. On a CPU with a fixed number of threads nothing may differ."""
PARTS_NAMED = 3
"""Parts of the state that a hint names before it counts the rest."""


def resume(
    first: Sequence[Step],
    second: Sequence[Step],
    *,
    planned: int,
    batch_digests: tuple[Mapping[int, str], Mapping[int, str]] = ({}, {}),
    changed: Sequence[str] = (),
    tolerance: float = 0.0,
) -> Finding:
    """Compare the `planned` steps that the uninterrupted run and the resumed one both made.

    `batch_digests`: digest of the batches by step, in both runs. `changed`: parts of the state that were not restored
    as they were saved. `tolerance`: relative; 0 asks for identical bits.
    """
    before = {row.step: row for row in first}
    pairs = [(before[row.step], row) for row in second if row.step in before]
    if len(pairs) < planned:
        text = f"the resumed run made {len(pairs):,} of {count(planned, 'step')}"
        return Finding(id=RESUME.id, status="fail", reason="resumed-run-ended-early", text=text)
    at = pairs[0][0].step
    for one, other in pairs:
        different = [(name, a, b) for name, a, b in _values(one, other) if not (_same(a, b) or _near(a, b, tolerance))]
        if different:
            name, a, b = different[0]
            text = (
                f"resumed at step {at} in a fresh process, the run differs from the uninterrupted one from step "
                f"{one.step} on: {name} is {number(b, 9)} instead of {number(a, 9)}"
            )
            reason, cause, hint = _cause(one.step, batch_digests, changed)
            return Finding(
                id=RESUME.id,
                status="fail",
                reason=reason,
                text=f"{text}. {cause}",
                step=one.step,
                hint=hint,
                observed={"uninterrupted": a, "resumed": b},
                bound=tolerance,
                data={"figure": name, "changed": list(changed)},
            )
    agreement = "bit for bit" if tolerance == 0 else f"within {number(tolerance)} of their size"
    text = (
        f"resumed at step {at} in a fresh process, {count(len(pairs), 'step')} match the uninterrupted run {agreement}"
    )
    return Finding(id=RESUME.id, status="pass", text=text, observed=len(pairs), bound=tolerance)


def resume_not_checked(text: str) -> Finding:
    """Return the finding of a check that was not made, and why."""
    return Finding(id=RESUME.id, status="not-checked", reason=ENDED_EARLY, text=text)


def checkpoint_not_saved(step: int, problem: str) -> Finding:
    """Return the finding of a run whose state could not be saved."""
    text = f"the state before step {step} could not be saved: {problem}"
    return Finding(id=RESUME.id, status="fail", reason="checkpoint-not-saved", text=text, step=step)


def resumed_run_failed(step: int, text: str, output: str) -> Finding:
    """Return the finding of a resumed run that failed. `output`: the newest lines it wrote."""
    return Finding(
        id=RESUME.id,
        status="fail",
        reason="resumed-run-failed",
        text=f"the resumed run failed: {text}",
        step=step,
        hint=output,
    )


def resumed(steps: Sequence[int], restart_reason: str) -> list[Finding]:
    """Report where an interrupted run was resumed, or why it had to restart; nothing for an uninterrupted run."""
    if restart_reason:
        text = f"restarted from step 0: {restart_reason}"
        return [Finding(id=RESUMED.id, status="warn", reason="restarted", text=text)]
    if not steps:
        return []
    at = f"step{'s' * (len(steps) > 1)} {listed(steps, limit=len(steps))}"
    text = f"interrupted, and resumed at {at}"
    return [Finding(id=RESUMED.id, status="pass", text=text, step=steps[-1], observed=list(steps))]


def _values(one: Step, other: Step) -> list[tuple[str, float, float]]:
    terms = [(name, value, other.terms[name]) for name, value in one.terms.items() if name in other.terms]
    norms = one.grad_norm, other.grad_norm
    gradient = [("grad_norm", norms[0], norms[1])] if norms[0] is not None and norms[1] is not None else []
    return [("loss", one.loss, other.loss), *terms, *gradient]


def _same(a: float, b: float) -> bool:
    return a == b or (isnan(a) and isnan(b))


def _near(a: float, b: float, tolerance: float) -> bool:
    return tolerance > 0 and isclose(a, b, rel_tol=tolerance)


def _cause(
    step: int, batch_digests: tuple[Mapping[int, str], Mapping[int, str]], changed: Sequence[str]
) -> tuple[str, str, str]:
    """Return reason, sentence and hint: the earliest difference explains the later ones."""
    one, other = batch_digests
    if changed:
        differ = "differs" if len(changed) == 1 else "differ"
        cause = f"After loading, {listed(changed, limit=PARTS_NAMED)} {differ}"
        it = "it" if len(changed) == 1 else "them"
        hint = f"save {it} in state_dict"
        if all(part.startswith("buffer ") for part in changed):
            hint = f"register {it} with persistent=True, or {hint}"
        return "state-not-restored", cause, hint
    moved = [at for at in sorted(one.keys() & other.keys()) if at <= step and one[at] != other[at]]
    if moved:
        hint = (
            "let batches() depend on its seed alone, not on a global generator or on earlier samples; or return an "
            "iterator with state_dict and load_state_dict"
        )
        return "different-data", f"The batch of step {moved[0]} differs", hint
    hint = "look for a random generator or a counter of the task that starts again in a fresh process"
    return "unknown-cause", "Weights, optimizer and batches are the same", hint


RESUME = Check(
    id="resume",
    needed=lambda case: bool(case.recipe.checks.resume),
    question="Does a fresh process that resumes from a checkpoint make the same steps (`checks.resume`)?",
    when="after training",
    verdict="hold",
    key="checks.resume",
    reasons=(
        Reason(id="state-not-restored", status="fail", when="a part of the state differs after loading"),
        Reason(id="different-data", status="fail", when="the resumed run gets other batches"),
        Reason(id="unknown-cause", status="fail", when="state and batches are the same, and the steps still differ"),
        Reason(id="resumed-run-ended-early", status="fail", when="the resumed run made too few steps"),
        Reason(id="resumed-run-failed", status="fail", when="the resumed run crashed or hung"),
        Reason(id="checkpoint-not-saved", status="fail", when="the state could not be saved"),
        Reason(id=ENDED_EARLY, status="not-checked", when="the run has fewer than two steps, or ended early"),
    ),
)

RESUMED = Check(
    id="resumed",
    question="Was the run interrupted, and did it continue from its checkpoint (`--smoke-resume`)?",
    when="end",
    verdict=None,
    reasons=(Reason(id="restarted", status="warn", when="the checkpoint could not be used, so the run restarted"),),
)

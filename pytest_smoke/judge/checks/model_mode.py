"""The checks `model-mode` and `shared-storage`: the model trains in training mode, and its parameters are its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.events import ModelMode, SharedStorage
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, listed


def model_mode(run: RunView, events: Sequence[ModelMode]) -> Iterator[Finding]:
    """Judge the first step at which modules trained in evaluation mode."""
    seen = next((event for event in events if event.eval_count), None)
    if seen is None:
        watched = count(events[-1].watched, "module")
        text = f"{watched} with dropout, batch norm or code of their own for training were in training mode"
        yield Finding(id=MODEL_MODE.id, status="pass", text=text)
        return
    everything = seen.eval_count == seen.watched
    where = f"stage {seen.stage}: " if seen.stage else ""
    text = f"{where}the model trains in evaluation mode at step {seen.step}: dropout and batch norm do not train"
    if not everything:
        text = (
            f"{where}{seen.eval_count:,} of {count(seen.watched, 'module')} with dropout or batch norm train in "
            f"evaluation mode at step {seen.step}: {listed(seen.in_eval)}"
        )
    yield Finding(
        id=MODEL_MODE.id,
        status="fail" if everything else "warn",
        reason="eval-mode" if everything else "partly-eval",
        text=text,
        step=seen.step,
        observed=list(seen.in_eval),
        bound=[],
        hint=(
            f"call model.train() after model.eval() in {'losses()' if run.case.recipe.trainer == 'task' else 'a loss'}"
            "; a part that must not train needs frozen parameters"
        ),
    )


def shared_storage(run: RunView, events: Sequence[SharedStorage]) -> Iterator[Finding]:
    """Warn about parameters that overlap in memory without being one."""
    event = events[-1]
    pairs = listed(event.pairs, limit=3)
    yield Finding(
        id=SHARED_STORAGE.id,
        status="warn",
        reason="shared-storage",
        text=(
            f"{pairs} {'share' if event.count == 1 else 'each share'} memory, but are different parameters: every step "
            "updates it twice, and on another device or in a checkpoint they are separate"
        ),
        observed=list(event.pairs),
        bound=[],
        hint="tie the parameters instead of their `.data`: `head.weight = embedding.weight`",
    )


MODEL_MODE = Check(
    id="model-mode",
    question="Does the model train in training mode?",
    when="every step",
    verdict="invalid",
    key="task",
    stops_run=True,
    reasons=(
        Reason(id="eval-mode", status="fail", when="dropout, batch norm and the like all train in evaluation mode"),
        Reason(id="partly-eval", status="warn", when="some of them do, in a part of the model that trains"),
    ),
    on_event=(ModelMode, model_mode),
)
SHARED_STORAGE = Check(
    id="shared-storage",
    question="Are parameters that share memory one parameter?",
    when="first steps",
    verdict=None,
    key="task",
    reasons=(
        Reason(id="shared-storage", status="warn", when="two parameters overlap in memory, as if tied by `.data`"),
    ),
    on_event=(SharedStorage, shared_storage),
)

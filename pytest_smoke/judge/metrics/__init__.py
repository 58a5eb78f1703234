"""What a person looks for in the metrics of a smoke, said in sentences that decide nothing: findings `pass` or `warn`.

`peaked[metric]` for every metric that moved between evaluations; `began[metric]` where the recipe's `metrics:` names
its chance level, `pace[metric]` where it names a target, `exposure[metric]` where it says what is teacher-forced and
what free-running. All of it is pure, and uses the standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_smoke.judge.metrics.above_chance import began
from pytest_smoke.judge.metrics.exposure_bias import exposure
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.judge.metrics.missing_metrics import nearest
from pytest_smoke.judge.metrics.peak_regression import peaked
from pytest_smoke.judge.metrics.time_to_target import pace
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.metric import Metric

__all__ = ["readings"]


def readings(
    metrics: Mapping[str, Sequence[tuple[int, float]]],
    declared: Mapping[str, Metric],
    *,
    full_steps: int,
    stage: str = "",
    first_step: int = 0,
) -> list[Finding]:
    """All readings of what `evaluate` returned, `(step, value)` by metric. `full_steps`: length of the full run.

    Of a smoke in stages these are the name, the first step and the full length of the last stage: a stage may train
    something else, so a peak and a pace are looked for in that one alone.
    """
    histories = {name: History.of(name, points, declared.get(name)) for name, points in metrics.items()}
    lately = {
        name: History.of(name, [point for point in points if point[0] >= first_step], declared.get(name))
        for name, points in metrics.items()
    }
    found = [peaked(history) for history in lately.values() if len(set(history.values)) > 1]
    for name, history in histories.items():
        spec = declared.get(name)
        if spec is not None and spec.chance is not None:
            found.append(began(history, spec.chance))
        if spec is not None and spec.target is not None:
            found.append(pace(lately[name].counted_from(first_step), spec.target, full_steps))
            if stage:
                text = f"stage {stage}, its steps counted from 0: {found[-1].text}"
                found[-1] = replace(found[-1], text=text, step=None)
    found += exposure(histories.values(), histories)
    unknown = [name for name in declared if name not in metrics]
    against = [spec.against for spec in declared.values() if spec.against and spec.against not in metrics]
    unknown = list(dict.fromkeys([*unknown, *against]))
    return [*found, _never_returned(unknown, list(metrics))] if unknown else found


def _never_returned(unknown: Sequence[str], known: Sequence[str]) -> Finding:
    """A misspelt name would silence its readings."""
    returned = f"it returned {', '.join(known)}" if known else "it returned nothing"
    text = f"the recipe's metrics: names {', '.join(unknown)}, which evaluate never returned; {returned}"
    return Finding(id="metrics", status="warn", reason="unknown-metric", text=text, hint=nearest(unknown, known))

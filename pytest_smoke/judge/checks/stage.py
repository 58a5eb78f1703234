"""The `stage[...]` check: did a stage earn the next one?"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_smoke.outcome import Finding


def stage_finding(
    name: str, judged: Sequence[Finding], *, last_step: int, first_step: int, next_name: str | None, goes_on: bool
) -> Finding:
    """Passes if every criterion of the stage does. `judged`: its criteria's findings, in the stage's own steps.

    `first_step` and `last_step` are the stage's in the whole smoke; `goes_on`: the next one starts all the same.
    """
    failed = [finding for finding in judged if finding.status != "pass"]
    data = {"criteria": [finding.to_dict() for finding in judged], "first_step": first_step}
    counted = f"{len(judged)} {'criterion' if len(judged) == 1 else 'criteria'}"
    local = f" (its step 0 is step {first_step})" if first_step else ""
    shown = "; ".join(finding.text for finding in failed or judged)
    if not failed:
        text = f"stage {name} met its {counted}{local}: {shown}"
        return Finding(id=f"stage[{name}]", status="pass", text=text, step=last_step, data=data)
    then = ""
    if next_name is not None:
        then = f"; went on to stage {next_name} (continue_on_fail)" if goes_on else f"; stage {next_name} did not start"
    return Finding(
        id=f"stage[{name}]",
        status="fail",
        text=f"stage {name} failed {len(failed)} of its {counted}{local}: {shown}{then}",
        step=last_step,
        observed=[finding.observed for finding in failed],
        bound=[finding.bound for finding in failed],
        data=data,
    )

"""The `run` check: the training process did what it was told. The run monitor makes its findings."""

from __future__ import annotations

from pytest_smoke.judge.checks.check import Check, Reason

CHECK = Check(
    id="run",
    question="Did the training process start, train and end as planned?",
    when="end",
    verdict="error",
    key="task",
    reasons=(
        Reason(id="exception", status="fail", when="the task raised an exception"),
        Reason(id="invalid-task", status="fail", when="the task cannot be used as it is"),
        Reason(id="missing-device", status="fail", when="the requested device is not available"),
        Reason(id="out-of-memory", status="fail", when="memory ran out"),
        Reason(id="crash", status="fail", when="the training process ended without reporting why"),
        Reason(id="hang", status="fail", when="the training process made no progress for `--smoke-timeout` seconds"),
        Reason(id="worker-crash", status="fail", when="the pytest-xdist worker died"),
        Reason(id="unmet-requirements", status="not-checked", when="this machine lacks what `requires` names"),
    ),
)

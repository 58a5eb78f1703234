"""The `run` check: the training process did what it was told. The run monitor makes its findings."""

from __future__ import annotations

from pytest_smoke.judge.checks.check import Check, Reason, always

CHECK = Check(
    id="run",
    needed=always,
    question="Did the training process start, train and end as planned?",
    when="end",
    verdict="error",
    key="task",
    reasons=(
        Reason(id="exception", status="fail", when="the task raised an exception"),
        Reason(id="invalid-task", status="fail", when="the task cannot be used as it is"),
        Reason(
            id="needs-processes",
            status="fail",
            when="`--smoke-isolation none` cannot start the processes that `launch` asks for",
        ),
        Reason(id="missing-device", status="fail", when="the requested device is not available"),
        Reason(id="out-of-memory", status="fail", when="memory ran out"),
        Reason(id="crash", status="fail", when="the training process ended without reporting why"),
        Reason(
            id="command-not-started",
            status="fail",
            when="the program of the command, or its folder, does not exist or cannot be used",
        ),
        Reason(id="no-log", status="fail", when="the command wrote nothing to the log that the recipe names"),
        Reason(id="no-loss", status="fail", when="the log of the command has no loss of any step"),
        Reason(id="log-too-large", status="fail", when="the command printed or logged more than is read"),
        Reason(id="ended-early", status="fail", when="the command exited with status 0 before the last step"),
        Reason(id="hang", status="fail", when="the training process made no progress for `--smoke-timeout` seconds"),
        Reason(
            id="steps-out-of-order",
            status="fail",
            when="the steps that the training process reported are not 0, 1, 2 and so on, each of them once",
        ),
        Reason(
            id="internal-error",
            status="fail",
            when="the smoke run could not be executed or judged, because of a file, the system or this plugin",
        ),
        Reason(id="interrupted", status="not-checked", when="the session was interrupted while it trained"),
        Reason(id="setup-failed", status="fail", when="a fixture or hook of pytest failed before it"),
        Reason(id="skipped", status="not-checked", when="a marker or a hook of pytest skipped it"),
        Reason(id="no-outcome", status="fail", when="it was collected, and pytest ended without a result of it"),
        Reason(
            id="global-state-changed",
            status="warn",
            when="under `--smoke-isolation none`, the task changed global state, which was restored",
        ),
        Reason(id="trace-not-written", status="warn", when="the file with its steps could not be written"),
        Reason(id="checkpoint-not-written", status="warn", when="a checkpoint that was to stay could not be written"),
        Reason(id="restarted", status="warn", when="its machine was lost, and it was started again on another one"),
        Reason(id="node-lost", status="fail", when="two machines that executed it were lost, one after the other"),
        Reason(id="worker-crash", status="fail", when="the pytest-xdist worker died"),
        Reason(id="unmet-requirements", status="not-checked", when="this machine lacks what `requires` names"),
    ),
)

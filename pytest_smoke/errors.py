"""Every error that a user of this package can meet; all of them are `SmokeError`s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_smoke.judge.curve.curve_verdict import CurveVerdict

MAX_FAULTS_SHOWN = 10
"""Faults of an input file that `ExamplesError` prints before it counts the rest."""
CRITERION_CHARS_SHOWN = 100
"""Characters of an overlong criterion that are printed around the caret."""


class SmokeError(ValueError):
    """Base class: something the user gave (a recipe, a task, a log, a file) cannot be used. The message says why."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in a recipe file."""

    path: str
    """The file that holds the offending text, as a POSIX path relative to the root (absolute if it is outside)."""
    line: int
    """Line in the file, from 1."""
    column: int
    """Column in the line, in characters from 1."""
    text: str
    """What is wrong, with the offending value, and what is allowed."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.text}"


class RecipeError(SmokeError):
    """A recipe cannot be run. `faults` holds every fault that was found in it, sorted by position."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


class CriterionError(SmokeError):
    """A text is not a valid criterion."""

    column: int
    """Position of the offending characters, from 1."""
    problem: str
    """What is wrong and what is allowed, on one line, without the position."""

    def __init__(self, text: str, span: tuple[int, int], problem: str) -> None:
        self.column = span[0] + 1
        self.problem = problem
        # Replace unprintable characters one by one, so that the caret stays below the right character.
        line = "".join(char if char.isprintable() else " " for char in text)
        if len(line) > CRITERION_CHARS_SHOWN:
            cut = max(0, span[0] - CRITERION_CHARS_SHOWN // 2)
            line = line[cut : cut + CRITERION_CHARS_SHOWN]
            span = (span[0] - cut, min(span[1] - cut, CRITERION_CHARS_SHOWN))
        caret = " " * span[0] + "^" * max(1, span[1] - span[0])
        super().__init__(f"column {self.column}: {problem}\n  {line}\n  {caret}")


class BaselineError(SmokeError):
    """The outcome that `checks.baseline` names cannot be read."""


class TaskError(SmokeError):
    """The task cannot be used as it is. `key` is the dotted recipe key to blame, or empty if it is the task itself."""

    def __init__(self, text: str, *, key: str = "") -> None:
        super().__init__(text)
        self.key = key


class DeviceError(TaskError):
    """The requested device is not available."""


class CheckpointError(TaskError):
    """A checkpoint cannot be read, or does not fit the recipe's model or optimizer."""


class ExportError(TaskError):
    """A stage of the export pipeline ran to its end and found something wrong.

    `reason` is its machine-readable reason, `figures` what was measured before.
    """

    def __init__(self, reason: str, text: str, figures: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.figures = dict(figures or {})


class UnsplittableBatchError(SmokeError):
    """A batch cannot be split into micro-batches; the message names the part of it and the cause."""


class PackageError(SmokeError):
    """A folder is not a model package that this version can read."""


class ChildDiedError(SmokeError):
    """The training process ended without reporting why; the message names its signal or exit status."""


class ChildTimeoutError(SmokeError):
    """The training process made no progress for longer than the timeout."""


class ParentDiedError(SmokeError):
    """The pytest process that a training process reports to is gone."""


class CommandError(SmokeError):
    """The command of a recipe cannot be started."""


class LogError(SmokeError):
    """A training log cannot be judged. `reason` is machine-readable, the message is one sentence."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class RecorderError(SmokeError):
    """A recorder was given something that it cannot record, or its log cannot be written."""


class UnstableError(SmokeError):
    """A recorded run is unstable. `verdict` has the reason, the step and the numbers."""

    def __init__(self, verdict: CurveVerdict) -> None:
        self.verdict = verdict
        super().__init__(verdict)

    def __str__(self) -> str:
        return f"unstable ({self.verdict.reason}) at step {self.verdict.step}: {self.verdict.text}"


class CorpusError(SmokeError):
    """The rows of a corpus cannot be counted; the message names the file, the line if there is one, what is allowed."""


class ExamplesError(SmokeError):
    """Rows with predictions cannot be read: one line per faulty row, with its position, the value, what is allowed."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        hidden = len(faults) - MAX_FAULTS_SHOWN
        more = [f"... and {hidden} more"] if hidden > 0 else []
        super().__init__("\n".join([*faults[:MAX_FAULTS_SHOWN], *more]))


class ReportError(SmokeError):
    """A report, or one outcome in it, cannot be read or compared."""


class MergeError(SmokeError):
    """Report folders cannot be merged. `problems` has a sentence for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AuditError(SmokeError):
    """There is no data mix to audit, or the task could not be asked for samples."""


class SigningError(SmokeError):
    """A receipt cannot be signed; the message names the key or the program, and what to do."""


class GateError(SmokeError):
    """The full run must not be launched: a smoke run has no receipt that holds. The message is one sentence."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        """Why, as one kebab-case phrase for scripts: `no-receipt`, `changed`, `unknown-signer`, ..."""


class BisectStateError(SmokeError):
    """The file that should hold the state of a bisect holds something else."""

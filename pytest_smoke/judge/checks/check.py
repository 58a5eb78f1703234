"""The shape of a check: its registry row, and what it may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from pytest_smoke.events import Event, Gradients, Step, Updates
from pytest_smoke.outcome import Finding, Status, VerdictWord
from pytest_smoke.text import listed

if TYPE_CHECKING:
    from pytest_smoke.recipe.case import Case
    from pytest_smoke.recipe.stages import Stage

When = Literal["preflight", "first steps", "every step", "end of a stage", "end", "after training"]
"""When a check runs."""
E = TypeVar("E", bound=Event)
Series = Mapping[str, Sequence[tuple[int, float]]]
"""(optimizer step, value) pairs by name."""

ENDED_EARLY = "ended-early"
"""Reason of a check that did not run because the run did not reach its end."""
EARLIER_STAGE_FAILED = "earlier-stage-failed"
"""Reason of a check that did not run because an earlier stage failed its criteria."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason that a check can give."""

    id: str
    """The kebab-case phrase in `Finding.reason`."""
    status: Status
    """Status of a finding with this reason; a reason that occurs with two statuses has two rows."""
    when: str
    """When it is given, as a clause for the reference page."""
    verdict: VerdictWord | None = None
    """Verdict it leads to; None: that of the check if the status is `fail`, `inconclusive` if it is `not-checked`."""
    certain: bool = False
    """Whether a failure holds whatever the loss shows, so that it decides before `inconclusive`."""
    yields_to: tuple[str, ...] = ()
    """Checks whose failure explains this reason, and so decides instead; `*` stands for every check."""
    blocks: bool = True
    """Whether `not-checked` with this reason stands against a promotion."""


NO_DATA = Reason(
    id="no-data",
    status="not-checked",
    when="what trains gives the check no data; a promotion is possible",
    blocks=False,
)
UNVERIFIED = Reason(
    id="unverified",
    status="not-checked",
    when="the same, and a promotion needs the check, or the recipe asks for it",
    yields_to=("run", "finite"),
)
ACCEPTED_UNVERIFIED = Reason(
    id="accepted-unverified",
    status="warn",
    when="the same, and `checks.accept_unverified` names the check",
)
WITHOUT_DATA = (NO_DATA, UNVERIFIED, ACCEPTED_UNVERIFIED)
"""Reasons that every check can give without declaring them: what trains reported `NotChecked`."""


def always(_: Case) -> bool:
    """Say that every promotion needs a check."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the registry."""

    id: str
    """Stable id, as in `Finding.check`."""
    question: str
    """What the check asks, as one sentence for the reference page."""
    when: When
    """When it runs."""
    verdict: VerdictWord | None
    """Verdict that a failure leads to; None: the check only warns."""
    reasons: tuple[Reason, ...]
    """Every reason it can give."""
    key: str = ""
    """Dotted recipe key to look at; a finding may name a more precise one."""
    stops_run: bool = False
    """Whether a failure stops the run."""
    decides_first: bool = False
    """Whether its findings decide before those of other checks that lead to the same verdict."""
    needed: Callable[[Case], bool] | None = None
    """Whether a run of a case cannot be promoted if what trains gives this check no data; None: it can."""
    before_run: Callable[[Case], Iterable[Finding]] | None = None
    """Makes the check from the recipe alone."""
    on_event: tuple[type[Any], Callable[[RunView, Sequence[Any]], Iterable[Finding]]] | None = None
    """An event type, and a function that is called with all events of that type so far whenever one arrives.

    A later finding replaces an earlier one with the same id."""
    at_end: Callable[[RunView], Iterable[Finding]] | None = None
    """Makes the check once the run is over."""

    def reason(self, reason_id: str, status: Status | None = None) -> Reason | None:
        """Return the row of a reason, with `status` if it is given; None if the check cannot give it."""
        rows = (row for row in (*self.reasons, *WITHOUT_DATA) if row.id == reason_id and status in (None, row.status))
        return next(rows, None)


class StageView(Protocol):
    """One stage of a run, as a check sees it."""

    @property
    def stage(self) -> Stage:
        """Its place and settings."""

    @property
    def steps(self) -> Sequence[Step]:
        """Its optimizer steps so far."""

    @property
    def terms(self) -> Sequence[str]:
        """Names of the loss terms in its steps; phases may have different ones."""

    @property
    def gradients(self) -> Sequence[Gradients]:
        """Its gradient probes."""

    @property
    def updates(self) -> Updates | None:
        """Which parameters changed; None until its end."""

    @property
    def finished(self) -> bool:
        """Whether it ran to its end."""

    @property
    def criteria(self) -> Finding | None:
        """The finding of its own criteria; None until its end, and if it has none."""


class RunView(Protocol):
    """A run, as a check sees it: all that the training process has reported so far."""

    @property
    def case(self) -> Case:
        """Recipe, mode and cell."""

    @property
    def complete(self) -> bool:
        """Whether every planned step was made."""

    @property
    def steps(self) -> int:
        """Optimizer steps made."""

    @property
    def failed_stage(self) -> str | None:
        """The stage whose criteria failed, so that no later one started."""

    @property
    def stages(self) -> Sequence[StageView]:
        """The stages in order; one without a name if the recipe declares none."""

    @property
    def baseline(self) -> Mapping[str, float] | None:
        """Final values of the run that criteria compare with."""

    def events(self, kind: type[E]) -> Sequence[E]:
        """Return all events of one type, in order."""

    def series(self) -> Series:
        """Return what a criterion can name: metrics, `loss`, its terms, `grad_norm`, `lr`, `probe_loss`."""


def why_not_made(run: RunView) -> tuple[str, str]:
    """Return the reason and the sentence of a check that a run did not come to."""
    if run.failed_stage is not None:
        return (
            EARLIER_STAGE_FAILED,
            f"not checked: stage {run.failed_stage} failed its criteria, so the run ended there",
        )
    return ENDED_EARLY, "not checked: the run did not reach its end"


def not_made(run: RunView, finding_id: str, *, data: dict[str, Any] | None = None) -> Finding:
    """Return the finding of a check that the run did not come to."""
    reason, text = why_not_made(run)
    return Finding(id=finding_id, status="not-checked", reason=reason, text=text, data=data or {})


NOT_MADE = (
    Reason(id=ENDED_EARLY, status="not-checked", when="the run did not reach its end"),
    Reason(
        id=EARLIER_STAGE_FAILED,
        status="not-checked",
        when="the run ended because an earlier stage failed its criteria",
        yields_to=("stage",),
    ),
)
"""Reasons of every check that needs a whole run."""


def correction(case: Case, keys: Sequence[str]) -> str:
    """Say where settings of the smoke run must be corrected: in `smoke`, or in the config that they were read from."""
    names = listed(keys, limit=len(keys))
    config = case.configs.get("smoke")
    if config is None:
        return f"remove {names} from `smoke`"
    beside = {*config.values, *config.file.entries} - case.declared.keys()  # compared, but no settings of a recipe
    if any(case.read_from("smoke", key) or key in beside for key in keys):
        return f"give {names} the full run's value in {config.file.path}"
    return f"remove {names} from `smoke`"

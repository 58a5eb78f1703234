"""What a smoke run produces: findings, a verdict, facts, and the outcome that every report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal, Self

Status = Literal["pass", "warn", "fail", "not-checked"]
VerdictWord = Literal["promote", "unstable", "hold", "invalid", "inconclusive", "error"]
VERDICTS: tuple[VerdictWord, ...] = ("promote", "unstable", "hold", "invalid", "inconclusive", "error")

NOT_RUN = ("unmet-requirements", "skipped")
"""Reasons of items that did not run: what is known of them from an earlier session still holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check of a smoke run. All values are builtins."""

    id: str
    """Id of the check, with what it is about in brackets: `loss-trend`, `stage[A]`, `accept[max(grad_norm) < 500]`."""
    status: Status
    """`fail` prevents a promotion, and so does `not-checked` with a reason other than `no-data`; `warn` does not change
    the verdict."""
    text: str
    """What happened, with the numbers that decided it."""
    reason: str = ""
    """Why, as one kebab-case phrase for scripts; empty if the check passed without a warning."""
    step: int | None = None
    """Optimizer step that the finding is about; None if it is about no single step."""
    observed: Any = None
    """Value that was measured."""
    bound: Any = None
    """Value or range that is allowed."""
    hint: str = ""
    """What to try next; empty if there is nothing to suggest."""
    key: str = ""
    """Dotted recipe key to look at: `full.learning_rate`, `checks.accept[0]`."""
    key_place: str = ""
    """`file:line` of that key, or of the nearest key above it that the recipe has; empty if no recipe was read."""
    place: str = ""
    """`file:line` in the user's own code, if the finding is about code."""
    data: dict[str, Any] = field(default_factory=dict)
    """Numbers behind the finding, for plots and tables."""

    @property
    def check(self) -> str:
        """Id of the check alone: `loss-trend` for `loss-trend` and `loss-trend[A]`."""
        return self.id.partition("[")[0]

    @property
    def subject(self) -> str:
        """What the finding is about: `A` for `loss-trend[A]`; empty without brackets."""
        return self.id.partition("[")[2].removesuffix("]")

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins, with the same `data`."""
        return dict(zip(_FINDING_FIELDS, _FINDING_VALUES(self), strict=True))

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`."""
        return cls(**tree)


_FINDING_FIELDS = tuple(one.name for one in fields(Finding))
"""`dataclasses.asdict` copies every value of a finding, of which a session has thousands."""
_FINDING_VALUES = attrgetter(*_FINDING_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on a smoke run and the finding that decided it."""

    word: VerdictWord
    """The verdict."""
    reason: str
    """Reason of the deciding finding, or its id if it has none; empty for a promotion without a warning."""
    step: int | None
    """Optimizer step that the verdict is about; None if it is about no single step."""
    text: str
    """Sentence of the deciding finding."""
    decided_by: str
    """Id of the deciding finding; empty if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """Numbers of one stage of a smoke run. `verdicts.json` leaves out values that are not known (None)."""

    name: str
    """Name of the stage."""
    first_step: int
    """First optimizer step in the smoke run."""
    steps: int
    """Optimizer steps made."""
    planned_steps: int
    """Optimizer steps planned."""
    evidence_steps: int
    """Optimizer steps at 80 % or more of the stage's peak learning rate."""
    full_steps: int
    """Length of the stage in the full run, in optimizer steps."""
    phases: tuple[tuple[str, int], ...] = ()
    """Name and first step of each phase."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the stage; `phases` in it are counted from the stage's first step."""
    loss_verdict: str | None = None
    """Verdict on the stage's loss; `wiring` for a wiring run, None if the stage did not start."""
    criteria: Status | None = None
    """Status of the stage's own criteria; None if it has none."""
    loss_first: float | None = None
    """Mean loss of the first tenth of the steps."""
    loss_last: float | None = None
    """Mean loss of the last tenth of the steps."""
    train_seconds: float | None = None
    """Wall time of the steps, without probes and evaluations."""
    samples_per_second: float | None = None
    """Training throughput."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientFacts:
    """The newest gradient probe of a smoke run."""

    step: int
    """Optimizer step of the probe."""
    raw: Mapping[str, float]
    """2-norm of the gradient of each loss term."""
    weighted: Mapping[str, float]
    """2-norm of the gradient of each loss term, times the absolute weight of the term."""
    cosines: Mapping[str, float]
    """Cosine between the gradients of two terms, by `term/term`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """A checkpoint that a smoke run left behind."""

    kind: str
    """`trained` (after the last step) or `last-good` (before the loss became unstable)."""
    step: int
    """The state is the one before this optimizer step."""
    folder: str
    """Folder, relative to the report folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Numbers and settings of a smoke run. `verdicts.json` leaves out values that are not known (None or empty)."""

    planned_steps: int | None = None
    """Optimizer steps planned for the smoke run."""
    full_steps: int | None = None
    """Length of the full run, in optimizer steps."""
    evidence_steps: int | None = None
    """Optimizer steps at 80 % or more of the full run's peak learning rate; planned ones if the run made no steps."""
    evidence_needed_steps: int | None = None
    """Evidence steps that a promotion needs."""
    effective_batch_samples: int | None = None
    """Samples in one optimizer step."""
    learning_rate: float | None = None
    """Peak learning rate."""
    precision: str | None = None
    """`fp32`, `bf16` or `fp16`."""
    seed: int | None = None
    """Seed of weights, data order and dropout."""
    task: str | None = None
    """Import path of the task."""
    command: tuple[str, ...] = ()
    """Program and arguments of a command, with its placeholders filled in."""
    log: str | None = None
    """File with what the command printed, relative to the report folder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings of the smoke run."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the task."""
    better: Mapping[str, str] = field(default_factory=dict)
    """`higher` or `lower`: which value of a metric is better, where the recipe declares it."""
    cell_changes: Mapping[str, Any] | None = None
    """What the ablation cell changes; None for the baseline."""
    full_accept: tuple[str, ...] = ()
    """Criteria that the full run must meet."""
    recipe_text: str | None = None
    """The recipe as it was read, followed by the files that it extends; None if it was written in Python."""
    steps: int | None = None
    """Optimizer steps made."""
    device: str | None = None
    """Device of the run, as torch names it."""
    device_name: str | None = None
    """Name of the hardware."""
    torch: str | None = None
    """Version of torch in the training process."""
    parameters: int | None = None
    """Parameters of the model."""
    launched_world_size: int | None = None
    """Processes that trained together; None if the recipe launches none."""
    not_shown: tuple[str, ...] = ()
    """Effects of the full run's data-parallel devices that the smoke run could not show."""
    trainable_parameters: int | None = None
    """Parameters that require a gradient."""
    loss_first: float | None = None
    """Mean loss of the first tenth of the steps."""
    loss_last: float | None = None
    """Mean loss of the last tenth of the steps."""
    initial_metrics: Mapping[str, float] = field(default_factory=dict)
    """What `evaluate` returned before the first step. Neither criteria nor advisories use it."""
    last_values: Mapping[str, float] = field(default_factory=dict)
    """Last value of every metric, and of every other series that a criterion can name."""
    resumed_at_steps: tuple[int, ...] = ()
    """Steps at which the run was resumed from a checkpoint."""
    main_metric: str | None = None
    """Metric by which ablation cells are compared."""
    main_metric_better: str | None = None
    """Whether a `higher` or a `lower` value of the main metric is better."""
    train_seconds: float | None = None
    """Wall time of the steps, without probes and evaluations."""
    peak_memory_gib: float | None = None
    """Peak memory allocated on the accelerator, in GiB; None on a CPU."""
    utilization_percent: float | None = None
    """Mean utilization of a CUDA device, in percent."""
    samples_per_second: float | None = None
    """Training throughput."""
    smoke_to_full_steps: float | None = None
    """Optimizer steps of the smoke run, divided by those of the full run."""
    estimated_full_seconds: float | None = None
    """Estimated wall time of the full run at the smoke run's throughput."""
    stages: tuple[StageFacts, ...] = ()
    """One entry per declared stage."""
    gradient_norms: GradientFacts | None = None
    """The newest gradient probe."""
    checkpoints: tuple[CheckpointFacts, ...] = ()
    """Checkpoints that were written."""
    checkpoint_problems: tuple[str, ...] = ()
    """One sentence per checkpoint that could not be written."""
    trace: str | None = None
    """File with a row for every step, relative to the report folder."""
    trace_sha256: str | None = None
    """SHA-256 of that file: with another one it is the trace of another run."""
    smallest_rise: float | None = None
    """Smallest lasting rise of the loss that would have been detected, in units of the loss."""
    smallest_rise_share: float | None = None
    """The same as a share of the lowest loss level; missing if that is 0."""
    seconds: float | None = None
    """Wall time of the smoke run; of a resumed one, the sum over all sessions."""
    package: str | None = None
    """Absolute path of the folder of the model package."""
    started_at: str | None = None
    """Start of the smoke run, ISO 8601 in UTC."""
    rerun_options: tuple[str, ...] = ()
    """Options of the session that another run of the recipe needs to be executed in the same way."""
    repository_folder: str | None = None
    """pytest's rootdir as a path below the root of its git repository; None if it is that root, or in no repository."""
    git_commit: str | None = None
    """Commit of the project, with `-dirty` if files were changed; None outside a git repository."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python and of the packages that can change a verdict."""
    fingerprint: str | None = None
    """SHA-256 of the recipe, code and data, as in the receipt: runs with the same one differ in nothing that it
    covers."""

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins without the values that are not known."""
        tree: dict[str, Any] = dict(zip(_FACTS_FIELDS, _FACTS_VALUES(self), strict=True))
        tree |= {name: tuple(asdict(one) for one in tree[name]) for name in ("stages", "checkpoints")}
        if self.gradient_norms is not None:
            tree["gradient_norms"] = asdict(self.gradient_norms)
        return _without_unknown(tree)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`."""
        values = {key: value for key, value in tree.items() if key in _FACTS_FIELDS}
        for key in ("command", "full_accept", "resumed_at_steps", "checkpoint_problems", "not_shown", "rerun_options"):
            values[key] = tuple(values.get(key, ()))
        values["stages"] = tuple(
            StageFacts(**{**stage, "phases": tuple(tuple(phase) for phase in stage.get("phases", ()))})
            for stage in values.get("stages", ())
        )
        values["checkpoints"] = tuple(CheckpointFacts(**one) for one in values.get("checkpoints", ()))
        if "gradient_norms" in values:
            values["gradient_norms"] = GradientFacts(**values["gradient_norms"])
        return cls(**values)


_FACTS_FIELDS = dict.fromkeys(one.name for one in fields(Facts))
_FACTS_VALUES = attrgetter(*_FACTS_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Outcome:
    """The result of one smoke run, in plain data. Every report is made from it."""

    id: str
    """Node id of the pytest item; with `#0`, `#1`, ... for the runs of the fixture `smoke`."""
    recipe: str
    """Recipe file, relative to pytest's rootdir."""
    mode: str
    """`constant`, `long-tail` or `wiring`."""
    cell: str | None
    """Name of the ablation cell; None for the baseline."""
    verdict: VerdictWord
    """The verdict."""
    reason: str
    """Why, as one kebab-case phrase for scripts; empty for a promotion without a warning."""
    step: int | None
    """Optimizer step that the verdict is about; None if it is about no single step."""
    text: str
    """Sentence of the deciding finding."""
    decided_by: str
    """Id of the deciding finding; empty if there is none."""
    findings: tuple[Finding, ...]
    """Results of all checks that were made, in the order of the registry."""
    facts: Facts = field(default_factory=Facts)
    """Numbers and settings of the run."""
    curve: Mapping[str, list[Any]] = field(default_factory=dict)
    """Mean `loss` and first `step` of at most 240 blocks of consecutive steps."""
    metrics: Mapping[str, list[Any]] = field(default_factory=dict)
    """`[step, value]` pairs by metric of the task's `evaluate`."""
    gradients: Mapping[str, list[Any]] = field(default_factory=dict)
    """`[step, norm, weighted norm]` of each gradient probe by loss term: 2-norm of its gradient, without and with the
    absolute weight of the term."""
    output: str = ""
    """Last lines that the training process printed, if it crashed or hung."""

    @property
    def promoted(self) -> bool:
        """Whether the full run is worth launching."""
        return self.verdict == "promote"

    def __repr__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"<Outcome {self.id}: {self.verdict}{reason}>"

    @property
    def completed(self) -> str:
        """`preflight` or `wiring` if the run finished in a mode that gives no verdict; otherwise empty."""
        return self.reason if self.verdict == "inconclusive" and self.reason in ("preflight", "wiring") else ""

    @property
    def deciding(self) -> Finding | None:
        """The finding that decided the verdict."""
        return self.finding(self.decided_by)

    @property
    def of_test(self) -> bool:
        """Whether a test executed the smoke run, so that the test decides what the verdict means."""
        name = self.id.partition("::")[2].partition("#")[0]  # a plugin may execute an item again, as `...#2`
        return name != (self.mode if self.cell is None else f"{self.mode}[{self.cell}]")

    @property
    def place(self) -> str:
        """`file:line` of the code, or of the recipe key, that the deciding finding is about."""
        return self.place_of(self.deciding)

    def place_of(self, finding: Finding | None) -> str:
        """Return `file:line` of what a finding is about; the first line of the recipe if it is about no line."""
        return self.places_of(finding)[0]

    def places_of(self, finding: Finding | None) -> list[str]:
        """Return each `file:line` that a finding is about: the code, the recipe's key, the recipe."""
        own = [finding.place, finding.key_place] if finding is not None else []
        return [place for place in (*own, f"{self.recipe}:1") if place]

    def finding(self, finding_id: str) -> Finding | None:
        """Return the finding with this id; None if there is none."""
        return next((finding for finding in self.findings if finding.id == finding_id), None)

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins; NaN and infinities stay floats."""
        tree = {name: getattr(self, name) for name in _OUTCOME_FIELDS}
        return tree | {"findings": [finding.to_dict() for finding in self.findings], "facts": self.facts.to_dict()}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`."""
        findings = tuple(Finding.from_dict(finding) for finding in tree["findings"])
        return cls(**{**tree, "findings": findings, "facts": Facts.from_dict(tree["facts"])})


_OUTCOME_FIELDS = tuple(one.name for one in fields(Outcome))


def _without_unknown(tree: dict[str, Any]) -> dict[str, Any]:
    """Drop None and empty containers, also one level down in `stages`."""
    known = {key: value for key, value in tree.items() if value or (value is not None and value not in ((), {}, []))}
    if "stages" in known:
        known["stages"] = [
            {key: value for key, value in stage.items() if value is not None} for stage in known["stages"]
        ]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in known.items()}

"""Makes every finding of the checks once, with real values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

from pytest_smoke.diagnose import diagnose
from pytest_smoke.errors import BaselineError
from pytest_smoke.events import (
    BatchEquivalence,
    BatchSizes,
    DrawnItems,
    DrawnSamples,
    Event,
    ExportStage,
    Gradients,
    InitialMetrics,
    LargestBatch,
    LearningRateDiffers,
    LossDiagnosis,
    ModelMode,
    NotSharded,
    Overfit,
    ProbeLoss,
    SharedStorage,
    Step,
    SupervisedItems,
    UnusedParameters,
    Updates,
    Window,
)
from pytest_smoke.judge.checks.accept import accept, metric_names
from pytest_smoke.judge.checks.accumulation import accumulation
from pytest_smoke.judge.checks.baseline import baseline, unreadable_baseline
from pytest_smoke.judge.checks.batch_drawn import batch_drawn, items_drawn
from pytest_smoke.judge.checks.batch_geometry import batch_geometry
from pytest_smoke.judge.checks.drawn_samples import data_repeats, of_launch, ranks
from pytest_smoke.judge.checks.grad_ratio import grad_ratio
from pytest_smoke.judge.checks.learning import learning, stage_learning
from pytest_smoke.judge.checks.loss import loss_findings, preflight_only
from pytest_smoke.judge.checks.lr_applied import applied, differs
from pytest_smoke.judge.checks.mix import audit_mix, mix_drawn
from pytest_smoke.judge.checks.model_mode import model_mode, shared_storage
from pytest_smoke.judge.checks.pipeline import pipeline
from pytest_smoke.judge.checks.prediction_errors import prediction_errors, unreadable_predictions
from pytest_smoke.judge.checks.rehearsal import memory, overfit
from pytest_smoke.judge.checks.resume import (
    checkpoint_not_saved,
    resume,
    resume_not_checked,
    resumed,
    resumed_run_failed,
)
from pytest_smoke.judge.checks.schedule import schedule
from pytest_smoke.judge.checks.settings import settings
from pytest_smoke.judge.checks.sources import sources
from pytest_smoke.judge.checks.stage import stage_criteria, stage_finding
from pytest_smoke.judge.checks.supervised_tokens import supervised_tokens
from pytest_smoke.judge.checks.updates import parameter_updates, updates
from pytest_smoke.judge.curve.curve_verdict import CurveVerdict, CurveVerdictWord
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import MixSpec, Recipe
from pytest_smoke.recipe.stages import Stage
from tests.judge.checks.cases import FULL, case, of_trainer


@dataclass
class FakeStage:
    """A stage of a run, as a check sees it."""

    stage: Stage
    finished: bool = True
    criteria: Finding | None = None
    updates: Updates | None = None
    steps: Sequence[Step] = ()
    terms: Sequence[str] = ()
    gradients: Sequence[Gradients] = ()


@dataclass
class FakeRun:
    """A run, as a check sees it."""

    case: Case
    stages: list[FakeStage]
    complete: bool = False
    steps: int = 0
    failed_stage: str | None = None
    baseline: dict[str, float] | None = None
    values: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    sent: Sequence[Event] = ()

    def events(self, kind: type[Event]) -> Sequence[Any]:
        return [event for event in self.sent if isinstance(event, kind)]

    def series(self) -> dict[str, list[tuple[int, float]]]:
        return self.values


def staged_case(*, continue_on_fail: bool = False, **sections: Any) -> Case:
    full = {key: value for key, value in FULL.items() if key != "max_steps"} | {"warmup_steps": 20}
    stages = [
        {"name": "A", "full_steps": 8000, "steps": 800, "accept": ["val_f1 > 0.6"]},
        {"name": "B", "full_steps": 16000, "steps": 600, "accept": ["last(ce) < 2"]},
    ]
    stages[0]["continue_on_fail"] = continue_on_fail
    recipe = Recipe.model_validate({"task": "a:B", "full": full, "smoke": {}, "stages": stages, **sections})
    return Case(path="lm.smoke.yaml", recipe=recipe, mode="constant")


def with_checks(**checks: Any) -> Case:
    plain = case()
    data = plain.recipe.model_dump(exclude_unset=True) | {"checks": checks}
    return replace(plain, recipe=Recipe.model_validate(data))


def mix(**sources: dict[str, Any]) -> MixSpec:
    return MixSpec.model_validate({"sources": sources})


EVEN = mix(nad={"rows": 350}, osm={"rows": 330}, gn={"rows": 320})
SHARES = {"nad": 0.35, "osm": 0.33, "gn": 0.32}


@dataclass(frozen=True)
class Sampled:
    """Samples that a sampler drew, by source."""

    counts: dict[str, int]
    design_effect: float = 1.0

    @property
    def samples(self) -> int:
        return sum(self.counts.values())


def batches(**changes: Any) -> list[BatchEquivalence]:
    equal = BatchEquivalence(
        step=0,
        samples=64,
        smoke_batch_size=16,
        full_batch_size=64,
        batch_norm_layers=0,
        difference=1e-7,
        weights={"ce": 1.0, "kl": 0.1},
        smoke_terms={"ce": 1.0, "kl": 0.5},
        full_terms={"ce": 1.0, "kl": 0.5},
    )
    return [replace(equal, **changes)]


def labels(samples: int, empty: int, items: int, labelled: int) -> SupervisedItems:
    return SupervisedItems(
        step=0, samples={"web": samples}, empty={"web": empty}, items={"web": items}, labelled={"web": labelled}
    )


def probe(step: int, ce: float = 1.0, crf: float = 1.0, **options: Any) -> Gradients:
    norms = {"ce": ce, "crf": crf}
    return Gradients(step=step, raw=norms, weighted=norms, cosines={"ce/crf": 0.1}, **options)


def ratio(probes: list[Gradients], *, bounds: Any = None, terms: Sequence[str] = ("ce", "crf")) -> Finding:
    finding = grad_ratio(probes, {"crf/ce": [0.01, 8]} if bounds is None else bounds, terms=terms)
    assert finding is not None
    return finding


THREE_TERMS = Gradients(
    step=40,
    raw={"ce": 3.0, "kl": 1.2, "align": 0.01},
    weighted={"ce": 3.0, "kl": 1.2, "align": 0.01},
    cosines={"ce/kl": -0.62, "ce/align": 0.1, "kl/align": 0.2},
)


def curve(verdict: CurveVerdictWord, reason: str, text: str, step: int | None = None) -> CurveVerdict:
    return CurveVerdict(
        verdict=verdict, reason=reason, step=step, text=text, series="loss", points=800, notes=(), data={}
    )


def loss(judged: CurveVerdict, *, stage: Stage | None = None, which: str = "loss-trend", **options: Any) -> Finding:
    stage = stage or case().stages[0]
    found = loss_findings(stage, judged, **{"steps": 800, "parameter_norm": 1.0, **options})
    return next(finding for finding in found if finding.check == which)


def rows(losses: list[float], at: int = 301) -> list[Step]:
    return [Step(at + n, value, {"ce": value}, 1.0, 0.1) for n, value in enumerate(losses)]


def learnings() -> Iterator[Finding]:
    window = Window(first_step=0, end_step=20, moved=4, trainable=4, held=4, stepped=20)
    noisy = [1.0 + n % 7 / 100 for n in range(40)]

    def made(window: Window = window, *, probes: Sequence[float] = (), **columns: list[float]) -> Finding:
        values = {"loss": noisy, "grad_norm": [0.5] * 40, **columns}
        steps = [
            Step(n, loss, {"ce": loss}, norm, 0.1)
            for n, (loss, norm) in enumerate(zip(values["loss"], values["grad_norm"], strict=True))
        ]
        windows = [window, replace(window, first_step=20, end_step=40)]
        scores = [ProbeLoss(n, loss) for n, loss in enumerate(probes)]
        return stage_learning(FakeStage(case().stages[0], steps=steps), windows, scores)

    yield made()
    yield made(replace(window, moved=0, held=0))
    yield made(replace(window, replaced=("head.weight", "head.bias")))
    yield made(grad_norm=[0.5] * 20 + [0.0] * 20)
    yield made(replace(window, without_grad=3), grad_norm=[0.0] * 40)
    yield made(loss=[0.0] * 40, grad_norm=[0.0] * 40)
    yield made(loss=[1.0] * 20 + [0.0] * 20)
    yield made(replace(window, moved=0))
    yield made(replace(window, moved=0, stepped=0))
    yield made(loss=[1.2345] * 40)
    yield made(probes=[1.2345] * 40)
    yield made(loss=noisy[:20] + [1.2345] * 20)
    yield from learning(FakeRun(case(), [FakeStage(case().stages[0], finished=False)]))


def exported(name: str, *, ok: bool = True, figures: Any = None, failure: tuple[str, ...] = ()) -> Finding:
    stages = [ExportStage(name, ok, 1.5, figures or {}, *failure)]
    findings = pipeline(
        ["evaluate", "export", "quantize", "package", "load"],
        stages,
        max_drop={"val_f1": 0.01},
        max_rise={},
        ended_early="",
    )
    return next(finding for finding in findings if finding.subject == name)


INT8 = {"bytes": 1200, "float_bytes": 4800, "weights": 2, "difference": 0.01, "float_metrics": {"val_f1": 0.8}}
ROWS = [
    {"raw": "12 Rue Foch, 76470", "gold": {"postcode": "76470"}, "pred": {"postcode": ", 7647"}},
    {"raw": "12 Rue Foch", "gold": {"house": "12"}, "pred": {"house": "21"}},
]


def findings(tmp_path: Path) -> Iterator[Finding]:
    """Yield every finding that the modules of `judge/checks` can make, check by check."""
    yield from batch_geometry(case())
    yield from batch_geometry(case(batch_size=8, grad_accum_steps=1))

    yield from schedule(case())
    yield from schedule(case(mode="long-tail", max_steps=800))
    yield from schedule(case(lr_schedule="cosine", max_steps=3000))
    yield from schedule(case(learning_rate=1e-4))
    yield from schedule(case(warmup_steps=100))
    yield from schedule(case(max_steps=1599))
    yield from schedule(case(mode="long-tail", max_steps=4000))
    yield from schedule(case(mode="long-tail", max_steps=9000))
    yield from schedule(case(full={"max_steps": 2500}))
    yield from schedule(staged_case(smoke={"warmup_steps": 500}))

    yield from settings(case())
    yield from settings(case(grad_clip_norm=None, precision="bf16"))
    yield from settings(of_trainer(read={"batch_size": 8, "learning_rate": 3e-3, "max_steps": 5000}))
    yield from settings(of_trainer(read={"batch_size": 16, "learning_rate": 3e-3, "max_steps": 4000}))
    command = Recipe.model_validate({"command": ["train", "{batch_size}"], "full": FULL, "smoke": {"max_steps": 2500}})
    yield from settings(replace(case(), recipe=command))

    yield audit_mix(mix(nad={"rows": 350}, osm={"rows": 330}, gn={"rows": 320}))
    yield audit_mix(MixSpec.model_validate({"sources": {"nad": {}}, "corpus": str(tmp_path / "absent")}))
    yield audit_mix(
        mix(nad={"rows": 700_000, "weight": 0.5, "share": 0.2}, osm={"rows": 300_000}, gn={"rows": 350_000})
    )
    yield audit_mix(mix(nad={"rows": 450}, osm={"rows": 350}, gn={"rows": 200}))
    yield audit_mix(mix(nad={"rows": 380}, osm={"rows": 220}, gn={"rows": 200}, fr={"rows": 200}))
    for name, amount in {"nad": 35, "osm": 33, "gn": 32}.items():
        (tmp_path / f"{name}.jsonl").write_text("{}\n" * amount)
    stated = {"nad": {}, "osm": {}, "gn": {"rows": 40}}
    yield audit_mix(MixSpec.model_validate({"sources": stated, "corpus": str(tmp_path)}))
    for named in (("nad", "osm"), ("nad", "osm", "gn", "wiki")):
        yield audit_mix(MixSpec.model_validate({"sources": {name: {} for name in named}, "corpus": str(tmp_path)}))

    yield baseline(with_checks(baseline="old", accept=["val_f1 > baseline.val_f1"]), {"val_f1": 0.41})
    yield baseline(with_checks(baseline="old", accept=["val_f1 > baseline.val_f1"]), {"val_acc": 0.5})
    yield unreadable_baseline(BaselineError("checks.baseline 'old' cannot be read: No such file or directory"))

    yield sources([])
    yield sources(["recipes/base.smoke.yaml"], before_run=True)
    yield sources(["tagger_task.py", "data/corpus"])

    yield from resumed([120, 300], "")
    yield from resumed([], "the checkpoint was saved by torch 2.9")

    for evaluated in (
        InitialMetrics(values={"val_f1": 0.1}, terms=("ce",)),
        InitialMetrics(values={"val_f": 0.1}, terms=("ce",)),
        InitialMetrics(values={}, terms=("ce",), evaluates=False),
    ):
        yield from metric_names(FakeRun(with_checks(accept=["val_f1 > 0.6", "max(ce) < 9"]), []), [evaluated])

    yield mix_drawn(Sampled({"nad": 4200, "osm": 4000, "gn": 3800}), SHARES, EVEN, step=93)
    yield mix_drawn(Sampled({"nad": 6200, "osm": 3000, "gn": 2800}), SHARES, EVEN, step=93)
    yield mix_drawn(Sampled({"nad": 6000, "osm": 5800}), SHARES, EVEN, step=93)
    yield mix_drawn(Sampled({"nad": 4900, "osm": 4900}), {"nad": 0.5, "osm": 0.49, "gn": 0.01}, EVEN, step=93)
    yield mix_drawn(Sampled({"nad": 3500, "osm": 3300, "gn": 3200, "wiki": 3000}), SHARES, EVEN, step=93)
    yield mix_drawn(Sampled({"nad": 3500, "osm": 3300, "gn": 3200, "wiki": 40}), SHARES, EVEN, step=93)
    yield mix_drawn(Sampled({"nad": 9000, "osm": 3000}), None, None, step=9)
    yield mix_drawn(Sampled({"nad": 4000, "osm": 2200, "gn": 2000, "fr": 2000}), None, None, step=9)
    yield mix_drawn(Sampled({"nad": 35, "osm": 33, "gn": 32}), SHARES, EVEN, step=9)

    ranked = case(full={"world_size": 2})
    for second in ("e", "a"):
        names = [f"{prefix}{number}" for prefix in ("a", second) for number in range(8)]
        yield from ranks(
            FakeRun(ranked, []), [DrawnSamples(step=0, micro_batches=(tuple(names[:8]), tuple(names[8:])))]
        )
    unused = ("head.weight", "head.bias", "norm.weight")
    for events in (
        [UnusedParameters(rank=1, names=("extra.weight",), count=1)],
        [UnusedParameters(rank=0, names=unused[:2], count=2), UnusedParameters(rank=1, names=unused, count=12)],
        [UnusedParameters(rank=rank, names=unused, count=3) for rank in (1, 0)],
        [NotSharded(parameters=12)],
    ):
        yield from of_launch(FakeRun(ranked, [], sent=events))
    every = [tuple(f"{step}-{number}" for number in range(8)) for step in range(8)]
    for micro_batches in (
        [(one,) for one in every],
        [(one, one) for one in every],
        [(one, one, one[::-1], one, ("x", *one[1:]), one) for one in every],
        [(every[0],) for _ in every],
        [(every[step // 2],) for step in range(8)],
    ):
        drawn = [DrawnSamples(step=step, micro_batches=batches) for step, batches in enumerate(micro_batches)]
        yield from data_repeats(FakeRun(case(), []), drawn)
    everything = [DrawnSamples(step=step, micro_batches=(every[0],)) for step in range(8)]
    yield from data_repeats(FakeRun(case(steps_per_epoch=1), []), everything)

    for largest in (
        LargestBatch(peak_memory_gib=3.2),
        LargestBatch(reason="out-of-memory", text="OutOfMemoryError: CUDA out of memory\nTried to", place="lm.py:31"),
        LargestBatch(reason="exception", text="IndexError: index 512 is out of range", place="lm.py:31"),
    ):
        yield from memory(FakeRun(case(), []), [largest])
    for wiring in (case(mode="wiring"), replace(with_checks(overfit=True), mode="wiring")):
        for fitted in (
            Overfit(step=10, updates=40, before=2.303, after=0.41),
            Overfit(step=10, updates=40, before=2.303, after=2.304),
            Overfit(step=10, updates=40, problem="RuntimeError: no second pass at lm.py:31"),
        ):
            yield from overfit(FakeRun(wiring, []), [fitted])

    whole = ModelMode(step=1, stage="", watched=3, eval_count=0, in_eval=())
    names = ("encoder.drop", "encoder.norm", "head.drop")
    for mode in (
        whole,
        replace(whole, eval_count=3, in_eval=names),
        replace(whole, stage="B", eval_count=2, in_eval=names[:2]),
    ):
        yield from model_mode(FakeRun(case(), []), [mode])
    yield from shared_storage(FakeRun(case(), []), [SharedStorage(pairs=("emb.weight and head.weight",), count=1)])

    for labelled, empty in ((300, 0), (9, 60), (300, 60)):
        yield from supervised_tokens(FakeRun(case(), []), [labels(100, empty, 2000, labelled)])

    yield from accumulation(batches())
    yield from accumulation(batches(difference=0.234, full_terms={"ce": 1.0, "kl": 0.6}))
    yield from accumulation(batches(difference=0.002, full_terms={"ce": 1.0, "kl": 1.5}))
    yield from accumulation(batches(batch_size_ignored=True, difference=nan))
    yield from accumulation(batches(problem="batch is of type int, which cannot be split", stage="A", phase="latent"))
    yield from accumulation(batches(difference=2e-4))
    yield from accumulation(batches(batch_norm_layers=2))
    halves = {"halves": True, "smoke_batch_size": 4, "full_batch_size": 8, "samples": 8}
    yield from accumulation(batches(**halves))
    yield from accumulation(batches(**halves, difference=0.2, uneven={"ce": 0.58}))
    yield from accumulation(batches(**halves, difference=0.2, uneven={"ce": 0.58, "kl": 0.1}, has_counts=True))
    yield from accumulation(batches(**halves, difference=0.5))
    yield from accumulation(batches(**halves, difference=0.5, summed=True))
    yield from accumulation(batches(**halves, difference=0.5, summed=True), world_size=4)
    yield from accumulation(batches(**halves, problem="batch is of type int, which cannot be split"))

    items = DrawnItems(
        step=7,
        steps=8,
        fewest={"ce": 1024, "kl": 300},
        most={"ce": 1024, "kl": 450},
        micro_batches=32,
        empty=0,
        smoke_batch_size=16,
        full_batch_size=64,
        per_sample={"ce": (16, 16, 0.0), "kl": (8, 4, 1.0)},
    )
    for drawn in (
        items,
        replace(items, steps=1),
        replace(items, per_sample={"ce": (16, 4, 0.0), "kl": (8, 4, 0.1)}),
        replace(items, changed=(512.0, 1024.0)),
        replace(items, empty=1),
    ):
        yield from items_drawn(FakeRun(case(), []), [drawn])

    sizes = BatchSizes(step=7, first_step=0, declared=64, samples=16, micro_batch=4, steps=8, steps_off=8)
    fair = replace(sizes, samples=64, micro_batch=16, steps=800, steps_off=0)
    for seen in (
        sizes,
        replace(sizes, first_step=50, steps=58),
        replace(sizes, samples=128, micro_batch=32),
        fair,
        replace(fair, micro_batch=9, steps_off=12),
        replace(fair, problem="it is flat, as packed samples are"),
    ):
        yield batch_drawn(seen, (16, 4, 1))
        yield batch_drawn(seen, (16, 4, 1), is_task=False)
    for fewer_batches in (replace(sizes, samples=32, micro_batch=16), replace(fair, steps_off=12)):
        yield batch_drawn(fewer_batches, (16, 4, 1), is_task=False)

    yield from applied(FakeRun(case(), [FakeStage(case().stages[0], steps=rows([1.0] * 800))]))
    other_rate = LearningRateDiffers(step=50, group=0, scheduled=0.003, used=0.0, groups=1, planned_groups=1)
    yield differs(other_rate)
    yield differs(replace(other_rate, used=0.0015, within_step=True))
    yield differs(replace(other_rate, groups=2))
    yield differs(replace(other_rate, used=0.00299999), trainer="hf")

    rise = (
        "loss rose from its lowest level, 1.2 (steps 300-319), to 1.9 (steps 400-419): +0.7 (+58 %), 9.1 standard "
        "deviations of the noise"
    )
    unstable = curve("unstable", "rise", rise, 419)
    stage_b = replace(staged_case().stages[1], phases=(("text", 800), ("latent", 1000)))
    not_finite = curve("unstable", "non-finite", "loss is NaN at step 419", 419)
    yield loss(curve("promote", "", "no rise in 800 points: loss fell from 4.17 to 1.98"), which="finite")
    yield loss(not_finite, which="finite", postmortem=probe(418, 0.5, 7.0, postmortem=True))
    yield loss(curve("promote", "", "no rise"), which="finite", parameter_norm=nan)
    start = curve("unstable", "non-finite", "ce is NaN at step 0", 0)
    seen = LossDiagnosis(step=0, weights_step=0, micro_batches=4, micro_batch=2, term="ce", kind="not-reproduced")
    for diagnosis in (
        seen,
        replace(seen, rank=1),
        replace(seen, rank=1, kind="operation", operation="log", place="task.py:31"),
        replace(seen, kind="parameter", name="head.weight"),
        replace(seen, kind="input", name="batch['x']", detail="3 values of 4,096 are NaN"),
        replace(seen, kind="labels", detail="all 192 labels are -100, which the loss ignores", place="task.py:31"),
        replace(seen, kind="module", name="head (Linear)", operation="linear", finite_in_fp32=True),
        replace(seen, kind="operation", operation="log", place="task.py:31", micro_batches=1),
        replace(seen, kind="operation", operation="softmax", detail="its inputs hold infinite values", is_probe=True),
        replace(seen, kind="operation"),
        replace(seen, kind="gradient", operation="sqrt"),
        replace(seen, kind="gradient", name="head.weight"),
    ):
        yield loss(start, which="finite", diagnosis=diagnosis)
    later = replace(seen, step=419, weights_step=400, kind="module", name="head (Linear)", operation="exp")
    yield loss(not_finite, which="finite", diagnosis=later)
    yield loss(curve("promote", "", "no rise in 800 points: loss fell from 4.17 to 1.98"))
    yield loss(unstable)
    yield loss(unstable, postmortem=probe(418, 0.5, 7.0, postmortem=True))
    yield loss(unstable, postmortem=probe(418, 0.5, 0.7, postmortem=True))
    yield loss(replace(unstable, step=1150), stage=stage_b)
    yield loss(curve("unstable", "spike", "loss spiked from 1.2 to at least 2.4", 419))
    yield loss(curve("unstable", "divergence", "loss diverged from 4.2 to 9.1", 419))
    yield loss(curve("unstable", "swings", "loss rose more than 30-fold 3 times", 419))
    yield loss(curve("hold", "constant", "loss is exactly 2.303 at the last 300 points: nothing is trained"))
    yield loss(curve("invalid", "learning-rate-zero", "the learning rate is 0 at all 800 points"))
    yield loss(curve("inconclusive", "warming-up", "the learning rate was still rising at the end (0.0005)"))
    yield loss(curve("invalid", "masked", "only 20 steps ran at 80 % or more of the peak learning rate"))
    yield loss(
        replace(
            curve("inconclusive", "too-short", "30 points, at least 120 needed to tell a rise from noise"),
            data={"points_needed": 120},
        ),
        stage=replace(case().stages[0], steps=30, max_steps=30),
    )
    yield loss(curve("inconclusive", "too-noisy", "the noise of 800 points could hide a lasting rise of 0.4"))
    yield loss(
        curve(
            "promote", "no-progress", "loss did not improve on its initial level 1.4: any decrease is within its noise"
        )
    )
    yield loss(
        curve(
            "inconclusive",
            "no-progress",
            "loss did not improve on its initial level 1.4: any decrease is within its noise",
        )
    )
    yield loss(curve("inconclusive", "too-short", "too short"), wiring=True, steps=10)
    yield preflight_only()
    yield loss(
        curve(
            "inconclusive",
            "ended-early",
            "ended at step 419, after 420 of 800 planned points: an incomplete run cannot be promoted",
        )
    )

    yield from learnings()

    yield updates(Updates(unchanged=(), without_gradient=(), outside_optimizer=(), checked=4))
    unchanged = tuple(f"layer{number}.weight" for number in range(7))
    yield updates(
        Updates(unchanged=unchanged, without_gradient=unchanged[:2], outside_optimizer=unchanged[:3], checked=20)
    )
    frozen = ("head.bias",)
    yield updates(Updates(unchanged=(), without_gradient=(), outside_optimizer=(), checked=2, changed_frozen=frozen))
    half = {"0.weight": 40, "0.bias": 42}
    yield updates(Updates(unchanged=(), without_gradient=(), outside_optimizer=(), checked=4, stopped=half))
    yield updates(Updates(unchanged=(), without_gradient=(), outside_optimizer=(), checked=9, stopped=half))
    norm = ("norm.weight",)
    yield updates(Updates(unchanged=norm, without_gradient=(), outside_optimizer=(), checked=9, rounded=norm))
    yield from parameter_updates(FakeRun(case(), [FakeStage(case().stages[0])]))

    yield ratio([probe(40, 1.0, 4.0), probe(80, 1.0, 5.0)])
    yield ratio([probe(40, 1.0, 9.0), probe(80, 1.0, 12.0)])
    yield ratio([probe(40, 1.0, 0.001)], bounds={"crf/ce": [0.01, 8]})
    yield ratio([probe(40)], bounds={"crv/ce": [0.01, 8]})
    yield ratio([probe(40, nan)])
    yield ratio([probe(40)], bounds={})
    yield ratio([probe(40, 1.0, 50.0)], bounds={})
    yield ratio([THREE_TERMS], bounds={}, terms=("ce", "kl", "align"))

    a, b = staged_case().stages
    failed = Finding(
        id="accept[val_f1 > 0.6]", status="fail", text="val_f1 was 0.41 at step 799, the recipe requires > 0.6"
    )
    met = replace(failed, status="pass", text="val_f1 was 0.71 at step 799, the recipe requires > 0.6")
    yield stage_finding(a, [met], next_name="B")
    yield stage_finding(b, [replace(met, text="last(ce) was 1.2 at step 599, the recipe requires < 2")], next_name="")
    yield stage_finding(a, [failed], next_name="B")
    yield stage_finding(replace(a, continue_on_fail=True), [failed], next_name="B")
    held = FakeRun(staged_case(), [FakeStage(b, finished=False)], failed_stage="A")
    yield from stage_criteria(held)

    values = {"val_f1": [(799, 0.41)]}
    judged = with_checks(accept=["val_f1 > 0.6"])
    yield from accept(FakeRun(judged, [FakeStage(judged.stages[0])], complete=True, steps=800, values=values))
    yield from accept(FakeRun(judged, [FakeStage(judged.stages[0])]))

    yield exported("evaluate", figures={"metrics": {"val_f1": 0.8, "val_nll": 1.2}})
    differences = {"the example inputs": 2e-7, "inputs of batch size 3": 4e-7}
    yield exported("export", figures={"tolerance": 1e-4, "bytes": 4500, "free": ["ids[0]"], "differences": differences})
    yield exported("quantize", figures={**INT8, "metrics": {"val_f1": 0.795}})
    yield exported("package", figures={"bytes": 43_700, "files": ["model.onnx", "labels.json"]})
    yield exported("load", figures={"parts": [{"part": "model.onnx", "ok": True, "text": "", "difference": 1e-7}]})
    yield exported("quantize", figures={**INT8, "metrics": {"val_f1": 0.7}})
    yield exported("quantize", figures={**INT8, "float_metrics": {"f1": 0.8}, "metrics": {"f1": 0.8}})
    branch = "GuardOnDataDependentSymNode: could not guard on data-dependent expression"
    yield exported("export", ok=False, failure=("exception", branch, "task.py:31"))
    (not_run, *_) = pipeline(
        ["load"],
        [ExportStage("export", False, 1.5, {}, "exception", "broke")],
        max_drop={},
        max_rise={},
        ended_early="",
    )
    yield not_run

    yield resume(rows([1.0, 0.9]), rows([1.0, 0.9]), planned=2)
    yield resume(rows([1.0, 0.9]), rows([1.0, 0.91]), planned=2, changed=["buffer ema.weight"])
    yield resume(rows([1.0]), rows([0.97]), planned=1, batch_digests=({301: "a"}, {301: "b"}))
    yield resume(rows([1.0]), rows([0.97]), planned=1)
    yield resume(rows([1.0]), [], planned=24)
    yield resumed_run_failed(301, "RuntimeError: mat1 and mat2 shapes cannot be multiplied", "")
    yield checkpoint_not_saved(301, "No space left on device")
    yield resume_not_checked("not checked: the run did not reach its end")

    yield prediction_errors(diagnose(ROWS))
    yield unreadable_predictions("predictions(model): line 3: 'gold' is missing")

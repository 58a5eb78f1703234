"""`exposure-bias`: good teacher-forced scores without any generated answer."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_smoke.judge.metrics import advisories
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import MetricSpec
from tests.judge.metrics.series import FULL_STEPS, noisy


def exposed(
    nll: Sequence[float],
    em: Sequence[float],
    *,
    text_nll: float | None = None,
    items: int | None = 200,
    chance: float | None = None,
) -> Finding:
    """The finding for a loss with teacher forcing and an exact match without."""
    metrics = {"latent_nll": list(enumerate(nll, 1)), "latent_em": list(enumerate(em, 1))}
    if text_nll is not None:
        metrics["text_nll"] = [(len(nll), text_nll)]
    declared = {
        "latent_nll": MetricSpec(kind="teacher-forced", condition="latent", against="text_nll" if text_nll else None),
        "latent_em": MetricSpec(kind="free-running", condition="latent", items=items, chance=chance),
    }
    findings = advisories(metrics, declared, full_steps=FULL_STEPS)
    return next(finding for finding in findings if finding.id == "exposure-bias[latent_em]")


def test_a_loss_below_its_reference_without_a_generated_answer_warns() -> None:
    """A real run's numbers: 10.40 against 13.68, and no exact match of 200, in one evaluation."""
    finding = exposed([10.40], [0.0], text_nll=13.68)
    assert (finding.status, finding.reason) == ("warn", "exposure-bias")
    assert finding.text == (
        "latent_nll is 10.4 at step 1, better than text_nll at 13.68 (-24 %); latent_em is 0.00 % at step 1 and was "
        "never better than chance (0.00 %): 0 of 200 items, at most 1.49 % with 95 % confidence. "
        "The model scores reference answers well but generates none of them (exposure bias)"
    )
    assert "scheduled sampling" in finding.hint


def test_only_an_improvement_beyond_noise_counts() -> None:
    falling = noisy(lambda at: 13 - 0.5 * at, 8, 0.05)
    assert exposed(falling, [0.0] * 8).reason == "exposure-bias"
    assert exposed(falling, [0.0] * 8, items=None).reason == "exposure-bias"
    assert exposed(noisy(lambda at: 13.0, 8, 0.05), [0.0] * 8).reason == "no-improvement"
    assert exposed(noisy(lambda at: 13 + 0.5 * at, 8, 0.05), [0.0] * 8).reason == "no-improvement"


def test_one_generated_item_passes_if_chance_is_zero() -> None:
    assert exposed([13, 10], [0.0, 0.005]).status == "pass"
    assert "the model generates correct answers" in exposed([13, 10], [0.0, 0.005]).text


def test_generation_at_a_chance_level_above_zero_warns() -> None:
    finding = exposed(noisy(lambda at: 13 - 0.5 * at, 8, 0.05), [0.1] * 8, chance=0.1)
    assert finding.status == "warn"
    assert "generates them no better than chance" in finding.text


def test_metrics_of_different_conditions_are_not_compared() -> None:
    declared = {
        "text_nll": MetricSpec(kind="teacher-forced", condition="text"),
        "latent_em": MetricSpec(kind="free-running", condition="latent", items=200),
    }
    metrics = {"text_nll": [(1, 9.0), (2, 3.0)], "latent_em": [(1, 0.0), (2, 0.0)]}
    assert not [f for f in advisories(metrics, declared, full_steps=9) if f.id.startswith("exposure-bias")]

"""The labels of `benchmarks/training_families.py`, on curves whose truth is known."""

import importlib
import math
import random
from pathlib import Path
from types import ModuleType

import pytest

WINDOW = 400


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("families.labels")


def fall(step: int) -> float:
    return 1.0 + 2.0 * math.exp(-step / 40)


def curve(level=fall, noise=0.05, seed=0, **facts):
    """Training losses around `level`, and slice losses equal to it."""
    rng = random.Random(seed)
    steps = list(range(0, WINDOW, 4))
    return {
        "losses": [level(s) + rng.gauss(0, noise) for s in range(WINDOW)],
        "score_steps": steps,
        "scores": [level(s) for s in steps],
        **facts,
    }


def label(labels: ModuleType, facts: dict) -> tuple[str, str]:
    found = labels.label_window(labels.Recorded(**facts), WINDOW)
    return found.label, found.why


def test_a_smooth_fall_is_healthy(labels):
    assert label(labels, curve()) == ("healthy", "")


@pytest.mark.parametrize(("noise", "expected"), [(0.05, "unstable-visible"), (2.0, "unstable-hidden")])
def test_a_lasting_rise_is_visible_only_above_the_noise_of_the_training_losses(labels, noise, expected):
    facts = curve(lambda step: fall(step) + (0.2 if step >= 300 else 0), noise=noise)
    found = labels.label_window(labels.Recorded(**facts), WINDOW)
    assert found.label == expected
    assert found.onset == pytest.approx(300, abs=8)


def test_a_rise_between_one_and_three_gates_is_grey(labels):
    assert label(labels, curve(lambda step: fall(step) + (0.05 if step >= 300 else 0))) == ("grey", "wander")


def test_a_burst_that_recovers_within_two_percent_of_the_window_is_grey(labels):
    assert label(labels, curve(lambda step: fall(step) + (0.5 if 300 <= step < 307 else 0))) == ("grey", "burst")


def test_a_loss_that_is_not_finite_is_visible_from_its_step_on(labels):
    facts = curve()
    facts["losses"][250:] = [math.nan]
    facts["score_steps"], facts["scores"] = facts["score_steps"][:63], facts["scores"][:63]
    found = labels.label_window(labels.Recorded(**facts), WINDOW)
    assert (found.label, found.why, found.onset) == ("unstable-visible", "non-finite", 250)


def test_a_flat_slice_is_dead_only_when_trained_from_scratch(labels):
    assert label(labels, curve(lambda step: 2.3)) == ("dead", "chance")
    assert label(labels, curve(lambda step: 2.3, from_scratch=False)) == ("healthy", "")


def test_training_losses_that_rise_by_content_alone_are_healthy(labels):
    facts = curve(ordered=True, pass_steps=100)
    facts["losses"] = [loss + s % 100 / 50 for s, loss in enumerate(facts["losses"])]
    assert label(labels, facts) == ("healthy", "content")


def test_forgetting_within_each_pass_of_ordered_data_is_a_shift(labels):
    facts = curve(lambda step: fall(step) + 0.3 * math.sin(math.tau * step / 40), ordered=True, pass_steps=40)
    assert label(labels, facts) == ("shift", "forgetting")

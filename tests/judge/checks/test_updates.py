"""The `updates` check."""

from __future__ import annotations

from pytest_smoke.events import Updates
from pytest_smoke.judge.checks.updates import updates


def test_parameters_that_were_not_updated_are_named_and_explained() -> None:
    """Five by name, the rest as a count."""
    names = tuple(f"layer{i}.weight" for i in range(7))
    finding = updates(Updates(unchanged=names, without_gradient=names[:2], outside_optimizer=names[:3], checked=20))
    assert (finding.status, finding.reason) == ("fail", "parameters-not-updated")
    assert finding.text == (
        "7 of 20 trainable parameters did not change: layer0.weight, layer1.weight, layer2.weight, layer3.weight, "
        "layer4.weight and 2 more (3 not in the optimizer, 2 without a gradient)"
    )


def test_frozen_parameters_that_changed_are_named() -> None:
    moved = updates(
        Updates(unchanged=(), without_gradient=(), outside_optimizer=(), checked=2, changed_frozen=("head.bias",))
    )
    assert (moved.status, moved.reason) == ("fail", "frozen-parameter-changed")
    assert moved.text == "1 frozen parameter changed: head.bias"


def test_parameters_that_did_not_change_come_before_frozen_ones_that_did() -> None:
    """They are the more likely mistake."""
    both = updates(
        Updates(
            unchanged=("a",), without_gradient=("a",), outside_optimizer=(), checked=2, changed_frozen=("head.bias",)
        )
    )
    assert both.reason == "parameters-not-updated"


def test_a_run_in_which_every_parameter_changed_passes() -> None:
    passed = updates(Updates(unchanged=(), without_gradient=(), outside_optimizer=(), checked=4))
    assert (passed.status, passed.text) == ("pass", "all 4 trainable parameters changed")

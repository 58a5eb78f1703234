"""Properties of loading that hold for any data and any bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_smoke.recipe.load import load_recipe
from tests.recipe.texts import GOOD, attempt

# PyYAML quotes text where it must, so any of these is read back unchanged, or refused.
plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(args=st.dictionaries(st.text(), plain_data, max_size=4), flow=st.sampled_from([None, True, False]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_pyyaml_dumps_is_loaded_unchanged_or_refused(root: Path, args: dict[str, Any], flow: bool | None) -> None:
    data = {
        "task": "a_task:Task",
        "args": args,
        "full": {"batch_size": 8, "learning_rate": 1.5, "max_steps": 100},
        "smoke": {"max_steps": 100},
    }
    (root / "r.smoke.yaml").write_text(yaml.safe_dump(data, default_flow_style=flow))
    loaded, faults = attempt(root / "r.smoke.yaml", root)
    if loaded:
        assert loaded.args == args
    assert all("quote it" in fault.text or "too large" in fault.text for fault in faults)


counts = st.integers(1, 10**9)
positives = st.floats(1e-9, 1e9)


@given(
    full=st.fixed_dictionaries(
        {"batch_size": counts, "learning_rate": positives, "max_steps": counts},
        optional={
            "grad_accum_steps": counts,
            "warmup_steps": st.integers(0, 10**9),
            "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
            "grad_clip_norm": positives | st.none(),
            "loss_weights": st.dictionaries(st.sampled_from(["ce", "crf"]), st.floats(-9, 9)),
            "from_scratch": st.booleans(),
        },
    ),
    smoke=st.fixed_dictionaries({"max_steps": counts}, optional={"seed": counts, "mode": st.just(["wiring"])}),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_setting_keeps_its_value_and_type(root: Path, full: dict[str, Any], smoke: dict[str, Any]) -> None:
    (root / "r.smoke.yaml").write_text(yaml.safe_dump({"task": "a_task:Task", "full": full, "smoke": smoke}))
    recipe = load_recipe(root / "r.smoke.yaml", root=root)
    assert recipe.full.model_dump(exclude_unset=True) == full
    assert recipe.smoke.model_dump(exclude_unset=True) == smoke


@given(
    st.binary(max_size=200)
    | st.text(st.sampled_from("ab:-[]{}&*!#|>'\"%@`?,. \n\t01e~<="), max_size=80).map(str.encode)
    | st.tuples(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=3)).map(
        lambda cut: GOOD.encode()[: cut[0]] + cut[1] + GOOD.encode()[cut[0] :]
    )
)
@example(b"\xef\xbb\xbf\xef\xbb\xbf")
@example("a: \ufeff".encode())
@example(b"%YAML 3.0\n---\na: 1")
@example(b"? ? ? ?")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_bytes_give_a_recipe_or_faults_with_a_place(root: Path, raw: bytes) -> None:
    (root / "r.smoke.yaml").write_bytes(raw)
    loaded, faults = attempt(root / "r.smoke.yaml", root)
    assert bool(loaded) != bool(faults)
    assert all(fault.line >= 1 and fault.column >= 1 and "\n" not in fault.text for fault in faults)

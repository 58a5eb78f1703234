"""Every way in which the gate refuses, with its sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke import environment, gate
from pytest_smoke.errors import GateError, SmokeError
from pytest_smoke.receipts import comparison
from pytest_smoke.receipts.canonical import fingerprint
from pytest_smoke.receipts.check import Policy, check, override, parse_age, parse_requirement
from pytest_smoke.receipts.folder import receipt_of, signature_of, write
from pytest_smoke.receipts.receipt import read_receipt
from pytest_smoke.receipts.signing import OVERRIDE_NAMESPACE, Trust
from pytest_smoke.roots import root_above
from tests.receipts.conftest import NOW, VERSIONS, Keys, Project
from tests.receipts.test_receipt import TREES, sealed

ID = "lm.smoke.yaml::constant"
WRITE = "write FILE::MODE or FILE::MODE[CELL], where MODE is constant or long-tail"
HOW = "; a promotion with `pytest --smoke --smoke-report DIR` writes one"
FILE = f"out/receipts/{receipt_of(ID)}"


def test_an_unchanged_project_passes(project: Project) -> None:
    (accepted,) = project.check(max_age=timedelta(days=7), require={"device": "cuda", "precision": "fp32"})
    assert accepted.receipt.verdict == "promote"
    assert accepted.notes == ("the receipt is not signed",)


def test_the_folder_of_receipts_may_be_named_itself(project: Project) -> None:
    assert project.check(receipts=project.receipts)


def test_edits_that_change_nothing_pass(project: Project) -> None:
    project.edit("5.0e-4", "0.0005  # peak")
    project.edit("task: model:Model\n", "")
    project.recipe.write_text(f"{project.recipe.read_text()}requires: {{device: cuda}}\ntask: model:Model\n")
    (project.root / "notes.py").write_text("")
    assert project.check()


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda p: p.edit("5.0e-4", "1.0e-3"), "learning_rate 5e-4 -> 1e-3"),
        (lambda p: p.edit("max_steps: 400", "max_steps: 500"), "smoke.max_steps 400 -> 500"),
        (lambda p: p.edit("hidden_size: 16", "hidden_size: 32"), "args.hidden_size 16 -> 32"),
        (lambda p: p.edit("hidden_size: 16", "hidden_size: 16, depth: 2"), "args.depth not set -> 2"),
        (lambda p: p.edit("> 0.5", "> 0.6"), "checks.accept val_f1 > 0.5 -> val_f1 > 0.6"),
        (lambda p: (p.root / "model.py").write_text("def Model(**args): ...\n"), "model.py changed"),
        (lambda p: (p.root / "data" / "train.txt").write_text("another"), "data/train.txt changed"),
        (lambda p: (p.root / "data" / "train.txt").unlink(), "data/train.txt is missing"),
    ],
)  # fmt: skip
def test_a_change_that_matters_is_named(project: Project, edit: Callable[[Project], Any], what: str) -> None:
    (project.root / "model.py").write_text("class Model:\n    def __init__(self, hidden_size, depth=1): ...\n")
    project.write()
    edit(project)
    assert project.refusal() == f"{ID} changed since its smoke run: {what}"


def test_three_changes_are_named_and_the_rest_is_counted(project: Project) -> None:
    project.edit("5.0e-4", "1.0e-3")
    project.edit("batch_size: 8", "batch_size: 16")
    project.edit("world_size: 8", "world_size: 4")
    (project.root / "data" / "train.txt").write_text("another")
    text = project.refusal()
    named = "learning_rate 5e-4 -> 1e-3, batch_size 8 -> 16, world_size 8 -> 4"
    assert text == f"{ID} changed since its smoke run: {named} and 1 more"


def test_a_removed_module_is_named(project: Project) -> None:
    extra = project.root / "layers.py"
    extra.write_text("")
    receipt = project.receipt()
    files = {**receipt.inputs["files"], "layers.py": "0" * 64, "no/such.py": "0" * 64}
    project.write(replace(receipt, inputs={**receipt.inputs, "files": files}))
    text = project.refusal()
    assert text == f"{ID} changed since its smoke run: layers.py changed and no/such.py is missing"


def test_a_config_that_the_recipe_reads_is_compared_by_its_content(project: Project) -> None:
    config = project.root / "full.yaml"
    config.write_text("lr: 5e-4\nmax_steps: 5000\nweight_decay: 0.1\n")
    project.edit("  learning_rate: 5.0e-4\n  max_steps: 5000\n", "")
    rest = "lr_schedule: cosine\n  warmup_steps: 0\n  precision: fp32\n  grad_clip_norm: null\n  grad_accum_steps: 1"
    project.edit("full:\n", f"full:\n  from: full.yaml\n  {rest}\n")
    project.write()
    config.write_text("# comment\nmax_steps: 5000\nlr: 5e-4\nweight_decay: 0.1\n")
    assert project.check()
    config.write_text("lr: 5e-4\nmax_steps: 5000\nweight_decay: 0.2\n")
    assert project.refusal() == f"{ID} changed since its smoke run: full.yaml changed"


@pytest.mark.parametrize(
    ("then", "now", "result"),
    [
        ("2.13.0", "2.14.1", "torch 2.13.0 -> 2.14.1"),
        ("2.13.0+cu130", "2.14.1+cpu", "torch 2.13.0 -> 2.14.1"),
        ("2.13.0", "2.13.1", ("torch 2.13.0 -> 2.13.1",)),
        ("2.13.0+cu130", "2.13.0+cpu", ("torch 2.13.0+cu130 -> 2.13.0+cpu",)),
        ("2.13.0", None, ("torch 2.13.0 was used, and is not installed here",)),
        ("2.13.0", "2.13.0", ()),
    ],
)
def test_another_release_of_torch_is_refused_and_another_patch_is_a_note(
    project: Project, monkeypatch: pytest.MonkeyPatch, then: str, now: str | None, result: str | tuple[str, ...]
) -> None:
    monkeypatch.setattr(comparison, "version_of", lambda name: now if name == "torch" else environment.version_of(name))
    project.write(project.receipt(versions={**VERSIONS, "torch": then}))
    if isinstance(result, str):
        assert project.refusal() == f"{ID} changed since its smoke run: {result}"
        assert project.check(require={"torch": "2.13"})  # what is required is not compared with what is installed
    else:
        assert project.check()[0].notes == (*result, "the receipt is not signed")


def test_another_version_of_the_judge_is_a_note(project: Project) -> None:
    project.write(project.receipt(versions={**VERSIONS, "pytest-verdict-smoke": "0.0.1"}))
    (note, _) = project.check()[0].notes
    assert note.startswith("pytest-verdict-smoke 0.0.1 gave the verdict, and ")


def test_data_that_are_not_here_can_be_left_out(project: Project) -> None:
    shutil.rmtree(project.root / "data")
    assert project.check(with_data=False)[0].notes[0] == "data files were not compared"


def test_without_a_receipt_the_gate_says_where_it_looked(project: Project) -> None:
    other = project.root / "other.smoke.yaml"
    other.write_text("extends: lm.smoke.yaml\n")
    assert project.refusal(other) == f"other.smoke.yaml::constant has no receipt in out{HOW}"
    text = project.refusal(receipts=project.root / "nowhere")
    assert text == f"{ID} has no receipt: there is no folder nowhere{HOW}"
    text = project.refusal(receipts=project.root / "model.py")
    assert text == f"{ID} has no receipt: model.py is not a folder{HOW}"


def test_a_verdict_that_was_not_a_promotion_is_said(project: Project) -> None:
    project.path.unlink()
    project.write(project.receipt(verdict="hold"))
    assert project.refusal() == (
        f"the verdict on {ID} is hold (criterion-failed), not promote: val_f1 was 0.41 at step 399, must be > 0.5"
    )
    shutil.copy(project.receipts / "refused" / receipt_of(ID), project.path)
    assert project.refusal() == f"the verdict on {ID} is hold (criterion-failed), not promote"


def test_a_receipt_that_is_too_old_or_from_the_future_is_refused(project: Project) -> None:
    age = timedelta(hours=1)
    assert project.refusal(max_age=age) == f"the receipt of {ID} is 2 h old; the limit is 1 h"
    late = NOW + timedelta(days=9, hours=3)
    text = project.refusal(max_age=timedelta(days=7), now=late)
    assert text == f"the receipt of {ID} is 9 d 5 h old; the limit is 7 d"
    early = NOW - timedelta(hours=3)
    assert project.refusal(now=early) == (
        f"the receipt of {ID} is from the future: 2026-11-26T10:00:00+00:00, 1 h from now; check the clocks"
    )
    assert project.check(now=NOW - timedelta(hours=2, minutes=4))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("device", "cpu", "device is cuda, required cpu"),
        ("precision", "bf16", "precision is fp32, required bf16"),
        ("world_size", "8", "world_size is 1 (8 folded onto one device), required 8"),
        ("mode", "long-tail", "mode is constant, required long-tail"),
        ("python", "3.12", "python is 3.11.7, required 3.12"),
        ("git", "clean", "files differed from git commit 0123456789ab, required git=clean"),
        ("git", "fedcba9876", "git commit is 0123456789ab, required fedcba9876"),
        ("git", "0123", "git commit is 0123456789ab, required 0123"),
        ("devise", "cuda", "its receipt has no devise; did you mean device?"),
    ],
)
def test_a_requirement_that_is_not_met_is_said(project: Project, key: str, value: str, sentence: str) -> None:
    assert project.refusal(require={key: value}) == f"{ID}: {sentence}"


def test_requirements_that_are_met_pass(project: Project) -> None:
    require = {
        "device": "cuda",
        "device_name": "NVIDIA H100",
        "python": "3.11",
        "git": "0123456789",
        "isolation": "process",
    }
    assert project.check(require=require)


def test_a_receipt_of_another_run_is_refused_under_a_new_name(project: Project) -> None:
    other = project.root / "other.smoke.yaml"
    other.write_text("extends: lm.smoke.yaml\n")
    renamed = project.receipts / receipt_of("other.smoke.yaml::constant")
    shutil.copy(project.path, renamed)
    text = project.refusal(other)
    assert text == f"{renamed} is the receipt of {ID}, not of other.smoke.yaml::constant".replace(
        f"{project.root}/", ""
    )


def test_a_signed_receipt_of_another_run_is_refused_under_a_new_name(project: Project, keys: Keys) -> None:
    other = project.root / "other.smoke.yaml"
    other.write_text("extends: lm.smoke.yaml\n")
    renamed = project.receipts / receipt_of("other.smoke.yaml::constant")
    project.write(key=keys["gpu"])
    shutil.copy(project.path, renamed)
    shutil.copy(signature_of(project.path), signature_of(renamed))
    trust = Trust(allowed_signers=keys.allowed({"runner": "gpu"}, file="replay-allowed"))
    assert f"is the receipt of {ID}, not of" in project.refusal(other, trust=trust)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Return a project, and its receipt as JSON."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.path.parent.mkdir(parents=True)
    return project, json.dumps(project.receipt().to_dict())


@given(data=st.data(), value=TREES)
def test_whatever_is_in_a_receipt_the_gate_passes_or_raises_a_gate_error(
    fuzzed: tuple[Project, str], data: st.DataObject, value: Any
) -> None:
    """Whoever has no key can make a right SHA-256."""
    project, text = fuzzed
    tree = json.loads(text)
    places = [(tree, key) for key in sorted(tree.keys() - {"id", "recipe", "mode", "cell", "format", "schema"})]
    places += [(part, key) for part in (tree["inputs"], tree["tested"], tree["versions"]) for key in sorted(part)]
    inputs = tree["inputs"]
    places += [(inputs["files"], "model.py"), (inputs["data"], "data/train.txt"), (inputs["recipe"], "full")]
    target, key = data.draw(st.sampled_from(places))
    before, target[key] = target[key], value
    if data.draw(st.booleans()) and isinstance(value, str) and value != key:
        target[value] = before  # any text as a path, a condition or a library
        del target[key]
    project.path.write_bytes(sealed(tree))
    with suppress(GateError):
        project.check(require={"device": "cuda"}, accept_overrides=True)


def test_an_edited_or_garbled_receipt_is_refused(project: Project) -> None:
    good = project.path.read_text()
    project.path.write_text(good.replace('"precision": "fp32"', '"precision": "bf16"', 1))
    assert project.refusal() == f"{FILE} was edited: its SHA-256 does not match its content"
    project.path.write_text(good[: len(good) // 2])
    assert project.refusal().startswith(f"{FILE}:")
    project.path.write_text("{}")
    assert project.refusal() == f"{FILE} is not a receipt: its format is not pytest-smoke-receipt"
    project.path.unlink()
    project.path.symlink_to("nowhere")
    assert project.refusal() == f"{FILE} file not found"


def test_two_receipts_and_a_receipt_of_another_rootdir_are_refused(project: Project) -> None:
    twice = project.root / "out" / project.path.name
    shutil.copy(project.path, twice)
    assert project.refusal() == f"{ID} has two receipts, out/{project.path.name} and {FILE}: remove one of them"
    twice.unlink()
    below = project.root / "sub"
    below.mkdir()
    shutil.copy(project.recipe, below)
    shutil.copy(project.root / "model.py", below)
    (below / "pytest.ini").write_text("[pytest]\n")
    moved = project.receipt()
    project.path.unlink()
    write(
        project.receipts / receipt_of("sub/lm.smoke.yaml::constant"),
        replace(moved, id="sub/lm.smoke.yaml::constant"),
        key=None,
    )
    hint = "if that is this file, set the rootdir of its session with --root"
    sentence = f"{ID} has no receipt in out; it has one for sub/lm.smoke.yaml::constant: {hint}"
    assert project.refusal(below / "lm.smoke.yaml") == sentence


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("nothing.smoke.yaml", "there is no recipe nothing.smoke.yaml"),
        ("nul\0.smoke.yaml", r"there is no recipe nul\x00.smoke.yaml"),
        ("lm.smoke.yaml::fast", f"lm.smoke.yaml::fast names no smoke run: {WRITE}"),
        ("out", "out is a folder, not a recipe"),
        ("lm.smoke.yaml::wiring", "lm.smoke.yaml::wiring is a wiring run, which is never promoted"),
        ("lm.smoke.yaml::constant[wide]", "lm.smoke.yaml has no ablation cells"),
        ("lm.smoke.yaml::long-tail", f"lm.smoke.yaml::long-tail has no receipt in out{HOW}"),
    ],
)  # fmt: skip
def test_a_recipe_that_names_no_smoke_run_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, recipe: str, sentence: str
) -> None:
    monkeypatch.chdir(project.root)
    assert project.refusal(recipe) == sentence


def test_a_rootdir_that_is_no_folder_is_refused(project: Project) -> None:
    assert project.refusal(root=Path("nowhere")) == "the rootdir nowhere is not a folder"


def test_without_a_configuration_file_the_rootdir_is_that_of_pytest(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "pytest.ini").unlink()
    if root_above(project.root) is not None:
        pytest.skip("a folder above the temporary one is a root")
    (project.root / "data" / "deep").mkdir()
    for folder in ("", "data", "data/deep"):
        monkeypatch.chdir(project.root / folder)
        assert project.check(os.path.relpath(project.recipe))


def test_links_to_the_project_and_to_a_recipe_are_followed_as_by_pytest(project: Project, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(project.root, target_is_directory=True)
    assert project.check(link / "lm.smoke.yaml")
    assert project.check(project.recipe, root=link)
    (project.root / "other.smoke.yaml").symlink_to(project.recipe)
    assert project.refusal(project.root / "other.smoke.yaml").startswith("other.smoke.yaml::constant has no receipt")


def test_a_recipe_with_faults_is_refused_with_its_line(project: Project) -> None:
    project.edit("batch_size: 8", "batchsize: 8\n  learn: 1")
    text = project.refusal()
    assert text.startswith("lm.smoke.yaml:4:3: ")
    assert text.endswith(" (and 2 more faults)")
    project.recipe.write_text(": [")
    assert project.refusal().startswith("lm.smoke.yaml:1:")


def test_modes_and_cells_have_receipts_of_their_own(project: Project) -> None:
    project.edit("smoke: {max_steps: 400}", "smoke: {max_steps: 12000, mode: [constant, long-tail, wiring]}")
    project.recipe.write_text(f"{project.recipe.read_text()}ablate: {{wide: {{args.hidden_size: 32}}}}\n")
    project.write()
    assert project.refusal() == f"lm.smoke.yaml::long-tail has no receipt in out{HOW}"
    project.write(project.receipt("long-tail"))
    assert [one.receipt.mode for one in project.check()] == ["constant", "long-tail"]
    cell = f"{project.recipe}::constant[wide]"
    assert project.refusal(cell) == f"lm.smoke.yaml::constant[wide] has no receipt in out{HOW}"
    project.write(project.receipt("constant[wide]"))
    assert project.check(cell)[0].receipt.cell == "wide"
    project.edit("args.hidden_size: 32", "args.hidden_size: 64")
    text = project.refusal(cell)
    assert text == "lm.smoke.yaml::constant[wide] changed since its smoke run: args.hidden_size 32 -> 64"
    assert project.check(f"{project.recipe}::constant")


def test_a_recipe_whose_only_mode_is_wiring_is_refused(project: Project) -> None:
    project.edit("smoke: {max_steps: 400}", "smoke: {max_steps: 400, mode: wiring}")
    assert project.refusal().endswith("is wiring, which is never promoted: name one, as lm.smoke.yaml::constant")


def test_only_signed_receipts_of_allowed_keys_pass_with_allowed_signers(project: Project, keys: Keys) -> None:
    trust = Trust(allowed_signers=keys.allowed({"runner": "gpu"}, file="receipts-allowed"))
    assert project.refusal(trust=trust) == f"{FILE} is not signed: there is no {project.path.name}.sig"
    for missing in (replace(trust, allowed_signers=Path("no-file")), replace(trust, revoked_keys=Path("no-file"))):
        assert project.refusal(trust=missing) == "no-file: file not found"
    project.write(key=keys["gpu"])
    assert project.check(trust=trust)[0].signer == "runner"
    assert project.check()[0].notes == ("the signature was not verified",)
    edited = replace(project.receipt(), text="another run")
    project.path.write_text(edited.to_text())
    assert project.refusal(trust=trust) == f"{FILE} has an invalid signature: it does not match the content"
    project.write(edited, key=keys["stranger"])
    assert "that" in project.refusal(trust=trust)
    assert project.refusal(trust=trust).startswith(f"{FILE} is signed by the key SHA256:")


def test_an_override_needs_a_reason_and_is_accepted_only_on_demand(project: Project) -> None:
    project.path.unlink()
    project.write(project.receipt(verdict="hold"))
    policy = Policy(receipts=project.root / "out")
    with pytest.raises(GateError, match=r"^an override needs a reason$"):
        override(str(project.recipe), policy, reason=" ", by="ada")
    path, receipt = override(str(project.recipe), policy, reason="known\nflaky metric", by="ada", now=NOW)
    write(path, receipt, key=None)
    sentence = r"the verdict hold (criterion-failed) was overridden by ada on 2026-11-26: known\nflaky metric"
    assert project.refusal() == f"{ID}: {sentence}; --accept-overrides accepts that"
    (accepted,) = project.check(accept_overrides=True)
    assert (accepted.receipt.verdict, accepted.receipt.override) == ("hold", receipt.override)
    project.edit("5.0e-4", "1.0e-3")  # an override is for these inputs alone
    assert "learning_rate 5e-4 -> 1e-3" in project.refusal(accept_overrides=True)
    with pytest.raises(GateError, match=rf"^{ID} was overridden before: remove .*\.json to override it again$"):
        override(str(project.recipe), policy, reason="again", by="ada")


def test_what_did_not_run_or_was_promoted_cannot_be_overridden(project: Project) -> None:
    policy = Policy(receipts=project.root / "out")
    with pytest.raises(GateError, match=r"there is no verdict to override$"):
        override(str(project.recipe), policy, reason="because", by="ada")
    project.path.unlink()
    with pytest.raises(GateError, match=r"that could be overridden: run it first$"):
        override(str(project.recipe), policy, reason="because", by="ada")


def test_with_allowed_signers_both_the_run_and_its_override_must_be_signed(project: Project, keys: Keys) -> None:
    lines = {'runner namespaces="pytest-smoke-receipt"': "gpu", 'lead namespaces="pytest-smoke-override"': "person"}
    trust = Trust(allowed_signers=keys.allowed(lines, file="both-allowed"), identity="runner")
    policy = Policy(receipts=project.root / "out")
    refused = project.receipt(verdict="hold")
    project.path.unlink()

    def overridden(runner: str | None, person: str | None) -> None:
        project.path.unlink(missing_ok=True)
        project.write(refused, key=keys[runner] if runner else None)
        path, receipt = override(str(project.recipe), policy, reason="known", by="ada", now=NOW)
        write(path, receipt, key=keys[person] if person else None, namespace=OVERRIDE_NAMESPACE)

    overridden("gpu", "person")
    (accepted,) = project.check(trust=trust, accept_overrides=True)
    assert (accepted.signer, accepted.override_signer) == ("runner", "lead")
    assert "--accept-overrides" in project.refusal(trust=trust)
    overridden("gpu", None)
    assert project.refusal(trust=trust, accept_overrides=True).startswith(f"{FILE} is not signed")
    overridden(None, "person")
    assert project.refusal(trust=trust, accept_overrides=True) == (
        f"{FILE} was overridden, but the receipt of its smoke run was not signed"
    )
    for runner, person in (("gpu", "gpu"), ("person", "person"), ("stranger", "person"), ("gpu", "stranger")):
        overridden(runner, person)
        assert "does not allow in the namespace" in project.refusal(trust=trust, accept_overrides=True)
    overridden("gpu", "person")
    override_of = read_receipt(project.path)[0].override
    write(
        project.path,
        replace(refused, findings=(), override=override_of),
        key=keys["person"],
        namespace=OVERRIDE_NAMESPACE,
    )
    assert project.refusal(trust=trust, accept_overrides=True) == (
        f"the overridden receipt in {FILE} has an invalid signature: it does not match the content"
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("1.5w", 907_200)]
)
def test_ages_are_parsed(text: str, seconds: float) -> None:
    assert parse_age(text).total_seconds() == seconds


@given(text=st.text(max_size=12))
def test_other_ages_and_requirements_are_refused(text: str) -> None:
    for parse in (parse_age, parse_requirement):
        with suppress(GateError):
            parse(text)


@given(text=st.text(max_size=40))
def test_any_recipe_argument_is_refused_with_a_smoke_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(SmokeError):
        check(text, Policy(receipts=Path(os.devnull)))


def test_the_public_function_takes_texts_and_returns_the_receipt(project: Project) -> None:
    project.write(project.receipt(ended_at=datetime.now(UTC).isoformat()))
    receipt = gate.require(project.recipe, receipts=project.root / "out", require=["device=cuda"])
    assert receipt.id == ID
    assert gate.require(project.recipe, receipts=project.root / "out", require="device=cuda") == receipt
    with pytest.raises(GateError, match="required cpu") as refused:
        gate.require(str(project.recipe), receipts=str(project.root / "out"), require={"device": "cpu"})
    assert refused.value.reason == "unmet-requirement"
    for wrong in (
        {"max_age": "week"},
        {"max_age": 7},
        {"identity": "runner"},
        {"require": ["device"]},
        {"require": "device"},
    ):
        with pytest.raises(GateError) as refused:
            gate.require(project.recipe, receipts=project.root / "out", **wrong)
        assert refused.value.reason == "bad-argument"
    assert signature_of(project.path).name.endswith(".json.sig")


def test_a_receipt_of_a_version_that_knew_fewer_keys_holds_if_they_have_their_defaults(project: Project) -> None:
    project.edit("checks: {", "metrics: {val_f1: {better: higher}}\nchecks: {")
    receipt = project.receipt()
    recipe = json.loads(json.dumps(receipt.inputs["recipe"]))
    del recipe["checks"]["overfit"], recipe["smoke"]["steps_per_epoch"], recipe["metrics"]["val_f1"]["chance"]
    del recipe["env"], recipe["full"]["precision"]
    inputs = {**receipt.inputs, "recipe": recipe, "recipe_sha256": fingerprint(recipe)}
    project.write(replace(receipt, inputs=inputs))
    assert project.check()
    project.edit("smoke: {", "smoke: {steps_per_epoch: 10, ")
    project.edit("batch_size: 8", "batch_size: 8\n  precision: bf16")
    project.edit("checks: {", "checks: {overfit: true, ")
    project.edit("better: higher", "better: higher, chance: 0.1")
    text = project.refusal()
    assert text == f"{ID} changed since its smoke run: precision not set -> bf16, checks.overfit not set -> true, " + (
        "metrics.val_f1.chance not set -> 0.1 and 1 more"
    )

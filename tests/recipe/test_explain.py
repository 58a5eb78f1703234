"""Values that the model refuses: which key, what its value is, and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.recipe.texts import FULL, HEAD, SMOKE, Faults, check

FIELDS = [
    ("full.batch_size", "0", ["is 0", "1 or more"]),
    ("full.batch_size", "-8", ["is -8", "1 or more"]),
    ("full.batch_size", "8.0", ["is 8.0", "a whole number"]),
    ("full.batch_size", "'8'", ["the text '8'", "a whole number"]),
    ("full.batch_size", "true", ["is true", "a whole number"]),
    ("full.batch_size", "", ["empty (null)", "a whole number"]),
    ("full.batch_size", "[8]", ["is a list", "a whole number"]),
    ("full.batch_size", "{a: 8}", ["is a mapping", "a whole number"]),
    ("full.max_steps", "1" + "0" * 13, ["full.max_steps", "1,000,000,000,000 or less"]),
    ("full.warmup_steps", "-1", ["is -1", "0 or more"]),
    ("full.learning_rate", "0", ["is 0", "greater than 0"]),
    ("full.learning_rate", ".inf", ["is .inf", "a finite number"]),
    ("full.learning_rate", "fast", ["the text 'fast'", "a number"]),
    ("full.lr_schedule", "cosin", ["'cosin'", "constant, cosine, linear", "did you mean cosine?"]),
    ("full.precision", "bfloat16", ["'bfloat16'", "fp32, bf16 or fp16"]),
    ("full.grad_clip_norm", "0", ["is 0", "greater than 0"]),
    ("full.loss_weights", "{ce: heavy}", ["loss_weights.ce", "'heavy'", "a number"]),
    ("full.from_scratch", "1", ["is 1", "true or false"]),
    ("smoke.mode", "longtail", ["'longtail'", "constant, long-tail or wiring", "did you mean long-tail?"]),
    ("smoke.mode", "[constant, tail]", ["smoke.mode[1]", "'tail'", "constant, long-tail or wiring"]),
    ("smoke.mode", "[]", ["smoke.mode has 0 entries", "at least 1"]),
    ("smoke.mode", "3", ["is 3", "constant, long-tail or wiring"]),
    ("smoke.change", "new-los", ["'new-los'", "did you mean new-loss?"]),
    ("smoke.batch_size", "", ["empty (null)", "leave the key out to inherit"]),
    ("smoke.seed", "-1", ["is -1", "0 or more"]),
    ("smoke.run_steps", "101", ["smoke.run_steps", "101 is more than smoke.max_steps, which is 100"]),
    ("checks.accept", "loss < 1", ["the text 'loss < 1'", "a list"]),
    ("checks.accept", "[3]", ["checks.accept[0] is 3", "text"]),
    ("checks.grad_ratio", "{a/b: [8, 0.01]}", ["a/b", "low bound 8", "high bound 0.01", "[low, high]"]),
    ("checks.grad_ratio", "{a/b: [1]}", ["has 1 bound;", "[low, high]"]),
    ("checks.grad_ratio", "{a/b: [-1, 1]}", ["a/b[0] is -1", "0 or more"]),
    ("checks.grad_ratio", "{a/b: [.nan, 1]}", [".nan is not allowed", "write a finite number, or null"]),
    ("checks.grad_ratio", "{a/b: [1, .inf]}", ["a/b[1] is .inf", "finite number"]),
    ("checks.grad_ratio", "{a/b: [null, null]}", ["a/b: neither side has a bound", "null on one side at most"]),
    ("checks.grad_ratio", "{a/b: [0, null]}", ["a/b: neither side has a bound"]),
    ("checks.grad_ratio", "{a/b: [null, 0]}", ["a/b: a high bound of 0 allows no gradient"]),
    ("checks.grad_ratio", "{a: [1, 2]}", ["key 'a' in checks.grad_ratio", "two loss terms, as term/term"]),
    ("mix.sources", "{}", ["has 0 entries", "at least 1"]),
    ("mix.sources", "{web: {rows: 0}}", ["mix.sources.web.rows is 0", "1 or more"]),
    ("mix.sources", "{web: {rows: 3, weigth: 1}}", ["unknown key weigth in mix.sources.web", "did you mean weight?"]),
    ("mix.sources", "{web: {rows: 3, weight: 0}}", ["every source has weight 0"]),
    ("mix.sources", "{a: {rows: 3, share: 0.7}, b: {rows: 3, share: 0.7}}", ["add up to 1.4", "at most 1"]),
    ("metrics.f1", "{kind: greedy}", ["metrics.f1.kind", "'greedy'", "teacher-forced or free-running"]),
    ("metrics.f1", "{beter: lower}", ["unknown key beter in metrics.f1", "did you mean better?"]),
    ("metrics.f1", "{items: 0}", ["metrics.f1.items is 0", "1 or more"]),
    (
        "metrics.f1",
        "{items: 200, chance: 25}",
        ["metrics.f1.chance: 25 is not between 0 and 1", "remove items"],
    ),
    ("metrics.f1", "{target: .inf}", ["metrics.f1.target is .inf", "a finite number"]),
    ("ablate", "3", ["is 3", "a mapping"]),
    ("ablate", "{a b: {args.x: 1}}", ["key 'a b' in ablate", "letters, digits"]),
    ("ablate", "{a: {}}", ["ablate.a has 0 entries", "at least 1"]),
    ("requires.device", "gpu", ["'gpu'", "any, cpu, cuda or mps"]),
    ("requires.memory_gib", "-1", ["is -1", "0 or more"]),
    ("requires", "", ["empty (null)", "a mapping, or be left out"]),
    ("args", "[1]", ["is a list", "a mapping"]),
    ("full.batchsize", "8", ["unknown key batchsize in full", "did you mean batch_size?"]),
    ("full.grad-clip-norm", "8", ["unknown key grad-clip-norm in full", "did you mean grad_clip_norm?"]),
    ("full.accept", "[]", ["unknown key accept in full", "belongs under checks"]),
    ("full.zzz", "8", ["unknown key zzz in full", "known: batch_size, grad_accum_steps"]),
    ("learning_rate", "1.0", ["unknown key learning_rate", "belongs under full"]),
    ("smokes", "1.0", ["unknown key smokes", "did you mean smoke?"]),
    ("extend", "a", ["unknown key extend", "did you mean extends?"]),
    ("smoke.ablate", "{}", ["unknown key ablate in smoke", "at the top level"]),
]


@pytest.mark.parametrize(("path", "written", "fragments"), FIELDS)
def test_a_value_that_is_not_allowed_is_named_with_what_is(
    faults: Faults, path: str, written: str, fragments: list[str]
) -> None:
    section, _, key = path.rpartition(".")
    data = {
        "task": "a_task:Task",
        "full": {"batch_size": "8", "learning_rate": "1.0", "max_steps": "100"},
        "smoke": {"max_steps": "100"},
        "mix": {"sources": "{web: {rows: 10}}"},
    }
    target: dict[str, Any] = data.setdefault(section, {}) if section else data  # type: ignore[assignment]
    target[key] = written
    lines = []
    for name, value in data.items():
        inner = [f"  {name}: {text}" for name, text in value.items()] if isinstance(value, dict) else []
        lines += [f"{name}:" if inner else f"{name}: {value}", *inner]
    (fault,) = faults("\n".join(lines))
    check(fault, fragments)
    line = int(fault.partition(":")[0])
    assert key in lines[line - 1], f"the fault is at {lines[line - 1]!r}"


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        (FULL + SMOKE, ["1:1: ", "no key says what trains; add task"]),
        (HEAD + SMOKE, ["1:1: ", "key full is missing"]),
        (HEAD + FULL, ["1:1: ", "key smoke is missing"]),
        (
            HEAD + "full:\n  batch_size: 8\n  max_steps: 9\n" + SMOKE,
            ["3:3: ", "full.learning_rate is missing (peak learning rate"],
        ),
        (HEAD + FULL + "smoke: {}\n", ["3:8: ", "smoke.max_steps is missing"]),
        (HEAD + FULL + SMOKE + "mix: {}\n", ["4:6: ", "mix.sources is missing"]),
        (
            HEAD + FULL + SMOKE + "mix: {sources: {a: {weight: 1}}}\n",
            ["4:20: ", "mix.sources.a.rows is missing", "name a corpus"],
        ),
    ],
)
def test_a_missing_key_is_reported_at_the_enclosing_mapping_with_its_meaning(
    faults: Faults, text: str, fragments: list[str]
) -> None:
    (fault,) = faults(text)
    check(fault, fragments)


@pytest.mark.parametrize("task", ["a_task", "a_task.Task", "a_task:Task()", "a-task:Task", "./a_task.py:Task", ":T"])
def test_a_task_must_be_an_import_path(faults: Faults, task: str) -> None:
    (fault,) = faults(f"task: {task!r}\n{FULL}{SMOKE}")
    check(fault, ["1:7: ", task, "an import path, package.module:Name"])


@pytest.mark.parametrize("key", ["hf", "lightning"])
@pytest.mark.parametrize("factory", ["train", "train.make", "train:make()", "./train.py:make"])
def test_a_factory_must_be_an_import_path(faults: Faults, key: str, factory: str) -> None:
    (fault,) = faults(f"{key}: {factory!r}\n{SMOKE}")
    check(fault, [f"{key} is the text {factory!r}", "an import path, package.module:name"])

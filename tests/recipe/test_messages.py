"""Every message about a recipe, once, with real values."""

# ruff: noqa: E501  # each message on one line, as a user sees it

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipe.texts import Faults

RECIPE = """\
task: a_task:Task
full: {batch_size: 8, learning_rate: 1.0e-3, max_steps: 100}
smoke: {max_steps: 100}
"""


def recipe(*lines: str, full: str = "", smoke: str = "") -> str:
    """Return a recipe with more lines at its end, or more keys in a section."""
    text = RECIPE
    for section, more in (("full", full), ("smoke", smoke)):
        if more:
            text = "\n".join(
                line.replace("}", f", {more}}}") if line.startswith(section) else line for line in text.split("\n")
            )
    return "\n".join([text.rstrip("\n"), *lines, ""])


def staged(*lines: str, full: str = "", smoke: str = "") -> str:
    """Return a recipe with stages, whose lengths it does not repeat."""
    more = f", {full}" if full else ""
    head = ["task: a_task:Task", f"full: {{batch_size: 8, learning_rate: 1.0e-3{more}}}", f"smoke: {{{smoke}}}"]
    return "\n".join([*head, "stages:", *lines, ""])


YAML: list[tuple[str | bytes, str]] = [
    ("", "1:1: the file is empty; a recipe is a mapping with the keys task, full and smoke"),
    ("- a\n", "1:1: the file contains a list; a recipe is a mapping with the keys task, full and smoke"),
    ("hello\n", "1:1: the file contains the text 'hello'; a recipe is a mapping with the keys task, full and smoke"),
    (
        "a: [1\nb: 2\n",
        "2:2: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence that starts on line 1",
    ),
    ("full:\n\tbatch_size: 8\n", "2:1: not valid YAML: tabs cannot indent; use spaces"),
    (
        recipe("---", "a: 1"),
        "4:1: a second YAML document starts here; write one recipe in each file",
    ),
    (b"a: caf\xe9\n", "1:7: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    (b"a: x\x00y\n", "1:5: control character '\\x00' is not allowed in YAML; delete it"),
    ("a: " + "[" * 60, "1:52: more than 50 nested levels; a recipe needs fewer than 10"),
    ("a: [" + "1," * 20_001 + "]", "1:4: more than 20,000 keys and values; a recipe needs about 100"),
    ("x" * 2**21, "1:1: the file has 2,097,152 bytes; a recipe has at most 1,048,576"),
    (recipe("args: {a: 1, a: 2}"), "4:14: key 'a' is already on line 4; delete one of them"),
    (recipe("args: {1: 2}"), "4:8: key 1 is not text in YAML; quote it"),
    (recipe("args: {on: 2}"), "4:8: key on is not text in YAML; quote it"),
    (recipe("args: {? [a] : 2}"), "4:10: a key must be text"),
    (recipe("args: {<<: {a: 1}}"), "4:8: merge key << is not supported; use `extends`, or write the keys out"),
    (recipe("args: &a {b: *a}"), "4:7: an alias refers to a value that it is part of; write the value out"),
]
SCALARS: list[tuple[str | bytes, str]] = [
    (recipe("args: {a: 1e-3}"), "4:11: 1e-3 is text in YAML 1.1, not a number; write 1.0e-3, or quote it"),
    (recipe("args: {a: off}"), "4:11: off is false to some YAML readers and text to others; write false, or quote it"),
    (recipe("args: {a: 010}"), "4:11: 010 is octal to some YAML readers; write 10 without leading zeros, or quote it"),
    (recipe("args: {a: 1:30}"), "4:11: 1:30 is a base-60 number in YAML 1.1; write the number in full, or quote it"),
    (recipe("args: {a: 2024-01-01}"), "4:11: 2024-01-01 is a date in YAML; quote it"),
    (
        recipe("args: {a: .nan}"),
        "4:11: .nan is not allowed, because NaN is not equal to itself; write a finite number, or null",
    ),
    (
        recipe("args: {a: 1.0e+999}"),
        "4:11: 1.0e+999 is too large for a float; the largest is about 1.8e+308, infinity is .inf",
    ),
    (recipe("args: {a: " + "9" * 5000 + "}"), "4:11: a whole number of 5,000 digits is too large"),
    (recipe("args: {a: !!float 1}"), "4:11: tag !!float is not allowed; write the value without a tag"),
]
VALUES: list[tuple[str | bytes, str]] = [
    (recipe(full="grad_accum_steps: 0"), "2:80: full.grad_accum_steps is 0; it must be 1 or more"),
    (recipe(full="grad_accum_steps: 8.0"), "2:80: full.grad_accum_steps is 8.0; it must be a whole number"),
    (
        recipe(full="grad_accum_steps: 10000000000000"),
        "2:80: full.grad_accum_steps is 10000000000000; it must be 1,000,000,000,000 or less",
    ),
    (recipe(full="warmup_steps: -1"), "2:76: full.warmup_steps is -1; it must be 0 or more"),
    (RECIPE.replace("1.0e-3", "0"), "2:38: full.learning_rate is 0; it must be greater than 0"),
    (RECIPE.replace("1.0e-3", ".inf"), "2:38: full.learning_rate is .inf; it must be a finite number"),
    (RECIPE.replace("1.0e-3", "fast"), "2:38: full.learning_rate is the text 'fast'; it must be a number"),
    (
        recipe(full="lr_schedule: cosin"),
        "2:75: full.lr_schedule is the text 'cosin'; it must be one of constant, cosine, linear, polynomial, inverse-sqrt, wsd, one-cycle or other (did you mean cosine?)",
    ),
    (recipe(full="from_scratch: 1"), "2:76: full.from_scratch is 1; it must be true or false"),
    (recipe(full="loss_weights: {ce: heavy}"), "2:81: full.loss_weights.ce is the text 'heavy'; it must be a number"),
    (recipe(smoke="mode: []"), "3:31: smoke.mode has 0 entries; it must have at least 1"),
    (
        recipe(smoke="batch_size: "),
        "3:37: smoke.batch_size: empty (null) is not allowed; leave the key out to inherit the full run's value",
    ),
    (recipe(smoke="run_steps: 101"), "3:36: smoke.run_steps: 101 is more than smoke.max_steps, which is 100"),
    (recipe(smoke="pipeline: int8"), "3:35: smoke.pipeline is the text 'int8'; it must be true, false or a mapping"),
    (
        recipe(smoke="pipeline: {quantize: null, max_drop: {f1: 0.1}}"),
        "3:35: smoke.pipeline: max_drop limits the quantized model, but quantize is null; remove max_drop, or set quantize to int8",
    ),
    (recipe("checks: {accept: loss < 1}"), "4:18: checks.accept is the text 'loss < 1'; it must be a list"),
    (recipe("checks: {accept: [3]}"), "4:19: checks.accept[0] is 3; it must be text"),
    (
        recipe("checks: {accept: [{quality: 3}]}"),
        "4:19: checks.accept[0]: the entry has no text after 'quality:'; write CRITERION, or NAME: CRITERION",
    ),
    (
        recipe("checks: {accept: [{a: f1 > 1, b: f1 > 2}]}"),
        "4:19: checks.accept[0]: the entry is a mapping with 2 keys (a, b); write CRITERION, or NAME: CRITERION",
    ),
    (
        recipe("checks: {grad_ratio: {a/b: [8, 0.01]}}"),
        "4:28: checks.grad_ratio.a/b: the low bound 8 is above the high bound 0.01; write [low, high]",
    ),
    (
        recipe("checks: {grad_ratio: {a/b: [1]}}"),
        "4:28: checks.grad_ratio.a/b has 1 bound; it must have two, [low, high]",
    ),
    (
        recipe("checks: {grad_ratio: {a: [1, 2]}}"),
        "4:23: key 'a' in checks.grad_ratio must be two loss terms, as term/term",
    ),
    (
        recipe("checks: {baseline: ''}"),
        "4:20: checks.baseline is the text ''; it must be text of at least one character",
    ),
    (recipe("checks: {resume: soon}"), "4:18: checks.resume is the text 'soon'; it must be true, false or a mapping"),
    (
        recipe("checks: {resume: {at_step: 100}}"),
        "4:18: checks.resume ends at step 101, but the smoke run ends at step 100; resume earlier",
    ),
    (
        recipe("metrics: {f1: {items: 200, chance: 25}}"),
        "4:36: metrics.f1.chance: 25 is not between 0 and 1, as a mean over items must be; write a share, or remove items",
    ),
    (recipe("mix: {sources: {}}"), "4:16: mix.sources has 0 entries; it must have at least 1"),
    (
        recipe("mix: {sources: {web: {weight: 1}}}"),
        "4:22: key mix.sources.web.rows is missing; write the number of rows, or name a corpus in mix.corpus",
    ),
    (
        recipe("mix: {sources: {web: {rows: 3, weight: 0}}}"),
        "4:16: mix.sources: every source has weight 0; at least one must be larger",
    ),
    (
        recipe("mix: {sources: {a: {rows: 3, share: 0.7}, b: {rows: 3, share: 0.7}}}"),
        "4:16: mix.sources: the intended shares add up to 1.4; at most 1 is possible",
    ),
    (
        recipe("requires: {device: gpu}"),
        "4:20: requires.device is the text 'gpu'; it must be one of any, cpu, cuda or mps",
    ),
    (recipe("requires:"), "4:10: requires is empty (null); it must be a mapping, or be left out"),
]
KEYS: list[tuple[str | bytes, str]] = [
    (
        RECIPE.replace("task: a_task:Task\n", ""),
        "1:1: no key says what trains; add task, hf, lightning or command",
    ),
    (
        RECIPE.replace("learning_rate: 1.0e-3, ", ""),
        "2:7: key full.learning_rate is missing (peak learning rate, reached at the end of the warmup)",
    ),
    (recipe(full="batchsize: 8"), "2:62: unknown key batchsize in full; did you mean batch_size?"),
    (recipe(full="accept: []"), "2:62: unknown key accept in full; it belongs under checks"),
    (recipe("learning_rate: 1.0"), "4:1: unknown key learning_rate; it belongs under full"),
    (
        recipe(full="zzz: 8"),
        "2:62: unknown key zzz in full; known: batch_size, grad_accum_steps, world_size, learning_rate, lr_schedule, warmup_steps, max_steps, precision, grad_clip_norm, loss_weights, from_scratch, from, keys, preset",
    ),
    (recipe(smoke="ablate: {}"), "3:25: unknown key ablate in smoke; it belongs at the top level"),
]
TASKS: list[tuple[str | bytes, str]] = [
    (
        RECIPE.replace("a_task:Task", "a_task.Task"),
        "1:7: task is the text 'a_task.Task'; it must be an import path, package.module:Name",
    ),
    (
        RECIPE.replace("a_task:Task", "a_task:Tusk"),
        "1:7: task a_task:Tusk: a_task.py has no top-level name Tusk; did you mean Task?",
    ),
    (
        RECIPE.replace("a_task:Task", "nowhere:Task"),
        "1:7: task module nowhere was not found: no nowhere.py or nowhere/ in pytest's rootdir ROOT or on sys.path; set the rootdir with --rootdir of pytest or --root of a command",
    ),
    (
        RECIPE.replace("a_task:Task", "a_task.inner:Task"),
        "1:7: task module a_task.inner was not found: a_task is a module, not a package with a module inner",
    ),
    (
        RECIPE.replace("a_task:Task", "folder:Task"),
        "1:7: task module folder is a folder without __init__.py; name a module inside it",
    ),
    (
        RECIPE.replace("a_task:Task", "broken:Task"),
        "1:7: task module broken has a syntax error: broken.py:1:5: '(' was never closed",
    ),
]
CELLS: list[tuple[str | bytes, str]] = [
    (recipe("ablate: {wide: 3}"), "4:16: ablate.wide is 3; it must be a mapping"),
    (recipe("ablate: {wide: {}}"), "4:16: ablate.wide has 0 entries; it must have at least 1"),
    (
        recipe("ablate: {wide: {args.x: 1, full.batch_size: 2}}"),
        "4:28: cell wide changes 2 settings (args.x, full.batch_size); write a cell for each of them",
    ),
    (
        recipe("ablate: {wide: {batch_size: 2}}"),
        "4:17: batch_size is not a setting that a cell can change; did you mean full.batch_size?",
    ),
    (
        recipe("ablate: {wide: {smoke.max_steps: 2}}"),
        "4:17: smoke.max_steps is not a setting that a cell can change; a cell changes one key of args or full (args.KEY, full.KEY), or smoke.seed",
    ),
    (recipe("ablate: {wide: {full.batchsize: 2}}"), "4:17: unknown key full.batchsize; did you mean batch_size?"),
    (recipe("ablate: {wide: {full.batch_size: 0}}"), "4:34: cell wide: full.batch_size is 0; it must be 1 or more"),
    (
        recipe("ablate: {wide: {full.batch_size.x: 1}}"),
        "4:17: full.batch_size.x does not exist: full.batch_size is 8, not a mapping",
    ),
    (
        recipe("ablate: {wide: {full.batch_size: 8}}"),
        "4:34: full.batch_size is 8 in the baseline, too, so cell wide changes nothing; write another value",
    ),
    (
        recipe("ablate: {a b: {args.x: 1}}"),
        "4:10: key 'a b' in ablate must be a name of letters, digits and the characters _ . + -",
    ),
]
STAGES: list[tuple[str | bytes, str]] = [
    (
        staged("- {name: a/b, full_steps: 9, steps: 9}"),
        "5:10: stages[0].name is the text 'a/b'; it must be a name of letters, digits and the characters _ . + -",
    ),
    (
        staged("- {name: A, full_steps: 9}"),
        "5:3: stages[0] has no length for the smoke run; write steps, or epochs and steps_per_epoch",
    ),
    (
        staged("- {name: A, full_steps: 9, steps: 2, epochs: 1}"),
        "5:3: stages[0] has both steps and epochs for the smoke run; write steps, or epochs and steps_per_epoch",
    ),
    (
        staged("- {name: A, full_steps: 9, epochs: 1}"),
        "5:28: stages[0].epochs needs the number of steps in an epoch; add steps_per_epoch",
    ),
    (
        staged("- {name: A, full_epochs: 9, steps: 1}"),
        "5:13: stages[0].full_epochs needs the number of steps in an epoch; add full_steps_per_epoch",
    ),
    (
        staged("- {name: A, full_steps: 9, steps: 9}", "- {name: A, full_steps: 9, steps: 9}"),
        "6:10: stages[1] has the same name as stages[0], A; rename one of them",
    ),
    (
        staged("- {name: A, steps: 9, full_steps: 9, phases: [{name: a}, {name: b}]}"),
        "5:47: stages[0].phases[0] has no length; only the last phase may leave it out",
    ),
    (
        staged("- {name: A, steps: 9, full_steps: 9, phases: [{name: a, steps: 9}, {name: b}]}"),
        "5:68: stages[0].phases before the last have 9 steps, but stage A has 9 steps; leave at least 1 for the last phase",
    ),
    (
        staged("- {name: A, steps: 9, full_steps: 9, phases: [{name: a, steps: 5}, {name: b, steps: 5}]}"),
        "5:68: stages[0].phases add up to 5 + 5 steps, but stage A has 9 steps; leave out the length of the last phase, which has the rest",
    ),
    (
        staged("- {name: A, steps: 9, full_steps: 9, phases: [{name: a, steps: 5, epochs: 1}, {name: b}]}"),
        "5:47: stages[0].phases[0] has both steps and epochs; remove steps or epochs",
    ),
    (
        staged(
            "- {name: A, full_steps: 2000, steps: 160}",
            "- {name: B, full_steps: 6660, steps: 170}",
            full="max_steps: 8000",
        ),
        "2:57: full.max_steps is 8000, but the full_steps of the stages add up to 2000 + 6660 = 8660; remove max_steps, or correct it",
    ),
    (
        staged("- {name: A, full_steps: 9, steps: 9}", smoke="run_steps: 5"),
        "3:9: smoke.run_steps cannot be used with stages; set the steps of each stage instead",
    ),
    (
        staged("- {name: A, full_steps: 9, steps: 9}", "ablate: {long: {full.max_steps: 9}}"),
        "6:17: cell long changes full.max_steps, but the stages set the length of the full run; remove the cell",
    ),
    (
        staged(
            "- {name: A, full_steps: 9, steps: 9, learning_rate: 1.0e-4}", "ablate: {low: {full.learning_rate: 2.0e-4}}"
        ),
        "6:16: cell low changes full.learning_rate, but every stage sets its own learning_rate, so it has no effect; remove learning_rate from a stage",
    ),
    (
        staged(
            "- {name: A, full_steps: 90, steps: 9}",
            "- {name: B, full_steps: 90, steps: 90}",
            "checks: {resume: {at_step: 5, steps: 9}}",
        ),
        "7:18: checks.resume ends at step 14, but its stage A ends at step 9; resume earlier, or in another stage",
    ),
]
CRITERIA: list[tuple[str | bytes, str]] = [
    (
        recipe("checks: {accept: [f1 >]}"),
        "4:19: criterion 'f1 >': column 5: expected a number, a metric (in backticks if it is not a plain name), one of max(...), min(...), mean(...), median(...), first(...), last(...) or '(', found the end",
    ),
    (
        recipe("checks: {accept: [mean(loss over steps 50-199) < 2]}"),
        "4:19: criterion 'mean(loss over steps 50-199) < 2': it needs step 199, but the smoke run ends at step 100",
    ),
    (
        recipe("checks: {accept: [f1 > 0.5 by epoch 3]}"),
        "4:19: criterion 'f1 > 0.5 by epoch 3': it needs the number of steps in an epoch; add steps_per_epoch to smoke",
    ),
    (
        recipe("checks: {accept: [f1 > baseline.f1]}"),
        "4:19: criterion 'f1 > baseline.f1': it needs a baseline; name a verdicts.json in checks.baseline",
    ),
    (
        recipe("checks: {accept: [loss < 2 over stage C]}"),
        "4:19: criterion 'loss < 2 over stage C': there is no stage C; known: none",
    ),
    (
        recipe("checks: {accept: [quality: f1 > 1, quality: f1 > 2]}"),
        "4:36: criterion 'quality: f1 > 2': the name 'quality' is already used by checks.accept[0]; rename one of them",
    ),
    (
        staged(
            "- {name: A, full_steps: 9, steps: 9}", "- {name: B, full_steps: 9, steps: 9, accept: [x < 1 over stage A]}"
        ),
        "6:47: criterion 'x < 1 over stage A': it is about stage A, not about the stage it belongs to; move it to checks.accept",
    ),
]
EXTENDS: list[tuple[str | bytes, str]] = [
    (
        "extends: gone.smoke.yaml",
        "1:10: extends gone.smoke.yaml: there is no file gone.smoke.yaml; the path is relative to this file's folder",
    ),
    ("extends: 3", "1:10: extends is 3; it must be the path of another recipe"),
    (
        "extends: a.smoke.yaml",
        "1:10: extends a.smoke.yaml is circular: a.smoke.yaml -> a.smoke.yaml; remove one of the extends",
    ),
]


MESSAGES = [*YAML, *SCALARS, *VALUES, *KEYS, *TASKS, *CELLS, *STAGES, *CRITERIA, *EXTENDS]


@pytest.mark.parametrize(("text", "message"), MESSAGES, ids=[message[:60] for _, message in MESSAGES])
def test_message(root: Path, faults: Faults, text: str | bytes, message: str) -> None:
    (root / "folder").mkdir()
    (root / "broken.py").write_text("x = (\n")
    found = [fault.replace(str(root), "ROOT") for fault in faults(text, "a.smoke.yaml")]
    assert found == [message]

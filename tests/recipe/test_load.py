"""Every fault of a recipe file, at its line and column, all at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.recipe.load import load_cases, load_recipe
from pytest_smoke.recipe.model import Recipe

Faults = Callable[..., list[str]]
GOOD = """\
task: a_task:Task
args: {hidden_size: 64}
full:
  batch_size: 16
  grad_accum_steps: 8
  learning_rate: 5.0e-4
  warmup_steps: 1000
  max_steps: 50000
smoke:
  max_steps: 2500
"""
HEAD = "task: a_task:Task\n"
FULL = "full: {batch_size: 8, learning_rate: 1.0e-3, max_steps: 100}\n"
SMOKE = "smoke: {max_steps: 100}\n"


def test_a_good_recipe_has_no_fault(root: Path) -> None:
    """What is written arrives, what is not has its default."""
    (root / "r.smoke.yaml").write_text(GOOD)
    recipe = load_recipe(root / "r.smoke.yaml", root=root)
    assert recipe.full.effective_batch == 128
    assert recipe.full.learning_rate == 5e-4
    assert recipe.full.precision == "fp32"
    assert recipe.args == {"hidden_size": 64}
    assert recipe.smoke.run_steps is None


WHOLE_FILE = [
    pytest.param("", ["1:1: ", "empty", "task, full and smoke"], id="empty"),
    pytest.param("# nothing\n", ["1:1: ", "empty"], id="only a comment"),
    pytest.param("---\n", ["1:1: ", "empty"], id="empty document"),
    pytest.param("- a\n", ["1:1: ", "a list", "a recipe is a mapping"], id="a list"),
    pytest.param("hello\n", ["1:1: ", "'hello'", "a recipe is a mapping"], id="text"),
    pytest.param("a: [1\nb: 2\n", ["2:2: ", "not valid YAML", "starts on line 1"], id="open bracket"),
    pytest.param("a: b: c\n", ["1:5: ", "not valid YAML", "mapping values"], id="two colons"),
    pytest.param("full:\n\tbatch_size: 8\n", ["2:1: ", "a tab cannot indent", "spaces"], id="tab"),
    pytest.param("a: @b\n", ["1:4: ", "not valid YAML", "cannot start any token"], id="reserved sign"),
    pytest.param("a: *b\n", ["1:4: ", "undefined alias"], id="undefined alias"),
    pytest.param(f"{GOOD}---\na: 1\n", ["11:1: ", "second YAML document", "one recipe a file"], id="two documents"),
    pytest.param("a: 1\nb: caf\xe9\n".encode("latin-1"), ["2:7: ", "0xe9", "save the file as UTF-8"], id="latin-1"),
    pytest.param(GOOD.encode("utf-16"), ["1:1: ", "0xff", "save the file as UTF-8"], id="utf-16"),
    pytest.param(b"a: 1\nb: x\0y\n", ["2:5: ", "control character '\\x00'"], id="nul"),
    pytest.param("a: \x1b[31m\n", ["1:4: ", "control character '\\x1b'"], id="escape"),
    pytest.param("&a [*a]\n", ["1:1: ", "never ends"], id="a list within itself"),
    pytest.param("a: " + "[" * 60 + "]" * 60, ["1:52: ", "more than 50 nested levels"], id="deep"),
    pytest.param("[" * 1_000_000, ["1:50: ", "more than 50 nested levels"], id="deep enough to overflow the C stack"),
    pytest.param("[" + "1," * 20_001 + "]", ["1:1: ", "more than 20000"], id="long"),
]


@pytest.mark.parametrize(("text", "fragments"), WHOLE_FILE)
def test_a_file_that_cannot_be_read_has_one_fault(faults: Faults, text: str | bytes, fragments: list[str]) -> None:
    """Without data there is nothing else to say."""
    (fault,) = faults(text)
    check(fault, fragments)


SCALARS = [
    ("1e-3", "write 1.0e-3"),
    ("5e-4", "write 5.0e-4"),
    ("1E5", "write 1.0e+5"),
    ("1.5e3", "write 1.5e+3"),
    ("-.5", "write -0.5"),
    ("2.e5", "write 2.0e+5"),
    ("off", "write false"),
    ("on", "write true"),
    ("Yes", "write true"),
    ("NO", "write false"),
    ("y", "write true"),
    ("n", "write false"),
    ("1:30", "base-60"),
    ("010", "write 10 without leading zeros"),
    ("0o17", "write 17 without leading zeros"),
    ("08", "write 8 without leading zeros"),
    ("2024-01-01", "is a date"),
    ("2024-01-01 10:00:00", "is a date"),
    (".nan", "equal to nothing"),
    ("1.0e+999", "too large"),
    ("9" * 5000, "5000 digits"),
    ("!!float 1", "tag !!float is not allowed"),
    ("!mine 1", "tag !mine is not allowed"),
    ("!!python/object/apply:os.system [ls]", "tag !!python/object/apply:os.system is not allowed"),
]


@pytest.mark.parametrize(("scalar", "what"), SCALARS)
def test_scalars_that_yaml_reads_otherwise_than_people_are_refused(faults: Faults, scalar: str, what: str) -> None:
    """Also deep inside the task's own arguments, where no type would catch them."""
    (fault,) = faults(HEAD + f"args:\n  a: [1, {{b: {scalar}}}]\n" + FULL + SMOKE)
    check(fault, ["3:14: ", what])


def test_a_refused_scalar_is_not_also_of_the_wrong_type(faults: Faults) -> None:
    """`1e-3` is one fault, not a text where a number should be as well."""
    (fault,) = faults(GOOD.replace("5.0e-4", "5e-4"))
    check(fault, ["6:18: ", "5e-4 is text in YAML 1.1", "write 5.0e-4"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b11", 3),
        ("+3", 3),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5e-3", -0.0015),
        ("-.inf", float("-inf")),
        ("~", None),
        ("", None),
        ("True", True),
        ("'off'", "off"),
        ("'1e-3'", "1e-3"),
        ('"2024-01-01"', "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("16x8", "16x8"),
        ("-", [None]),
        ("yesterday", "yesterday"),
        ("<<", "<<"),
    ],
)
def test_scalars_that_are_read_as_written(root: Path, written: str, value: object) -> None:
    """Quotes keep text as text; the rest is YAML 1.1 as PyYAML reads it."""
    (root / "r.smoke.yaml").write_text(HEAD + f"args:\n  a:\n    {written}\n" + FULL + SMOKE)
    assert load_recipe(root / "r.smoke.yaml", root=root).args == {"a": value}


KEYS = [
    ("args: {a: 1, a: 2}", ["2:14: ", "key 'a' is already on line 2"]),
    ("args: {1: 2}", ["2:8: ", "key 1 is not read as text", "quote it"]),
    ("args: {on: 2}", ["2:8: ", "key on is not read as text", "quote it"]),
    ("args: {null: 2}", ["2:8: ", "key null is not read as text"]),
    ("args: {? [a] : 2}", ["2:10: ", "a key must be text"]),
    ("args: {? {a: b} : 2}", ["2:10: ", "a key must be text"]),
    ("args: {!!str a: 2}", ["2:8: ", "a key must be text"]),
    ("args: {2024-01-01: 2}", ["2:8: ", "key 2024-01-01 is not read as text"]),
    ("args: &a {b: *a}", ["2:7: ", "an alias inside its own anchor never ends"]),
    ("args: {<<: {a: 1}}", ["2:8: ", "merge key <<", "use `extends`"]),
]


@pytest.mark.parametrize(("line", "fragments"), KEYS)
def test_keys_that_are_not_plainly_text_are_refused(faults: Faults, line: str, fragments: list[str]) -> None:
    """A key's fault is at the key."""
    (fault,) = faults(f"{HEAD}{line}\n{FULL}{SMOKE}")
    check(fault, fragments)


def test_short_names_are_keys_though_some_readers_take_them_for_switches(root: Path) -> None:
    """`n` and `y` are what people call arguments."""
    (root / "r.smoke.yaml").write_text(HEAD + "args: {n: 1, y: 2, 'on': 3}\n" + FULL + SMOKE)
    assert load_recipe(root / "r.smoke.yaml", root=root).args == {"n": 1, "y": 2, "on": 3}


FIELDS = [
    ("full.batch_size", "0", ["is 0", "1 or more"]),
    ("full.batch_size", "-8", ["is -8", "1 or more"]),
    ("full.batch_size", "8.0", ["is 8.0", "a whole number"]),
    ("full.batch_size", "'8'", ["the text '8'", "a whole number"]),
    ("full.batch_size", "true", ["is true", "a whole number"]),
    ("full.batch_size", "", ["empty (null)", "a whole number"]),
    ("full.batch_size", "[8]", ["is a list", "a whole number"]),
    ("full.batch_size", "{a: 8}", ["is a mapping", "a whole number"]),
    ("full.max_steps", "1" + "0" * 13, ["full.max_steps", "1000000000000 or less"]),
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
    ("smoke.run_steps", "101", ["smoke.run_steps", "101 is more than the smoke's max_steps, 100"]),
    ("checks.accept", "loss < 1", ["the text 'loss < 1'", "a list"]),
    ("checks.accept", "[3]", ["checks.accept[0] is 3", "text"]),
    ("checks.grad_ratio", "{a/b: [8, 0.01]}", ["a/b", "low bound 8", "high bound 0.01", "[low, high]"]),
    ("checks.grad_ratio", "{a/b: [1]}", ["has 1 bounds", "[low, high]"]),
    ("checks.grad_ratio", "{a/b: [0, 1]}", ["a/b[0] is 0", "greater than 0"]),
    ("checks.grad_ratio", "{a: [1, 2]}", ["key a in checks.grad_ratio", "two loss terms as term/term"]),
    ("mix.sources", "{}", ["has 0 entries", "at least 1"]),
    ("mix.sources", "{web: {rows: 0}}", ["mix.sources.web.rows is 0", "1 or more"]),
    ("mix.sources", "{web: {rows: 3, weigth: 1}}", ["unknown key weigth in mix.sources.web", "did you mean weight?"]),
    ("mix.sources", "{web: {rows: 3, weight: 0}}", ["every source has weight 0"]),
    ("mix.sources", "{a: {rows: 3, share: 0.7}, b: {rows: 3, share: 0.7}}", ["sum to 1.4", "at most 1"]),
    ("metrics.f1", "{kind: greedy}", ["metrics.f1.kind", "'greedy'", "teacher-forced or free-running"]),
    ("metrics.f1", "{beter: lower}", ["unknown key beter in metrics.f1", "did you mean better?"]),
    ("metrics.f1", "{items: 0}", ["metrics.f1.items is 0", "1 or more"]),
    (
        "metrics.f1",
        "{items: 200, chance: 25}",
        ["metrics.f1.chance: 25 is no mean of items between 0 and 1", "leave items out"],
    ),
    ("metrics.f1", "{target: .inf}", ["metrics.f1.target is .inf", "a finite number"]),
    ("ablate", "3", ["is 3", "a mapping"]),
    ("ablate", "{a b: {args.x: 1}}", ["key a b in ablate", "letters, digits"]),
    ("ablate", "{a: {}}", ["ablate.a has 0 entries", "at least 1"]),
    ("requires.device", "gpu", ["'gpu'", "any, cpu, cuda or mps"]),
    ("requires.memory_gib", "-1", ["is -1", "0 or more"]),
    ("requires", "", ["empty (null)", "a mapping, or leave the key out"]),
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
def test_a_value_that_is_not_allowed(faults: Faults, path: str, written: str, fragments: list[str]) -> None:
    """Each has its own sentence: which key, what it is, what it may be."""
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
        inner = [f"  {one}: {text}" for one, text in value.items()] if isinstance(value, dict) else []
        lines += [f"{name}:" if inner else f"{name}: {value}", *inner]
    (fault,) = faults("\n".join(lines))
    check(fault, fragments)
    line = int(fault.partition(":")[0])
    assert key in lines[line - 1], f"the fault points to {lines[line - 1]!r}"


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        (FULL + SMOKE, ["1:1: ", "key task is missing", "Import path"]),
        (HEAD + SMOKE, ["1:1: ", "key full is missing"]),
        (HEAD + FULL, ["1:1: ", "key smoke is missing"]),
        (HEAD + "full:\n  batch_size: 8\n  max_steps: 9\n" + SMOKE, ["3:3: ", "full.learning_rate is missing", "Peak"]),
        (HEAD + FULL + "smoke: {}\n", ["3:8: ", "smoke.max_steps is missing"]),
        (HEAD + FULL + SMOKE + "mix: {}\n", ["4:6: ", "mix.sources is missing"]),
        (HEAD + FULL + SMOKE + "mix: {sources: {a: {weight: 1}}}\n", ["4:20: ", "mix.sources.a.rows is missing"]),
    ],
)
def test_a_missing_key_is_reported_where_it_should_stand(faults: Faults, text: str, fragments: list[str]) -> None:
    """At the enclosing mapping, with what the key means."""
    (fault,) = faults(text)
    check(fault, fragments)


@pytest.mark.parametrize("task", ["a_task", "a_task.Task", "a_task:Task()", "a-task:Task", "./a_task.py:Task", ":T"])
def test_a_task_that_is_no_import_path(faults: Faults, task: str) -> None:
    """The form is named."""
    (fault,) = faults(f"task: {task!r}\n{FULL}{SMOKE}")
    check(fault, ["1:7: ", task, "an import path package.module:Name"])


CELLS = [
    ("{a: {args.x: 1, full.batch_size: 2}}", ["4:25: ", "cell a changes 2 settings", "args.x, full.batch_size"]),
    ("{a: {batch_size: 2}}", ["4:14: ", "batch_size", "did you mean full.batch_size?"]),
    ("{a: {smoke.max_steps: 2}}", ["4:14: ", "smoke.max_steps", "args.KEY or full.KEY, or smoke.seed"]),
    ("{a: {smoke.seed: -1}}", ["4:26: ", "smoke.seed is -1", "0 or more"]),
    ("{a: {smoke.seed: 0}}", ["4:26: ", "is 0 in the baseline too", "changes nothing"]),
    ("{a: {args: 2}}", ["4:14: ", "args is not a setting"]),
    ("{a: {args.: 2}}", ["4:14: ", "args. is not a setting"]),
    ("{a: {full.batchsize: 2}}", ["4:14: ", "unknown key full.batchsize", "did you mean batch_size?"]),
    ("{a: {full.batch_size: 0}}", ["4:31: ", "cell a", "full.batch_size is 0", "1 or more"]),
    ("{a: {full.batch_size: 1e1}}", ["4:31: ", "write 1.0e+1"]),
    ("{a: {full.batch_size.x: 1}}", ["4:14: ", "reaches into full.batch_size", "not a mapping"]),
    ("{a: {full.loss_weights.ce: x}}", ["4:36: ", "full.loss_weights.ce is the text 'x'", "a number"]),
    ("{a: {full.loss_weights: {ce: x}}}", ["4:38: ", "full.loss_weights.ce is the text 'x'"]),
    ("{a: {full.batch_size: 8}}", ["4:31: ", "is 8 in the baseline too", "changes nothing"]),
    ("{a: {full.precision: fp32}}", ["4:30: ", "the text 'fp32' in the baseline too"]),
    ("{a: 3}", ["4:13: ", "ablate.a is 3", "a mapping"]),
]


@pytest.mark.parametrize(("cells", "fragments"), CELLS)
def test_an_ablation_cell_that_changes_nothing_allowed(faults: Faults, cells: str, fragments: list[str]) -> None:
    """The fault is in the cell, not where the baseline is right."""
    (fault,) = faults(f"{HEAD}{FULL}{SMOKE}ablate: {cells}\n")
    check(fault, fragments)


def test_a_cell_into_an_argument_that_is_no_mapping(faults: Faults) -> None:
    """New arguments are allowed, for a task has defaults; a path through a number is not."""
    text = f"{HEAD}args: {{a: 1}}\n{FULL}{SMOKE}ablate: {{c: {{args.a.b: 1}}}}\n"
    (fault,) = faults(text)
    check(fault, ["5:14: ", "args.a.b reaches into args.a, which is 1"])


def test_every_fault_is_reported_at_once_in_order_of_place(faults: Faults) -> None:
    """Spelling, types, unknown keys, the task and the cells in one go."""
    found = faults(
        "task: nowhere:Task\n"
        "args: {a: 1e-3, b: off}\n"
        "full: {batch_size: 0, lr: 1.0, learning_rate: 1.0, max_steps: 10}\n"
        "smoke: {mode: tail, max_steps: 10, max_steps: 20}\n"
        "ablate: {a: {full.x: 1}}\n"
    )
    places = [tuple(map(int, fault.split(":")[:2])) for fault in found]
    assert places == [(1, 7), (2, 11), (2, 20), (3, 20), (3, 23), (4, 15), (4, 36), (5, 14)]


def test_a_missing_file_is_a_fault(root: Path) -> None:
    """Not a traceback."""
    with pytest.raises(RecipeError, match=r"^gone\.smoke\.yaml:1:1: .*cannot be read: No such file"):
        load_cases(root / "gone.smoke.yaml", root=root)


def test_a_folder_or_a_pipe_with_the_name_of_a_recipe_is_a_fault(root: Path) -> None:
    """A pipe without a writer must not hang the session either."""
    (root / "folder.smoke.yaml").mkdir()
    os.mkfifo(root / "pipe.smoke.yaml")
    for name in ("folder", "pipe"):
        with pytest.raises(RecipeError, match=rf"^{name}\.smoke\.yaml:1:1: "):
            load_cases(root / f"{name}.smoke.yaml", root=root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_fault(root: Path) -> None:
    """With the system's own word for it."""
    (root / "r.smoke.yaml").write_text(GOOD)
    (root / "r.smoke.yaml").chmod(0)
    with pytest.raises(RecipeError, match="Permission denied"):
        load_cases(root / "r.smoke.yaml", root=root)


def test_a_large_file_is_refused_by_its_size(root: Path) -> None:
    """Ten megabytes, or a sparse terabyte: neither is read."""
    with open(root / "r.smoke.yaml", "wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(RecipeError, match="1000000000000 bytes; a recipe has at most 1048576"):
        load_cases(root / "r.smoke.yaml", root=root)


def test_an_alias_bomb_does_not_explode(faults: Faults) -> None:
    """Ten to the ninth values in nine lines: one fault, at once."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (fault,) = faults("\n".join(lines))
    check(fault, ["aliases expand to more than 20000"])


def test_a_chain_of_aliases_does_not_exhaust_the_stack(faults: Faults) -> None:
    """Flat as text, thousands of levels deep as data."""
    lines = ["args:", "  a0: &a0 [1]"] + [f"  a{i}: &a{i} [*a{i - 1}]" for i in range(1, 3000)]
    (fault,) = faults("\n".join(lines))
    check(fault, ["aliases nest more than 50 levels"])


def test_a_file_of_nothing_but_faults_is_read_in_time(faults: Faults) -> None:
    """Ten thousand of them take no minutes."""
    assert len(faults(GOOD + "".join(f"key{i}: 1\n" for i in range(9000)))) == 9000
    assert len(faults(GOOD + "".join(f"  full{i % 4000}: 1\n" for i in range(8000)))) == 8000


def test_an_alias_is_its_anchors_value(root: Path) -> None:
    """Aliases as such are fine."""
    (root / "r.smoke.yaml").write_text(HEAD + "args: {a: &a [1], b: *a}\n" + FULL + SMOKE)
    assert load_recipe(root / "r.smoke.yaml", root=root).args == {"a": [1], "b": [1]}


def test_a_byte_order_mark_and_windows_line_ends_are_fine(root: Path) -> None:
    """As Windows editors leave them; places are those of the text."""
    path = root / "r.smoke.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_recipe(path, root=root).full.max_steps == 50000
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").replace("50000", "0").encode())
    with pytest.raises(RecipeError, match=r"^r\.smoke\.yaml:8:14: "):
        load_recipe(path, root=root)


def test_columns_count_characters_not_bytes(faults: Faults) -> None:
    """As editors do."""
    (fault,) = faults(f"{HEAD}args: {{größe: 1, é: off}}\n{FULL}{SMOKE}")
    check(fault, ["2:21: "])


def test_a_recipe_outside_the_root_is_named_by_its_absolute_path(root: Path, tmp_path_factory: Any) -> None:
    """A relative path could not be clicked."""
    path = tmp_path_factory.mktemp("elsewhere") / "r.smoke.yaml"
    path.write_text(GOOD)
    assert load_cases(path, root=root)[0].path == path.as_posix()
    (root / "sub").mkdir()
    inside = root / "sub" / "r.smoke.yaml"
    inside.write_text(GOOD)
    assert load_cases(inside, root=root)[0].path == "sub/r.smoke.yaml"


def test_the_error_reads_as_one_line_per_fault() -> None:
    """Sorted by place, without repeats."""
    late, early = Fault("a.yaml", 2, 1, "two"), Fault("a.yaml", 1, 9, "one")
    assert str(RecipeError([late, early, late])) == "a.yaml:1:9: one\na.yaml:2:1: two"


def test_loading_imports_neither_torch_nor_the_task(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of recipes are collected without either."""
    import subprocess
    import sys

    (root / "a_task.py").write_text("raise RuntimeError('imported')\nclass Task: ...\n")
    (root / "r.smoke.yaml").write_text(GOOD)
    script = (
        "import sys; from pathlib import Path; from pytest_smoke.recipe.load import load_cases;"
        f"load_cases(Path('r.smoke.yaml'), root=Path({str(root)!r}));"
        "print(sorted({'torch', 'numpy', 'a_task', 'pytest'} & set(sys.modules)))"
    )
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(here)}, capture_output=True
    )
    assert (done.stdout.decode().strip(), done.returncode) == ("[]", 0), done.stderr.decode()


# What PyYAML writes for any of these reads back as the same value here, or is refused; text is quoted where it must be.
plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(args=st.dictionaries(st.text(), plain_data, max_size=4), flow=st.sampled_from([None, True, False]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_yaml_dumps_loads_to_the_same_data_or_is_a_trap(
    root: Path, args: dict[str, Any], flow: bool | None
) -> None:
    """Never silently another value."""
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
def test_a_valid_recipe_survives_the_round_trip(root: Path, full: dict[str, Any], smoke: dict[str, Any]) -> None:
    """Every setting arrives with its value and its type."""
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
def test_no_bytes_raise_anything_but_a_recipe_error(root: Path, raw: bytes) -> None:
    """A collection error, never a traceback; each fault within the file."""
    (root / "r.smoke.yaml").write_bytes(raw)
    loaded, faults = attempt(root / "r.smoke.yaml", root)
    assert bool(loaded) != bool(faults)
    assert all(fault.line >= 1 and fault.column >= 1 and "\n" not in fault.text for fault in faults)


def attempt(path: Path, root: Path) -> tuple[Recipe | None, tuple[Fault, ...]]:
    """The recipe or its faults; any other exception passes."""
    try:
        return load_recipe(path, root=root), ()
    except RecipeError as error:
        return None, error.faults


def check(fault: str, fragments: list[str]) -> None:
    """The first fragment that looks like a place starts the fault; the others are in it."""
    for fragment in fragments:
        assert fragment in fault
    if fragments[0][0].isdigit():
        assert fault.startswith(fragments[0]), fault

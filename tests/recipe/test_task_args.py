"""The recipe's `args` against the signature in the task's source, which is not imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipe.texts import Faults

HEAD = "import not_installed_anywhere\nfrom elsewhere import Base, register, other_args\n\n"


def write(root: Path, source: str) -> None:
    (root / "lm_task.py").write_text(HEAD + source)


def recipe(args: str = "", smoke: str = "", *lines: str) -> str:
    return "\n".join(
        [
            "task: lm_task:Task",
            *([f"args: {args}"] if args else []),
            "full: {batch_size: 8, learning_rate: 1.0e-3, max_steps: 100}",
            f"smoke: {{max_steps: 100{smoke}}}",
            *lines,
            "",
        ]
    )


READ = {
    "a class": "class Task:\n    def __init__(self, width, *, depth=2): ...",
    "a class with a base elsewhere": "class Task(Base):\n    def __init__(self, width, *, depth=2): ...",
    "a function": "def Task(width, depth=2): ...",
    "a base in the same module": "class Own:\n    def __init__(self, width, depth=2): ...\nclass Task(Own):\n    x = 1",
    "two bases up": "class A:\n    def __init__(self, width, depth=2): ...\nclass B(A): ...\nclass Task(B):\n    x = 1",
}


@pytest.mark.parametrize("source", READ.values(), ids=READ)
def test_an_argument_that_the_task_does_not_take_is_a_fault_at_its_key(root: Path, faults: Faults, source: str) -> None:
    write(root, source)
    text = "task lm_task:Task has no argument"
    assert faults(recipe("{width: 8, dept: 3}")) == [f"2:18: {text} dept; did you mean depth?"]
    assert faults(recipe("{width: 8, xyz: 3}")) == [f"2:18: {text} xyz; it takes width and depth"]
    assert faults(recipe("{width: 8, depth: 3}")) == []


@pytest.mark.parametrize("source", READ.values(), ids=READ)
def test_a_missing_argument_is_a_fault_of_args_or_of_the_task(root: Path, faults: Faults, source: str) -> None:
    write(root, source)
    text = "task lm_task:Task needs the argument width; add it to args"
    assert faults(recipe("{depth: 3}")) == [f"2:1: {text}"]
    assert faults(recipe()) == [f"1:7: {text}"]


def test_repeated_arguments_and_those_of_cells_are_checked_at_their_own_keys(root: Path, faults: Faults) -> None:
    write(root, READ["a class"])
    assert faults(recipe("{width: 8}", ", args: {widht: 8}")) == [
        "4:32: task lm_task:Task has no argument widht; did you mean width?"
    ]
    assert faults(recipe("{width: 8}", "", "ablate: {deep: {args.deepth: 4}, wide: {args.width: 16}}")) == [
        "5:17: task lm_task:Task has no argument deepth; did you mean depth?"
    ]


@pytest.mark.parametrize(
    ("source", "args", "expected"),
    [
        ("class Task: ...", "{}", []),
        ("class Task(object):\n    x = 1", "{a: 1}", ["2:8: task lm_task:Task has no argument a; it takes none"]),
        (
            "def Task(width, depth, **others): ...",
            "{any: 1}",
            ["2:1: task lm_task:Task needs the arguments width and depth; add them to args"],
        ),
        ("class Task:\n    def __init__(self, /, width=1): ...", "{width: 1}", []),
    ],
)
def test_signatures_with_other_parameters(
    root: Path, faults: Faults, source: str, args: str, expected: list[str]
) -> None:
    write(root, source)
    assert faults(recipe(args)) == expected


NOT_READ = {
    "**kwargs": "class Task:\n    def __init__(self, **kwargs): ...",
    "*args, **kwargs": "class Task:\n    def __init__(*args, **kwargs): ...",
    "positional only": "def Task(width, /): ...",
    "a decorated class": "@register\nclass Task:\n    def __init__(self, width): ...",
    "a decorated __init__": "class Task:\n    @other_args\n    def __init__(self, width): ...",
    "a base elsewhere": "class Task(Base):\n    x = 1",
    "two bases": "class A:\n    def __init__(self, width): ...\nclass B: ...\nclass Task(B, A): ...",
    "a metaclass": "class Task(metaclass=Base):\n    def __init__(self, width): ...",
    "__new__": "class Task:\n    def __new__(cls, **kw): ...\n    def __init__(self, width): ...",
    "an assigned __init__": "class Task:\n    __init__ = other_args",
    "an __init__ under a condition": "class Task:\n    if Base:\n        def __init__(self, width): ...",
    "an __init__ replaced later": "class Task:\n    def __init__(self, width): ...\nTask.__init__ = other_args",
    "a class under a condition": "if Base:\n    class Task:\n        def __init__(self, width): ...",
    "a class bound twice": "class Task:\n    def __init__(self, width): ...\nTask = register(Task)",
    "an import": "from elsewhere import Task",
    "a value": "Task = register(Base)",
    "a star import": "class Task:\n    def __init__(self, width): ...\nfrom elsewhere import *",
    "a class that is its own base": "class Task(Task): ...",
}


@pytest.mark.parametrize("source", NOT_READ.values(), ids=NOT_READ)
def test_a_signature_that_cannot_be_read_is_not_checked(root: Path, faults: Faults, source: str) -> None:
    write(root, source)
    assert faults(recipe("{anything: 1}")) == []


def test_a_changed_module_is_read_again(root: Path, faults: Faults) -> None:
    write(root, "def Task(width=1): ...")
    assert faults(recipe("{depth: 1}")) != []
    write(root, "def Task(width=1, depth=1): ...")
    assert faults(recipe("{depth: 1}")) == []


def test_args_of_another_type_are_reported_once(root: Path, faults: Faults) -> None:
    write(root, READ["a class"])
    assert len(faults(recipe("7"))) == 1

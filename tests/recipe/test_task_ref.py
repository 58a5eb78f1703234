"""The import path of a task, checked without importing anything."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from pytest_smoke.allowed import AllowedCode
from pytest_smoke.recipe.task_ref import task_fault


def module(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


BINDINGS = [
    "class Task: ...",
    "def Task(): ...",
    "async def Task(): ...",
    "Task = 1",
    "Task: type = object",
    "other, (Task, *rest) = 1, (2, 3)",
    "import Task",
    "import Task.inner",
    "import x as Task",
    "from x import Task",
    "from x import y as Task",
    "if True:\n    Task = 1",
    "if False:\n    pass\nelse:\n    class Task: ...",
    "try:\n    import x\nexcept ImportError:\n    Task = None",
    "try:\n    pass\nfinally:\n    Task = None",
    "with open('x') as Task: ...",
    "for Task in range(3): ...",
    "while True:\n    Task = 1",
    "match 1:\n    case Task: ...",
    "print(Task := 1)",
    "def make():\n    global Task\n    Task = 1\nmake()",
]


@pytest.mark.parametrize("text", BINDINGS)
def test_every_way_to_bind_a_name_counts(root: Path, text: str) -> None:
    module(root, "m.py", text)
    assert task_fault("m:Task", root) is None


@pytest.mark.parametrize(
    "text",
    [
        "from x import *",
        "def __getattr__(name): ...",
        "globals()['Task'] = 1",
        "exec('Task = 1')",
        "import sys\nsetattr(sys.modules[__name__], 'Task', 1)",
    ],
)
def test_a_module_that_may_bind_any_name_is_accepted(root: Path, text: str) -> None:
    """Only an import could tell; the training process makes it."""
    module(root, "m.py", text)
    assert task_fault("m:Task", root) is None


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    Task = 1",
        "class A:\n    def Task(self): ...",
        "print(lambda: (Task := 1))",
        "Task",
        "x.Task = 1",
        "",
    ],
)
def test_a_name_in_another_scope_does_not_count(root: Path, text: str) -> None:
    module(root, "m.py", text)
    assert "no top-level name Task" in (task_fault("m:Task", root) or "")


def test_a_missing_name_comes_with_the_closest_one(root: Path) -> None:
    module(root, "pkg/m.py", "class AddressTagger: ...\nclass Other: ...\n_hidden = 1\n")
    fault = task_fault("pkg.m:AdressTagger", root)
    assert fault == (
        "task pkg.m:AdressTagger: pkg/m.py has no top-level name AdressTagger; did you mean AddressTagger?"
    )
    assert "known: AddressTagger, Other" in (task_fault("pkg.m:Zzz", root) or "")


def test_a_missing_module_says_where_it_was_searched(root: Path) -> None:
    module(root, "pkg/m.py", "")
    hint = "set the rootdir with --rootdir of pytest or --root of a command"
    assert f"no nowhere.py or nowhere/ in pytest's rootdir {root} or on sys.path; {hint}" in (
        task_fault("nowhere.m:T", root) or ""
    )
    assert "pkg has no module gone in pkg" in (task_fault("pkg.gone:T", root) or "")
    assert "pkg.m is a module, not a package" in (task_fault("pkg.m.deeper:T", root) or "")


def test_a_folder_without_init_is_not_a_task_module(root: Path) -> None:
    module(root, "pkg/m.py", "Task = 1")
    assert "pkg is a folder without __init__.py" in (task_fault("pkg:Task", root) or "")
    module(root, "pkg/__init__.py", "Task = 1")
    assert task_fault("pkg:Task", root) is None


def test_modules_in_nested_namespace_packages_are_found(root: Path) -> None:
    module(root, "a/b/c/m.py", "Task = 1")
    assert task_fault("a.b.c.m:Task", root) is None


def test_a_syntax_error_is_reported_at_its_place(root: Path) -> None:
    module(root, "pkg/m.py", "x = 1\ny = (\n")
    fault = task_fault("pkg.m:Task", root)
    assert fault == "task module pkg.m has a syntax error: pkg/m.py:2:5: '(' was never closed"


def test_neither_the_module_nor_its_packages_are_imported(root: Path) -> None:
    module(root, "untouched/__init__.py", "raise RuntimeError")
    module(root, "untouched/sub/__init__.py", "raise RuntimeError")
    module(root, "untouched/sub/m.py", "raise RuntimeError\nTask = 1")
    assert task_fault("untouched.sub.m:Task", root) is None
    assert not [name for name in sys.modules if name.startswith("untouched")]


def test_a_module_on_sys_path_is_found_and_the_root_comes_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(root, "lib/found_on_path.py", "Task = 1")
    assert task_fault("found_on_path:Task", root) is not None
    monkeypatch.syspath_prepend(root / "lib")
    assert task_fault("found_on_path:Task", root) is None
    module(root, "first/found_on_path.py", "Other = 1")
    assert "no top-level name Task" in (task_fault("found_on_path:Task", root / "first") or "")


ANY = AllowedCode(tasks=("*",))


def test_a_module_without_source_is_accepted(root: Path) -> None:
    assert task_fault("yaml._yaml:Anything", root, allowed=ANY) is None


def test_a_module_outside_the_rootdir_is_refused_unless_a_glob_allows_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = root / "project"
    module(root, "shared/company/tasks/tagger.py", "Task = 1")
    module(project, ".venv/lib/python3.11/site-packages/installed_here.py", "Task = 1")
    monkeypatch.syspath_prepend(root / "shared")
    monkeypatch.syspath_prepend(project / ".venv/lib/python3.11/site-packages")
    for task in ("company.tasks.tagger:Task", "installed_here:Task", "yaml:load", "yaml._yaml:x", "torch:load"):
        assert "is outside pytest's rootdir" in (task_fault(task, project) or ""), task
    for glob in ("company", "company.*", "comp*", "company.tasks.tagger", "company.tasks", "*"):
        assert task_fault("company.tasks.tagger:Task", project, allowed=AllowedCode(tasks=(glob,))) is None, glob
    for glob in ("compan", "company.tasks.tag", "tasks", "tagger", ""):
        assert task_fault("company.tasks.tagger:Task", project, allowed=AllowedCode(tasks=(glob,))) is not None, glob


def test_the_fault_of_a_module_outside_names_its_file_and_the_ini_key(root: Path) -> None:
    assert task_fault("yaml:load", root) == (
        f"task yaml:load is outside pytest's rootdir {root} ({yaml.__file__}); a recipe may name it if the project's "
        "ini file allows it: smoke_allow_tasks = yaml"
    )


def test_no_glob_allows_the_standard_library_or_the_function_that_unpickles(root: Path) -> None:
    assert "standard library" in (task_fault("os:system", root, allowed=ANY) or "")
    assert "part of pytest_smoke" in (task_fault("pytest_smoke.train.pickled:load", root, allowed=ANY) or "")
    ours = Path(__file__).parents[2]
    assert "part of pytest_smoke" in (task_fault("pytest_smoke.train.pickled:load", ours) or "")


def test_a_linked_module_belongs_to_the_folder_of_its_link(root: Path) -> None:
    """Bazel links all files of a project, and pytest is given linked rootdirs."""
    module(root, "real/linked_task.py", "Task = 1")
    (root / "project").mkdir()
    (root / "project/linked_task.py").symlink_to(root / "real/linked_task.py")
    assert task_fault("linked_task:Task", root / "project") is None
    (root / "link").symlink_to(root / "real")
    assert task_fault("linked_task:Task", root / "link") is None


@pytest.mark.parametrize("task", ["os:system", "sys:exit", "builtins:exec", "subprocess:run", "os.path:join"])
def test_nothing_of_the_standard_library_is_a_task(root: Path, task: str) -> None:
    fault = task_fault(task, root)
    assert fault == (f"task {task} is part of Python's standard library; name a class or function of your own")


def test_a_module_of_one_s_own_may_have_the_name_of_one_in_the_standard_library(root: Path) -> None:
    """`test` is one."""
    module(root, "test/tasks.py", "Task = 1")
    module(root, "test/__init__.py", "")
    assert task_fault("test.tasks:Task", root) is None


def test_a_module_in_an_archive_is_accepted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(root / "lib.zip", "w") as archive:
        archive.writestr("zipped_task.py", "Other = 1")
    monkeypatch.syspath_prepend(root / "lib.zip")
    assert task_fault("zipped_task:Task", root) is None


def test_a_changed_module_is_read_again(root: Path) -> None:
    """Modules are cached by time and size."""
    module(root, "m.py", "Tusk = 1")
    assert task_fault("m:Task", root) is not None
    module(root, "m.py", "Task = 1 ")
    assert task_fault("m:Task", root) is None
    os.remove(root / "m.py")
    assert "was not found" in (task_fault("m:Task", root) or "")


def test_a_module_written_just_now_is_found(root: Path) -> None:
    """Python caches the listing of its folder."""
    for at in range(20):
        assert task_fault(f"m{at}:Task", root) is not None
        module(root, f"m{at}.py", "Task = 1")
        assert task_fault(f"m{at}:Task", root) is None


def test_an_invalid_escape_in_the_module_gives_no_warning(root: Path) -> None:
    """The tests run with warnings as errors."""
    module(root, "m.py", "x = '\\d'\nTask = 1")
    assert task_fault("m:Task", root) is None


def test_a_file_that_cannot_be_parsed_never_raises(root: Path) -> None:
    (root / "nul.py").write_bytes(b"Task = 1\0")
    (root / "latin.py").write_bytes(b"# caf\xe9\nTask = 1")
    module(root, "deep.py", "Task = " + "(" * 5000 + ")" * 5000)
    module(root, "long.py", "Task = " + "+".join(["1"] * 50_000))
    for name in ("nul", "latin", "deep", "long"):
        fault = task_fault(f"{name}:Task", root)
        assert fault is None or "syntax error" in fault

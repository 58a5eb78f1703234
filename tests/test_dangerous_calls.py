"""The package starts no shell, evaluates no text, unpacks no archive, and unpickles in few places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "pytest_smoke"
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "marshal.loads"),
    *("subprocess.getstatusoutput", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive"),
    *("pickle.load", "pickle.loads", "torch.load", "tarfile.open", "zipfile.ZipFile", "shelve.open", "input"),
    *("runpy.run_path", "runpy.run_module", "numpy.load", "np.load", "joblib.load", "tempfile.mktemp"),
}
ALLOWED = {
    ("train/pickled.py", "pickle.loads"): "the task object of a test, from a folder that only its user can read",
    ("train/processes.py", "pickle.loads"): "what a rank tells the training process that forked it",
    ("train/checkpoints/io.py", "torch.load"): "with weights_only=True",
}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield every call of the package: the file, what is called, and the call."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), node


def test_nothing_that_executes_data_is_called() -> None:
    found = {(file, name) for file, name, _ in calls() if name in FORBIDDEN}
    assert found == ALLOWED.keys()


def test_weights_are_loaded_without_executing_anything() -> None:
    (loads,) = [call for _, name, call in calls() if name == "torch.load"]
    assert {keyword.arg: ast.unparse(keyword.value) for keyword in loads.keywords}["weights_only"] == "True"


def test_no_process_is_started_by_a_shell() -> None:
    started = [call for _, name, call in calls() if name in ("subprocess.Popen", "subprocess.run", "Popen", "run")]
    assert len(started) > 3
    assert not [call for call in started if any(keyword.arg == "shell" for keyword in call.keywords)]


def test_the_yaml_loader_is_the_safe_one() -> None:
    text = (PACKAGE / "recipe/yaml_document.py").read_text()
    bases = [line for line in text.splitlines() if "Loader" in line and line.startswith("_Base")]
    assert bases == ['_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)']

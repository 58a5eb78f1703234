"""Write the reference pages from the code: `python docs/generate.py`.

`--check` writes nothing. It names the pages that differ from the code, and exits with status 1 if there are any.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest_smoke
from pytest_smoke import audit, diagnose, events, gate, hookspecs, options, schedules, spans
from pytest_smoke.__main__ import COMMANDS, PROGRAM
from pytest_smoke.collect.fixture import Smokes
from pytest_smoke.judge.checks.check import WITHOUT_DATA, Check, Reason
from pytest_smoke.judge.checks.registry import CHECK_FAILED, CHECKS
from pytest_smoke.judge.verdict import decide
from pytest_smoke.recipe import schema as recipe_schema
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.report import verdicts_schema
from pytest_smoke.report.verdicts_schema import NON_FINITE, OBJECTS, attribute_descriptions, field_descriptions
from pytest_smoke.text import listed

FOLDER = Path(__file__).parent / "reference"
COMMAND = "python docs/generate.py"
PROSE_WIDTH = 100
CODE_WIDTH = 88
HELP_WIDTH = 78
"""Width at which argparse prints to a terminal of 80 columns."""

REPORT_FOLDER = (
    ("verdicts.json", "the outcome of every smoke run of the session, described below"),
    ("index.html", "the page with all smoke runs and their plots; it needs no network"),
    (
        "receipts/ID.json",
        "the receipt of a promotion, which [`gate`](commands.md#gate) demands; signed with `ID.json.sig`",
    ),
    ("receipts/refused/ID.json", "the same for a run that was not promoted; `gate --override` makes a receipt of it"),
    ("summary.md", "the verdicts, reasons and hints as Markdown, the worst first"),
    ("smoke.sarif", "the findings that failed or warn, for code scanning and editors"),
    ("traces/ID.csv", "one row per optimizer step: loss, learning rate, gradient norm, probe loss, loss terms"),
    ("checkpoints/ID/trained/", "weights and optimizer state after the last step"),
    ("checkpoints/ID/last-good/", "weights from before the loss became unstable"),
    ("logs/ID.log", "what the command printed, if the recipe has `command`"),
    ("tensorboard/ID/", "a TensorBoard event file, with `--smoke-tensorboard`"),
    ("packages/ID/", "the model package, if the recipe has `smoke.pipeline`"),
    ("predictions/ID.jsonl", "the rows that the task's `predictions` returned"),
    ("bisect.json", "the state of a bisect, if the session was one"),
    ("stale/", "what earlier sessions left: files, and `verdicts.json` with the newest earlier outcome of each id"),
    (".lock", "empty; the session that writes the folder has locked it"),
)
"""Files of a report folder. No code lists them, so a test compares this table with a real folder."""

Rows = Iterable[Sequence[str]]

# Pages: each function yields the blocks of one page.


def options_page() -> Iterator[str]:
    """Describe command-line options, ini keys and markers."""
    yield "# Options, ini keys and markers"
    yield prose("Which options, ini keys and markers does the plugin add to pytest?")
    recorder = _OptionRecorder()
    options.add_options(recorder)  # type: ignore[arg-type]  # has the methods of pytest's parser that are used
    yield "## Command line"
    for group, arguments in recorder.groups.items():
        yield prose(f"`pytest --help` lists these under *{group}*.")
        rows = [(code(_usage(name, given)), _default(given), plain(given["help"])) for name, given in arguments]
        yield table(("option", "default", "meaning"), rows)
    yield "## Ini keys"
    yield prose("In `pytest.ini`, or under `[tool.pytest.ini_options]` in `pyproject.toml`.")
    yield table(("key", "type", "default", "meaning"), recorder.ini_keys)
    yield "## Markers"
    yield table(("marker", "meaning"), _markers())


def commands_page() -> Iterator[str]:
    """Describe the commands and show their help texts."""
    recorder = _CommandRecorder()
    for command in COMMANDS:
        import_module(f"pytest_smoke.cli.{command}").add_parser(recorder)
    yield "# Commands"
    yield prose(
        "What can be done without pytest? Run `python -m pytest_smoke COMMAND`, or `verdict-smoke COMMAND`, which is "
        "the same."
    )
    rows = []
    for command, (summary, parser) in recorder.parsers.items():
        status = (parser.epilog or "").removeprefix("Exit status: ")
        rows.append((f"[`{command}`](#{command})", plain(summary), plain(status)))
    yield table(("command", "what it does", "exit status"), rows)
    yield prose(
        "The exit status is also 2 if the arguments are wrong or the output pipe is closed early (as by `head`)."
    )
    for command, (_, parser) in recorder.parsers.items():
        yield f"## {command}"
        yield fenced(parser.format_help().rstrip(), "text")


def recipe_page() -> Iterator[str]:
    """Describe every key of a recipe, section by section."""
    schema = recipe_schema.json_schema()
    required = {name: part.get("required", ()) for name, part in Recipe.model_json_schema()["$defs"].items()}
    top = Recipe.model_json_schema()["required"]
    yield "# Recipe keys"
    yield prose("Which keys can a `*.smoke.yaml` have, and what do they mean?")
    yield prose(
        "The first column is the path of a key: `[]` stands for each entry of a list, `NAME` for a name of your own. "
        "A key with an empty default can be left out, and its description says what applies then. Unknown keys are "
        "errors. `python -m pytest_smoke schema` prints the same as a JSON Schema, for editors."
    )
    sections = [("", schema, top)]
    while sections:
        path, node, required_keys = sections.pop(0)
        if path:
            yield f"## {path}"
            yield prose(node["description"])
        rows, inner = [], []
        for key, value in node["properties"].items():
            key_path = f"{path}.{key}" if path else key
            name, suffix = _section_of(value)
            if name:
                inner.append((key_path + suffix, schema["$defs"][name], required[name]))
            description = value.get("description") or schema["$defs"][name]["description"]
            default = "required" if key in required_keys else _json_default(value.get("default"))
            section = f"[section](#{slug(key_path + suffix)})"

            def link(_: str, text: str = section) -> str:
                return text

            rows.append((code(key_path), type_text(value, link), default, description))
        yield table(("key", "type", "default", "description"), rows)
        sections = inner + sections  # in the order of a file: a section's own sections come right after it


def checks_page() -> Iterator[str]:
    """Describe every check, its reasons, and the verdicts that they lead to."""
    yield "# Checks, reasons and verdicts"
    yield prose("What is checked in a smoke run, and which verdict does each result lead to?")
    yield "## Verdicts"
    yield prose("The verdict is the first of these that holds, and `promote` if none does.")
    yield docstring(decide, skip=1)
    yield "## Checks"
    yield prose("Findings are listed in this order. A check without a verdict only warns.")
    yield table(
        ("check", "question", "when", "a failure leads to", "a failure stops the run", "recipe key"),
        [
            (
                f"[`{check.id}`](#{slug(check.id)})",
                check.question,
                check.when,
                code(check.verdict or ""),
                "yes" if check.stops_run else "",
                code(check.key),
            )
            for check in CHECKS
        ],
    )
    yield "## Reasons"
    yield prose("A check that passes without a warning gives no reason.")
    for check in CHECKS:
        yield f"### {check.id}"
        yield prose(check.question)
        yield table(
            ("reason", "status", "verdict", "given when"),
            [
                (code(reason.id), code(reason.status), code(_verdict_of(check, reason)), _when(reason))
                for reason in check.reasons
            ],
        )
    yield "### Checks without data"
    yield prose(
        "Not everything that trains reports all that the checks ask for: the log of a command does not show the model. "
        "Every check can give these reasons."
    )
    yield table(
        ("reason", "status", "verdict", "given when"),
        [
            (
                code(reason.id),
                code(reason.status),
                code("inconclusive" if reason.status == "not-checked" and reason.blocks else ""),
                _when(reason),
            )
            for reason in WITHOUT_DATA
        ],
    )
    yield "### Checks of other plugins"
    yield prose("A check that a plugin adds has the reasons that it declares, and one more.")
    yield table(
        ("reason", "status", "verdict", "given when"),
        [(code(CHECK_FAILED.id), code(CHECK_FAILED.status), code("inconclusive"), _when(CHECK_FAILED))],
    )


def verdicts_json_page() -> Iterator[str]:
    """Describe the report folder and every field of `verdicts.json`."""
    schema = verdicts_schema.json_schema()
    yield "# The report folder and verdicts.json"
    yield prose("What does `--smoke-report DIR` write, and what does each field of `verdicts.json` mean?")
    yield "## Report folder"
    yield prose("`ID` is the id of the smoke run in a form that file names allow.")
    yield table(("file in DIR", "content"), [(code(name), text) for name, text in REPORT_FOLDER])
    yield "## Non-finite numbers"
    texts = listed(code(f'"{text}"') for text in NON_FINITE)
    yield prose(f"JSON has no NaN and no infinities. The file has the texts {texts} instead.")
    yield "## verdicts.json"
    yield prose(
        "`python -m pytest_smoke schema --of verdicts` prints the same as a JSON Schema, for programs. None in a "
        "description means `null` in an outcome or a finding, and a missing key in facts."
    )
    yield _keys(schema)
    for cls in OBJECTS:
        yield f"## {cls.__name__}"
        yield docstring(cls)
        yield _keys(schema["$defs"][cls.__name__])


def events_page() -> Iterator[str]:
    """Describe the messages between the training process and the pytest process."""
    yield "# Events and commands"
    yield prose(
        "What does the training process report to the pytest process, and what is it told in return? Only those who "
        "change pytest_smoke need to know: the messages are not a public API."
    )
    for title, union in (("Events", events.Event), ("Commands", events.Command)):
        yield f"## {title}"
        for cls in get_args(union):
            yield f"### {cls.__name__}"
            yield from _fields(cls, defaults=False)


def python_api_page() -> Iterator[str]:
    """Describe what Python code can import, and the hooks for other plugins."""
    yield "# Python API"
    yield prose("What can tests, scripts and plugins import, and which hooks can plugins implement?")
    yield "## pytest_smoke"
    public = {name: getattr(pytest_smoke, name) for name in pytest_smoke.__all__ if name != "__version__"}
    errors = {name: value for name, value in public.items() if issubclass(value, Exception)}
    for name in public:
        if name not in errors:
            yield from _member(pytest_smoke, name)
    yield "### Errors"
    yield table(("error", "meaning"), [(code(name), inline(error)) for name, error in errors.items()])
    for module in (gate, schedules, spans, diagnose, audit):
        yield f"## {module.__name__}"
        yield docstring(module)
        for name in getattr(module, "__all__", None) or _public_names(module):
            if name not in errors:
                yield from _member(module, name)
    yield "## Fixture smoke"
    yield docstring(Smokes)
    yield from _function("smoke", Smokes.__call__)
    yield "## Markers"
    yield table(("marker", "meaning"), _markers())
    yield "## Hooks for plugins"
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        yield f"### {name}"
        yield from _function(name, hook)


def faults_page() -> Iterator[str]:
    """Describe every fault that the tests make happen, and what a user sees of it."""
    if (root := str(Path(__file__).parents[1])) not in sys.path:
        sys.path.insert(0, root)
    from tests.faults.table import ANYTHING, modules

    yield "# Faults, and what you see of them"
    yield prose("What happens if a task crashes, a disk is full, or a file is in the way?")
    yield prose(
        f"Each row is a test in `tests/faults/` with real processes. After each, all other smoke runs of the session "
        f"have their verdicts, and no processes, temporary files or half-written files are left. `{ANYTHING}` stands "
        "for what differs from one time to the next."
    )
    for module in modules():
        yield f"## {module.SUBJECT}"
        yield docstring(module)
        yield table(
            ("what happens", "verdict or exit status", "what you read"),
            [(fault.happens, code(fault.verdict), code_span(fault.sentence)) for fault in module.FAULTS],
        )


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "options.md": options_page,
    "commands.md": commands_page,
    "recipe.md": recipe_page,
    "checks.md": checks_page,
    "verdicts-json.md": verdicts_json_page,
    "events.md": events_page,
    "python-api.md": python_api_page,
    "faults.md": faults_page,
}
"""Pages by file name."""

# Markdown.


def prose(text: str, *, indent: str = "", first: str = "") -> str:
    """Wrap a paragraph; `first` and `indent` start its first and its other lines, as in a list."""
    filled = textwrap.fill(
        " ".join(text.split()),
        PROSE_WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    # A line that starts with one of these would begin a list, a quote or a heading.
    return re.sub(r"(?<=\n)(\s*)([-+*>#] |\d+[.)] )", r"\1\\\2", filled)


def table(header: Sequence[str], rows: Rows) -> str:
    """Render a table."""
    cells = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells)


def fenced(text: str, language: str) -> str:
    """Render a block of code."""
    return f"```{language}\n{text}\n```"


def code(text: str) -> str:
    """Render a code span; nothing if there is no text."""
    return f"`{text}`" if text else ""


def code_span(text: str) -> str:
    """Render a code span of a text that may have backticks."""
    return f"`` {text} ``" if "`" in text else code(text)


def plain(text: str) -> str:
    """Render a help text, in which argparse's `%%` is a percent sign and `*` no emphasis."""
    return text.replace("%%", "%").replace("*", r"\*")


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def inline(thing: Any) -> str:
    """Return a docstring on one line, for a table."""
    return " ".join((inspect.getdoc(thing) or "").split())


def docstring(thing: Any, *, skip: int = 0) -> str:
    """Render a docstring without its first `skip` paragraphs.

    It may have paragraphs, `- ` and `1. ` lists, and terms whose descriptions are indented.
    """
    blocks = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join(_block(block.splitlines()) for block in blocks[skip:])


def _block(lines: list[str]) -> str:
    if lines[0] == "Args:":
        return _entries(textwrap.dedent("\n".join(lines[1:])).splitlines(), r"\w")
    if re.match(r"- |\d+\. ", lines[0]):
        return _entries(lines, r"- |\d+\. ")
    if any(line.startswith("    ") for line in lines):
        return _entries((line if line[0] == " " else f"{line}:" for line in lines), r"\S")
    return prose(" ".join(lines))


def _entries(lines: Iterable[str], starts: str) -> str:
    """Render a list. A line that matches `starts` begins an entry; an indented line continues it."""
    entries: list[str] = []
    for line in lines:
        if re.match(starts, line):
            entries.append(line)
        else:
            entries[-1] += f" {line.strip()}"
    marked = [entry if re.match(r"- |\d+\. ", entry) else f"- {entry}" for entry in entries]
    return "\n".join(
        prose(text, first=f"{marker} ", indent=" " * (len(marker) + 1))
        for marker, _, text in (entry.partition(" ") for entry in marked)
    )


# Options, commands and checks.


class _OptionRecorder:
    """Stands in for pytest's parser and keeps what the plugin declares."""

    def __init__(self) -> None:
        self.groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.ini_keys: list[tuple[str, str, str, str]] = []

    def getgroup(self, name: str, description: str = "") -> _OptionRecorder:
        """Begin a group of options."""
        self.groups[description or name] = []
        return self

    def addoption(self, name: str, **given: Any) -> None:
        """Add an option to the newest group."""
        self.groups[list(self.groups)[-1]].append((name, given))

    def addini(self, name: str, **given: Any) -> None:
        """Add an ini key."""
        default = _json_default(given.get("default"))
        self.ini_keys.append((code(name), code(given.get("type", "string")), default, plain(given["help"])))


class _CommandRecorder:
    """Stands in for argparse's subparsers and keeps the parser of each command."""

    def __init__(self) -> None:
        self.parsers: dict[str, tuple[str, argparse.ArgumentParser]] = {}

    def add_parser(self, name: str, **given: Any) -> argparse.ArgumentParser:
        """Add a command."""
        summary = given.pop("help")
        form = partial(argparse.HelpFormatter, width=HELP_WIDTH)
        parser = argparse.ArgumentParser(prog=f"{PROGRAM} {name}", formatter_class=form, **given)
        parser.color = False  # type: ignore[attr-defined]  # Python 3.14 and newer
        self.parsers[name] = summary, parser
        return parser


def _usage(name: str, given: Mapping[str, Any]) -> str:
    if given.get("action") == "store_true":
        return name
    choices = "{" + ",".join(given.get("choices", ())) + "}"
    value = given.get("metavar", choices)
    return " ".join([name, *([value] if isinstance(value, str) else value)])


def _default(given: Mapping[str, Any]) -> str:
    if given.get("action") == "store_true":
        return "off"
    default = given.get("default")
    return code(f"{default:g}" if isinstance(default, float) else default or "")


def _markers() -> Rows:
    return [(code(name), plain(text)) for name, _, text in (marker.partition(": ") for marker in options.MARKERS)]


def _verdict_of(check: Check, reason: Reason) -> str:
    if reason.verdict or reason.status in ("pass", "warn"):
        return reason.verdict or ""
    return "inconclusive" if reason.status == "not-checked" else check.verdict or ""


def _when(reason: Reason) -> str:
    if not reason.yields_to:
        return reason.when
    names = list(map(code, reason.yields_to))
    others = f"the check {names[0]}" if len(names) == 1 else f"one of the checks {listed(names)}"
    others = "another check" if "*" in reason.yields_to else others
    return f"{reason.when}; if {others} failed, that failure decides"


# JSON Schema.


def type_text(node: Mapping[str, Any], reference: Callable[[str], str]) -> str:
    """Describe the type of a schema's value; `reference` renders the name of a definition."""
    if "$ref" in node:
        return reference(node["$ref"].rpartition("/")[2])
    if "const" in node:
        return code(str(node["const"]))
    if "enum" in node:
        return _either(code(str(choice)) for choice in node["enum"])
    if "anyOf" in node:
        absent = "default" in node and node["default"] is None
        choices = [choice for choice in node["anyOf"] if not (absent and choice == {"type": "null"})]
        return _either(type_text(choice, reference) for choice in choices)
    if node.get("type") == "array":
        return _list_text(node, reference)
    if node.get("type") == "object":
        values: Any = node.get("additionalProperties") or next(iter(node.get("patternProperties", {}).values()), {})
        inner = type_text(values, reference) if isinstance(values, Mapping) else "any"
        return "mapping" if inner == "any" else f"mapping from name to {inner}"
    return f"{node.get('type', 'any')}{_bounds(node)}"


def _list_text(node: Mapping[str, Any], reference: Callable[[str], str]) -> str:
    if "prefixItems" in node:
        return f"list of {listed(type_text(item, reference) for item in node['prefixItems'])}"
    least, most = node.get("minItems"), node.get("maxItems")
    if least == most:
        size = f" with {least} entries" if least else ""
    else:
        size = f" with at least {least} entry" if least else f" with at most {most} entries"
    inner = type_text(node["items"], reference)
    return f"list{size}" if inner == "any" else f"list{size}: {inner}"


def _bounds(node: Mapping[str, Any]) -> str:
    match node:
        case {"minimum": low, "maximum": high}:
            return f" from {_power(low)} to {_power(high)}"
        case {"minimum": low}:
            return f" of at least {_power(low)}"
        case {"exclusiveMinimum": low}:
            return f" above {_power(low)}" + (f", at most {_power(node['maximum'])}" if "maximum" in node else "")
    return ""


def _power(value: float) -> str:
    return f"{value:g}".replace("e+", "e")


def _either(choices: Iterable[str]) -> str:
    *head, last = choices
    if any(" or " in choice for choice in head):
        return f"{'; '.join(head)}; or {last}"
    return f"{', '.join(head)} or {last}" if head else last


def _section_of(node: Mapping[str, Any]) -> tuple[str, str]:
    """Return the definition that a recipe key's value has, and what its path adds to the key's; empty if none."""
    if "$ref" in node:
        return node["$ref"].rpartition("/")[2], ""
    for choice in node.get("anyOf", ()):
        if found := _section_of(choice)[0]:
            return found, ""
    for key, suffix in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(node.get(key), Mapping) and (found := _section_of(node[key])[0]):
            return found, suffix
    return "", ""


def _json_default(value: Any) -> str:
    if value in ([], {}):
        return "empty"
    if value is None or isinstance(value, dict):  # a section's own keys have defaults
        return ""
    return code(f"{value:g}" if isinstance(value, float) else str(value).lower())


def _keys(node: Mapping[str, Any]) -> str:
    """Render the keys of an object in `verdicts.json`."""

    def reference(name: str) -> str:
        return "number" if name == "Number" else f"[{name}](#{slug(name)})"

    rows = [(code(key), type_text(value, reference), value["description"]) for key, value in node["properties"].items()]
    return table(("key", "type", "meaning"), rows)


# Python.


def signature(name: str, function: Callable[..., Any], *, on_one_line: bool = False) -> str:
    """Render a signature with its annotations as they are written, on several lines if it is too long for one."""
    found = inspect.signature(function)
    parameters, star = [], False
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not star:
            parameters.append("*")
            star = True
        parameters.append(str(parameter.replace(annotation=_Raw(parameter.annotation))))
    returns = f" -> {found.return_annotation}" if isinstance(found.return_annotation, str) else ""
    line = f"{name}({', '.join(parameters)}){returns}"
    if on_one_line or len(line) <= CODE_WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){returns}"])


class _Raw(str):
    """An annotation that prints without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _member(module: ModuleType, name: str) -> Iterator[str]:
    """Describe one public name of a module."""
    value = getattr(module, name)
    yield f"### {name}"
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isfunction(value):
        yield from _function(name, value)
    else:
        yield fenced(f"{name} = {value!r}", "python")
        yield prose(_constant_description(module, name))


def _class(name: str, cls: type) -> Iterator[str]:
    """Describe a class: fields and members of a data class in short, methods of others in full."""
    members = {key: value for key, value in vars(cls).items() if not key.startswith("_")}
    functions = {
        key: getattr(cls, key)
        for key, value in members.items()
        if inspect.isfunction(value) or isinstance(value, classmethod)
    }
    if not is_dataclass(cls):
        yield docstring(cls)
        for key, function in functions.items():
            yield from _function(key, function)
        return
    if cls in OBJECTS:
        yield docstring(cls)
        yield prose(f"Its fields are [those in verdicts.json](verdicts-json.md#{slug(name)}).")
    else:
        yield from _fields(cls)
    properties = {code(key): value for key, value in members.items() if isinstance(value, property)}
    methods = {code(signature(key, function, on_one_line=True)): function for key, function in functions.items()}
    entries = [f"{shown}: {inline(member)}" for shown, member in (properties | methods).items()]
    if entries:
        yield "\n".join(prose(entry, first="- ", indent="  ") for entry in entries)


def _function(name: str, function: Callable[..., Any]) -> Iterator[str]:
    yield fenced(signature(name, function), "python")
    yield docstring(function)


def _fields(cls: type, *, defaults: bool = True) -> Iterator[str]:
    """Describe a dataclass, with the defaults of its fields or without."""
    yield docstring(cls)
    descriptions = field_descriptions(cls)
    header: tuple[str, ...] = ("field", "type", "default", "meaning")
    rows: list[tuple[str, ...]] = [
        (code(field.name), code(str(field.type)), _field_default(field), descriptions[field.name])
        for field in fields(cls)
    ]
    if not defaults:
        header, rows = (*header[:2], header[3]), [(*row[:2], row[3]) for row in rows]
    if rows:
        yield table(header, rows)


def _field_default(field: Field[Any]) -> str:
    if field.default is MISSING:
        return "required" if field.default_factory is MISSING else "empty"
    return code(repr(field.default))


def _public_names(module: ModuleType) -> list[str]:
    """Return the public functions and constants that a module defines, in its order."""
    tree = ast.parse(inspect.getsource(module)).body
    names = [*attribute_descriptions(tree), *(node.name for node in tree if isinstance(node, ast.FunctionDef))]
    return [name for name in names if not name.startswith("_")]


def _constant_description(module: ModuleType, name: str) -> str:
    """Return the text under a constant, in the module that defines it."""
    tree = ast.parse(inspect.getsource(module)).body
    for node in tree:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return _constant_description(import_module(str(node.module)), name)
    return attribute_descriptions(tree)[name]


# The script.


def render(page: str) -> str:
    """Return the text of a page."""
    notice = f"<!-- Written by `{COMMAND}` from the code. Change the code, not this page. -->"
    title, *blocks = PAGES[page]()
    return "\n\n".join([title, *blocks[:1], notice, *blocks[1:]]) + "\n"


def stale_pages(folder: Path) -> list[str]:
    """Return the pages that nothing writes, and those that are missing or differ from the code."""
    unknown = {path.name for path in folder.glob("*")} - PAGES.keys()
    return sorted(unknown) + [
        page
        for page in sorted(PAGES, key=lambda page: (folder / page).is_file())
        if not (folder / page).is_file() or (folder / page).read_text(encoding="utf-8") != render(page)
    ]


def main(argv: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Write or check all pages; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="name the pages that differ from the code")
    if parser.parse_args(argv).check:
        stale = stale_pages(folder)
        for page in stale:
            print(f"docs/reference/{page} differs from the code; run: {COMMAND}")
        return 1 if stale else 0
    folder.mkdir(exist_ok=True)
    for page in PAGES:
        (folder / page).write_text(render(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

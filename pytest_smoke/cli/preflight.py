"""`preflight FULL SMOKE`: whether the settings of a smoke run are those of the full run, before either is started."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_smoke.cli.arguments import Subparsers, add_format, fail, print_json, print_text
from pytest_smoke.errors import RecipeError, SmokeError
from pytest_smoke.roots import task_root
from pytest_smoke.text import count

if TYPE_CHECKING:
    from pytest_smoke.judge.fairness import SettingDifference
    from pytest_smoke.judge.run_settings import Role, RunSettings, Stated

EXIT_STATUS = {"fair": 0, "not-fair": 1, "could-not-tell": 2}
SCHEMA = 1
"""Version of the JSON output; raised when a key changes its meaning or goes away."""
WIDTH = 79
HEADINGS = {
    "unfair": "not as required",
    "unknown": "could not be compared",
    "allowed": "may differ",
    "not-compared": "not compared",
}
HINT = (
    "hint: state what a file does not have with --full SETTING=VALUE and --smoke SETTING=VALUE, such as world_size=8; "
    "leave a key out of the comparison with --ignore KEY"
)


class PreflightError(SmokeError):
    """An argument of the command does not fit the files."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "preflight",
        help="compare the settings of a full run and its smoke run",
        description="Tell whether a run is a fair smoke run of another, by their configs alone. Each is a config file "
        "of a trainer (Hugging Face, LLaMA-Factory, axolotl, torchtitan, Lightning, Hydra, or plain JSON, YAML, TOML "
        "or Python text), or a recipe, of which the full run or the smoke run counts. Nothing is trained.",
        epilog="Exit status: 0 if the smoke run is fair, 1 if it is not, 2 if that is unknown because something "
        "is missing.",
    )
    parser.add_argument("full", metavar="FULL", help="config of the full run, or a recipe")
    parser.add_argument("smoke", metavar="SMOKE", help="config of the smoke run, or a recipe")
    for role in ("full", "smoke"):
        parser.add_argument(
            f"--{role}",
            dest=f"{role}_options",
            action="append",
            default=[],
            metavar="SETTING=VALUE",
            help=f"a setting of the {role} run that its file does not state, such as world_size=8; may be repeated",
        )
        parser.add_argument(
            f"--{role}-preset", metavar="NAME", help=f"trainer of the {role} run's config (default: recognised)"
        )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="KEY",
        help="a setting or a key of the configs that is not compared; may be repeated",
    )
    add_format(parser, json_help="one object with the verdict, both runs and every difference")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")


def run(args: argparse.Namespace) -> int:
    """Compare, print, and return the exit status."""
    from pytest_smoke.judge.fairness import compare_settings, fairness  # imports pydantic, which takes 0.2 s

    try:
        full = _settings(args.full, "full", args.full_options, args.full_preset)
        smoke = _settings(args.smoke, "smoke", args.smoke_options, args.smoke_preset)
    except RecipeError as error:
        return fail("preflight", *map(str, error.faults))
    except SmokeError as error:
        return fail("preflight", str(error))
    found = compare_settings(full, smoke, ignore=args.ignore)
    verdict = fairness(found)
    if args.format == "json":
        print_json(_tree(verdict, full, smoke, found), indent=1)
    else:
        print_text("\n".join(_lines(verdict, full, smoke, found)))
    return EXIT_STATUS[verdict]


def _settings(path: str, role: Role, options: list[str], preset: str | None) -> RunSettings:
    """Read one side. Raises SmokeError."""
    from pytest_smoke.judge.run_settings import of_case, of_config
    from pytest_smoke.recipe.configs.file import read_config
    from pytest_smoke.recipe.configs.settings import ConfigKeyError, read_settings
    from pytest_smoke.recipe.load import load_cases

    file = Path(path)
    if not os.path.isfile(path):
        raise PreflightError(f"there is no file {path}")
    stated = dict(_stated(role, option) for option in options)
    values = {key: one.value for key, one in stated.items()}
    if _is_recipe(file):
        case = load_cases(file, root=task_root(file))[0]
        if preset is not None or (stated and case.is_complete):
            wrong = f"--{role}-preset" if preset is not None else f"--{role}"
            raise PreflightError(f"{path} is a recipe, which states its settings itself; remove {wrong}")
        return of_case(case, role, stated)
    try:
        config = read_settings(read_config(file, path), preset=preset, stated=values)
    except ConfigKeyError as error:
        text = error.text.replace("preset: ", f"--{role}-preset ")
        raise PreflightError(text.removesuffix("; name them under keys")) from None
    for key, value in values.items():
        if key in config.values and config.value(key) != value:
            there = config.place(key)
            raise PreflightError(f"--{role} {key}={value}: {there} states {config.value(key)}; remove one of them")
    return of_config(config, stated)


def _is_recipe(file: Path) -> bool:
    """Tell whether the file is a recipe: by its name, or because it has the sections of one."""
    from pytest_smoke.recipe.configs.expand import RECIPE_SUFFIXES
    from pytest_smoke.recipe.configs.file import read_config

    if file.name.endswith(RECIPE_SUFFIXES):
        return True
    data = read_config(file, str(file)).data
    return all(isinstance(data.get(section), Mapping) for section in ("full", "smoke"))


def _stated(role: str, option: str) -> tuple[str, Stated]:
    """Parse SETTING=VALUE. Raises PreflightError."""
    from pytest_smoke.judge.run_settings import Stated
    from pytest_smoke.recipe.configs.file import Entry
    from pytest_smoke.recipe.configs.names import equivalent
    from pytest_smoke.recipe.configs.presets import CONVERT
    from pytest_smoke.recipe.configs.values import UnclearError
    from pytest_smoke.text import did_you_mean

    setting, equals, text = option.partition("=")
    if not equals or not text:
        raise PreflightError(f"--{role} {option} is not SETTING=VALUE, such as world_size=8")
    if setting not in CONVERT:
        hint = equivalent(setting, "full") or did_you_mean(setting, CONVERT)
        raise PreflightError(f"--{role} {option}: there is no setting {setting}; {hint}")
    value: Any = None if text in ("none", "null", "off") else text
    try:
        converted = CONVERT[setting](Entry(key=setting, value=value, line=1))
    except UnclearError as error:
        raise PreflightError(f"--{role} {option}: {error.text.partition(';')[0]}") from None
    return setting, Stated(value=converted, place=f"--{role} {option}")


# Output.


def _lines(verdict: str, full: RunSettings, smoke: RunSettings, found: list[SettingDifference]) -> Iterator[str]:
    """Yield the lines of the text output; none is wider than a terminal of 80 columns, unless a path is."""
    yield from _wrapped(_summary(verdict, full, smoke, found), "", "  ")
    for status, heading in HEADINGS.items():
        rows = [one for one in found if one.status == status]
        if rows:
            yield ""
            yield f"{heading}:"
        for one in rows:
            text = one.text if one.text.startswith(one.setting) else f"{one.setting.replace('_', ' ')}: {one.text}"
            yield from _wrapped(text, "  ", "    ")
            if status in ("unfair", "unknown"):
                for role, place in (("full run", one.full_place), ("smoke run", one.smoke_place)):
                    yield from _wrapped(f"{role}: {place}", "    ", "      ") if place else ()
    if any(one.status == "unknown" for one in found):
        yield ""
        yield from _wrapped(HINT, "", "  ")


def _summary(verdict: str, full: RunSettings, smoke: RunSettings, found: list[SettingDifference]) -> str:
    unfair, unknown = (sum(one.status == status for one in found) for status in ("unfair", "unknown"))
    names = f"{smoke.path} ({smoke.trainer}) as a smoke run of {full.path} ({full.trainer})"
    if verdict == "fair":
        which = "every compared setting" if any(one.status == "not-compared" for one in found) else "every setting"
        return f"fair: {names}, {which} that shapes the training is the same"
    if verdict == "could-not-tell":
        return f"could not tell: {names}, {count(unknown, 'setting')} missing or unclear"
    more = f", {unknown} more could not be compared" if unknown else ""
    return f"not fair: {names}, {count(unfair, 'setting')} {'is' if unfair == 1 else 'are'} not as required{more}"


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    """Wrap a paragraph, without a break between a number and its `%`."""
    kept = text.replace(" %", "\0%")
    lines = textwrap.wrap(
        kept, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in lines]


def _tree(verdict: str, full: RunSettings, smoke: RunSettings, found: list[SettingDifference]) -> Mapping[str, Any]:
    from pytest_smoke.files import json_value

    def run_of(run: RunSettings) -> dict[str, Any]:
        return {
            "path": run.path,
            "trainer": run.preset,
            "effective_batch": run.effective_batch,
            "settings": {key: asdict(one) for key, one in run.values.items()},
            "unclear": dict(run.unclear),
        }

    tree = {
        "schema": SCHEMA,
        "verdict": verdict,
        "full": run_of(full),
        "smoke": run_of(smoke),
        "differences": [asdict(one) for one in found],
    }
    return json_value(tree)  # type: ignore[no-any-return]  # a mapping stays one

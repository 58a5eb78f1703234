"""What all commands share: types of arguments, output that every terminal can show, exit status of a failure."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pytest_smoke.devices import parse_device
from pytest_smoke.errors import SmokeError
from pytest_smoke.files import strict_json
from pytest_smoke.plain import MESSAGE_CHARS, plain_text
from pytest_smoke.text import printable

EXIT_ERROR = 2
"""The command could not do its work; argparse exits with the same status after a wrong argument."""
MAX_SECONDS = 1e6

if TYPE_CHECKING:
    from pytest_smoke.logs.judging import RunDescription
    from pytest_smoke.logs.log import ColumnNames
    from pytest_smoke.recipe.case import Case

Subparsers = argparse._SubParsersAction  # argparse has no public name for it


def require_task(case: Case) -> None:
    """Raise SmokeError for a recipe that names something else than a task."""
    trainer = case.recipe.trainer
    if trainer != "task":
        raise SmokeError(f"{case.path} names a {trainer}, and this command needs a task")


def positive_int(text: str) -> int:
    """Parse a whole number of 1 or more."""
    return _whole_number(text, least=1)


def non_negative_int(text: str) -> int:
    """Parse a whole number of 0 or more."""
    return _whole_number(text, least=0)


def seconds(text: str) -> float:
    """Parse a number of seconds, above 0 and below a million."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def device(text: str) -> str:
    """Parse the name of a device."""
    try:
        return parse_device(text)
    except SmokeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_format(parser: argparse.ArgumentParser, *, json_help: str) -> None:
    """Add `--format text|json`; `json_help` says what one JSON object holds."""
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help=f"output format (default: text); json prints {json_help}",
    )


def add_expected_jump(parser: argparse.ArgumentParser) -> None:
    """Add `--expected-jump STEP`, which can be repeated."""
    parser.add_argument(
        "--expected-jump",
        type=positive_int,
        action="append",
        default=[],
        metavar="STEP",
        help="step at which the data or the loss change by design; can be repeated",
    )


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on what a log does not say about itself and its run."""
    parser.add_argument("--loss", metavar="NAME", help="column with the training loss (default: found by its name)")
    parser.add_argument("--lr", metavar="NAME", help="column with the learning rate (default: found by its name)")
    parser.add_argument(
        "--ignore-lr",
        action="store_true",
        help="judge the loss alone, even where the learning rate is too low to be evidence for its peak",
    )
    parser.add_argument("--step", metavar="NAME", help="column with the step (default: found by its name)")
    parser.add_argument(
        "--planned",
        type=positive_int,
        metavar="N",
        help="number of points in the complete log; a log with fewer points ended early (default: logs are complete)",
    )
    add_expected_jump(parser)
    parser.add_argument(
        "--from-scratch",
        action="store_true",
        help="training started from random weights: a loss that never improves is inconclusive",
    )


def log_options(args: argparse.Namespace) -> tuple[ColumnNames, RunDescription]:
    """Return the columns and the run that the options of `add_log_options` describe."""
    from pytest_smoke.logs.judging import RunDescription
    from pytest_smoke.logs.log import ColumnNames

    description = RunDescription(
        planned_points=args.planned,
        expected_jumps=tuple(args.expected_jump),
        from_scratch=args.from_scratch,
        ignores_learning_rate=args.ignore_lr,
    )
    return ColumnNames(loss=args.loss, lr=args.lr, step=args.step), description


def print_text(text: str) -> None:
    """Print to the standard output at once: a script may be waiting for the line."""
    print(printable(text, sys.stdout.encoding), flush=True)


def print_json(tree: Any, *, indent: int | None = None) -> None:
    """Print one strict JSON document to the standard output at once; `files.json_value` writes non-finite numbers."""
    print(strict_json(tree, indent=indent), flush=True)


def print_message(command: str, text: str) -> None:
    """Print an error or a notice to the standard error, after the command's name; the two ends of a very long one."""
    bounded = plain_text(text, limit=MESSAGE_CHARS)
    print(printable(f"{command}: {bounded}", sys.stderr.encoding), file=sys.stderr)


def fail(command: str, *texts: str) -> int:
    """Print one error per text and return the exit status."""
    for text in texts:
        print_message(command, text)
    return EXIT_ERROR


def _whole_number(text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
    return int(text)

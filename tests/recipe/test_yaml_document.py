"""YAML text as plain data: values, keys, aliases, and the place of every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.errors import RecipeError
from pytest_smoke.recipe.load import load_recipe
from tests.recipe.texts import FULL, GOOD, HEAD, SMOKE, Faults, check

WHOLE_FILE = [
    pytest.param("", ["1:1: ", "empty", "task, full and smoke"], id="empty"),
    pytest.param("# nothing\n", ["1:1: ", "empty"], id="only a comment"),
    pytest.param("---\n", ["1:1: ", "empty"], id="empty document"),
    pytest.param("- a\n", ["1:1: ", "a list", "a recipe is a mapping"], id="a list"),
    pytest.param("hello\n", ["1:1: ", "'hello'", "a recipe is a mapping"], id="text"),
    pytest.param("a: [1\nb: 2\n", ["2:2: ", "not valid YAML", "starts on line 1"], id="open bracket"),
    pytest.param("a: b: c\n", ["1:5: ", "not valid YAML", "mapping values"], id="two colons"),
    pytest.param("full:\n\tbatch_size: 8\n", ["2:1: ", "tabs cannot indent", "spaces"], id="tab"),
    pytest.param("a: @b\n", ["1:4: ", "not valid YAML", "cannot start any token"], id="reserved character"),
    pytest.param("a: *b\n", ["1:4: ", "undefined alias"], id="undefined alias"),
    pytest.param(
        f"{GOOD}---\na: 1\n", ["11:1: ", "second YAML document", "one recipe in each file"], id="two documents"
    ),
    pytest.param("a: 1\nb: caf\xe9\n".encode("latin-1"), ["2:7: ", "0xe9", "save the file as UTF-8"], id="latin-1"),
    pytest.param(GOOD.encode("utf-16"), ["1:1: ", "0xff", "save the file as UTF-8"], id="utf-16"),
    pytest.param(b"a: 1\nb: x\0y\n", ["2:5: ", "control character '\\x00'"], id="nul"),
    pytest.param("a: \x1b[31m\n", ["1:4: ", "control character '\\x1b'"], id="escape"),
    pytest.param("&a [*a]\n", ["1:1: ", "an alias refers to a value that it is part of"], id="a list inside itself"),
    pytest.param("a: " + "[" * 60 + "]" * 60, ["1:52: ", "more than 50 nested levels"], id="deep"),
    pytest.param("[" * 1_000_000, ["1:50: ", "more than 50 nested levels"], id="deep enough to overflow the C stack"),
    pytest.param(
        "a: [1]\nb: {c: " + "{d: " * 1100, ["2:196: ", "more than 50 nested levels"], id="over libyaml's limit"
    ),
    pytest.param("- " * 500_000, ["1:99: ", "more than 50 nested levels"], id="deep block list"),
    pytest.param("[" * 60 + "@", ["1:50: ", "more than 50 nested levels"], id="deep, then not YAML"),
    pytest.param("[" * 40 + "@", ["1:41: ", "not valid YAML"], id="not too deep, but not YAML"),
    pytest.param("[" + "1," * 20_001 + "]", ["1:1: ", "more than 20,000"], id="long"),
]


@pytest.mark.parametrize(("text", "fragments"), WHOLE_FILE)
def test_an_unreadable_file_has_one_fault_at_its_place(faults: Faults, text: str | bytes, fragments: list[str]) -> None:
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
    (".nan", "NaN is not equal to itself"),
    ("1.0e+999", "too large"),
    ("9" * 5000, "5,000 digits"),
    ("!!float 1", "tag !!float is not allowed"),
    ("!mine 1", "tag !mine is not allowed"),
    ("!!python/object/apply:os.system [ls]", "tag !!python/object/apply:os.system is not allowed"),
]


@pytest.mark.parametrize(("scalar", "what"), SCALARS)
def test_ambiguous_scalars_are_refused(faults: Faults, scalar: str, what: str) -> None:
    """Nested in the arguments of the task, where no type would reject them."""
    (fault,) = faults(HEAD + f"args:\n  a: [1, {{b: {scalar}}}]\n" + FULL + SMOKE)
    check(fault, ["3:14: ", what])


def test_an_ambiguous_scalar_is_one_fault_and_not_a_type_error_too(faults: Faults) -> None:
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
    (root / "r.smoke.yaml").write_text(HEAD + f"args:\n  a:\n    {written}\n" + FULL + SMOKE)
    assert load_recipe(root / "r.smoke.yaml", root=root).args == {"a": value}


KEYS = [
    ("args: {a: 1, a: 2}", ["2:14: ", "key 'a' is already on line 2"]),
    ("args: {1: 2}", ["2:8: ", "key 1 is not text", "quote it"]),
    ("args: {on: 2}", ["2:8: ", "key on is not text", "quote it"]),
    ("args: {null: 2}", ["2:8: ", "key null is not text"]),
    ("args: {? [a] : 2}", ["2:10: ", "a key must be text"]),
    ("args: {? {a: b} : 2}", ["2:10: ", "a key must be text"]),
    ("args: {!!str a: 2}", ["2:8: ", "a key must be text"]),
    ("args: {2024-01-01: 2}", ["2:8: ", "key 2024-01-01 is not text"]),
    ("args: &a {b: *a}", ["2:7: ", "an alias refers to a value that it is part of"]),
    ("args: {<<: {a: 1}}", ["2:8: ", "merge key <<", "use `extends`"]),
]


@pytest.mark.parametrize(("line", "fragments"), KEYS)
def test_keys_that_are_not_text_are_refused_at_the_key(faults: Faults, line: str, fragments: list[str]) -> None:
    (fault,) = faults(f"{HEAD}{line}\n{FULL}{SMOKE}")
    check(fault, fragments)


def test_n_and_y_are_allowed_as_keys(root: Path) -> None:
    """They are common names of arguments, though YAML 1.1 reads them as booleans."""
    (root / "r.smoke.yaml").write_text(HEAD + "args: {n: 1, y: 2, 'on': 3}\n" + FULL + SMOKE)
    assert load_recipe(root / "r.smoke.yaml", root=root).args == {"n": 1, "y": 2, "on": 3}


def test_an_alias_bomb_is_one_fault(faults: Faults) -> None:
    """Ten lists of ten aliases each would expand to 10^9 values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (fault,) = faults("\n".join(lines))
    check(fault, ["aliases expand to more than 20,000"])


def test_a_long_chain_of_aliases_is_one_fault(faults: Faults) -> None:
    """The text is flat, its data is 3,000 levels deep."""
    lines = ["args:", "  a0: &a0 [1]"] + [f"  a{i}: &a{i} [*a{i - 1}]" for i in range(1, 3000)]
    (fault,) = faults("\n".join(lines))
    check(fault, ["aliases nest more than 50 levels"])


def test_thousands_of_faults_are_all_reported(faults: Faults) -> None:
    assert len(faults(GOOD + "".join(f"key{i}: 1\n" for i in range(9000)))) == 9000
    assert len(faults(GOOD + "".join(f"  full{i % 4000}: 1\n" for i in range(8000)))) == 8000


def test_an_alias_has_the_value_of_its_anchor(root: Path) -> None:
    (root / "r.smoke.yaml").write_text(HEAD + "args: {a: &a [1], b: *a}\n" + FULL + SMOKE)
    assert load_recipe(root / "r.smoke.yaml", root=root).args == {"a": [1], "b": [1]}


def test_a_byte_order_mark_and_windows_line_ends_do_not_shift_places(root: Path) -> None:
    path = root / "r.smoke.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_recipe(path, root=root).full.max_steps == 50000
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").replace("50000", "0").encode())
    with pytest.raises(RecipeError, match=r"^r\.smoke\.yaml:8:14: "):
        load_recipe(path, root=root)


def test_columns_count_characters_and_not_bytes(faults: Faults) -> None:
    (fault,) = faults(f"{HEAD}args: {{größe: 1, é: off}}\n{FULL}{SMOKE}")
    check(fault, ["2:21: "])

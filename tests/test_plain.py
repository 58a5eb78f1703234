"""Whatever a task returns becomes builtins that pickle, JSON, pytest-xdist, XML and a terminal accept."""

from __future__ import annotations

import enum
import json
import marshal
import xml.etree.ElementTree as ElementTree
from collections import OrderedDict, namedtuple
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Step
from pytest_smoke.outcome import Facts, Finding
from pytest_smoke.plain import (
    MAX_DEPTH,
    MAX_INT,
    MESSAGE_CHARS,
    TEXT_CHARS,
    exception_text,
    plain,
    plain_fields,
    plain_name,
    plain_record,
    plain_text,
    safe_repr,
)


class Term(enum.StrEnum):
    CE = "ce"


class OldTerm(str, enum.Enum):  # noqa: UP042  # its str() is not its value
    KL = "kl"


class Number(float):
    def __float__(self) -> float:
        raise AssertionError("called")


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("called")


class Hostile:
    def __repr__(self) -> str:
        raise ValueError("no repr")

    __str__ = __repr__

    def __float__(self) -> float:
        raise KeyError("no number")


class HostileError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


Pair = namedtuple("Pair", "left right")
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.sampled_from(
        [
            *(Term.CE, OldTerm.KL, Number(2.5), Text("t"), np.float32(0.5), np.int64(7), np.bool_(True), np.str_("n")),
            *(-(10**400), 2**63, Fraction(1, 2), object(), "\ud800", "\x1b[31mred", b"\xff", 1j),
        ]
    ),
    st.builds(Hostile),
    st.integers(4000, 6000).map(lambda digits: 10**digits),  # Python refuses to print integers of more than 4,300
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.tuples(inner, inner).map(lambda pair: Pair(*pair)),
        st.dictionaries(
            st.one_of(st.text(st.characters(exclude_categories=())), st.sampled_from([None, 3, Term.CE])), inner
        ).map(OrderedDict),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=12,
)


def parts(value: Any) -> list[Any]:
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [value, *(part for one in inner for part in parts(one))]


@given(VALUES)
def test_a_plain_value_consists_of_exact_builtins_that_every_serializer_accepts(value: Any) -> None:
    found = plain(value)
    for part in parts(found):
        assert type(part) in (type(None), bool, int, float, str, list, tuple, dict)
        if isinstance(part, str):
            part.encode("utf-8")
            escaped = part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            ElementTree.fromstring(f"<a>{escaped}</a>")
        if type(part) is int:
            assert -MAX_INT <= part < MAX_INT
    marshal.dumps(found)  # as strict about subclasses as pytest-xdist's serializer
    json.dumps(found)


@given(VALUES)
def test_a_plain_value_stays_as_it_is(value: Any) -> None:
    found = plain(value)
    assert repr(plain(found)) == repr(found)  # NaN is not equal to itself


@given(VALUES, st.text(st.characters(exclude_categories=())))
def test_a_record_becomes_plain_as_the_tree_of_its_values_does(value: Any, text: str) -> None:
    finding = Finding(id="accept", status="pass", text=text, observed=value, data={"value": value})
    facts = Facts(recipe_text=text, args={"value": value}, command=(text,))
    for record in (finding, facts):
        assert repr(plain_record(record).to_dict()) == repr(plain(record.to_dict()))
    safe = Finding(id="accept", status="pass", text="loss < 1 at step 7", observed=7)
    assert plain_record(safe) is safe


@given(st.dictionaries(st.text(st.characters(exclude_categories=())), st.integers(0, 9)))
def test_no_entry_of_a_mapping_is_lost(value: dict[str, int]) -> None:
    assert list(plain(value).values()) == list(value.values())


def test_names_that_are_enums_become_their_text() -> None:
    step = plain_fields(Step(0, np.float64(1.5), {Term.CE: 1.0, OldTerm.KL: np.float32(0.5)}, 1, 0.1))
    assert step == Step(0, 1.5, {"ce": 1.0, "kl": 0.5}, 1, 0.1)
    assert {type(name) for name in step.terms} == {str}
    assert type(step.loss) is float


def test_what_a_terminal_would_obey_is_escaped_and_a_name_has_one_line() -> None:
    assert (
        plain_text("\x1b[31mred\x07\r\nnext\tcell é 中 \U0001f600") == "\\x1b[31mred\\x07\nnext\tcell é 中 \U0001f600"
    )
    assert plain_text("caf\udce9 \u202eevil") == "caf\\udce9 \\u202eevil"
    assert plain_name("two\nlines\t") == "two\\nlines\\t"


def test_a_long_text_keeps_its_two_ends_and_says_how_much_is_missing() -> None:
    text = plain_text("a" * 50_000_000 + "z")
    assert len(text) < TEXT_CHARS + 60
    assert text.startswith("aaa")
    assert text.endswith("aaz")
    assert f"[... {50_000_001 - TEXT_CHARS:,} characters left out ...]" in text


def test_a_value_that_contains_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert len(parts(plain(endless))) == MAX_DEPTH + 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no labels"), "ValueError: no labels"),
        (MemoryError(), "MemoryError"),
        (HostileError(), "HostileError: (its message cannot be shown: ValueError)"),
        (OSError("caf\udce9"), "OSError: caf\\udce9"),
    ],
)
def test_every_exception_has_a_text(error: Exception, text: str) -> None:
    assert exception_text(error) == text


def test_the_message_of_an_exception_is_bounded() -> None:
    assert len(exception_text(ValueError("x" * 100_000_000))) < MESSAGE_CHARS + 60


def test_a_value_without_a_repr_is_named_by_its_type() -> None:
    assert safe_repr(Hostile()) == "<Hostile: its repr raised ValueError>"


def test_a_record_that_is_plain_already_is_not_copied() -> None:
    finding = Finding(id="schedule", status="pass", text="ok", data={"evidence_steps": 552})
    facts = Facts(recipe_text="task: a:B\n\tfull: {}\n", full_accept=("loss < 1",), versions={"python": "3.11"})
    assert plain_record(finding) is finding
    assert plain_record(facts) is facts
    listed = {"steps": [1, 2]}
    copied = plain_record(Finding(id="schedule", status="pass", text="ok", data=listed)).data
    assert copied == listed
    assert copied["steps"] is not listed["steps"], "what made the finding may go on filling its list"


def test_a_mapping_that_a_task_goes_on_filling_is_copied() -> None:
    metrics = {"loss": 1.0}
    found = plain(metrics)
    metrics["loss"] = 2.0
    assert found == {"loss": 1.0}

"""Read examples from rows and lines, and report those that are malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.errors import ExamplesError
from pytest_smoke.ner.examples import Entity, read_lines, read_rows, trim_predictions

RAW = "Le Tréport, 76470"


def row(**changes: Any) -> dict[str, Any]:
    return {"raw": RAW, "gold": [], "pred": [], **changes}


@pytest.mark.parametrize(
    "given_values",
    [
        [{"tag": "city", "start": 0, "end": 10}, {"tag": "postcode", "start": 12, "end": 17, "score": 0.9}],
        [[0, 10, "city"], [12, 17, "postcode"]],
        [(0, 10, "city"), {"tag": "postcode", "start": 12, "end": 17}],
    ],
)
def test_spans_are_objects_or_triples(given_values: list[Any]) -> None:
    (example,) = read_rows([row(gold=given_values, id=7)])
    assert example.gold == (
        Entity(tag="city", value="Le Tréport", span=(0, 10)),
        Entity(tag="postcode", value="76470", span=(12, 17)),
    )
    assert (example.raw, example.pred, example.place) == (RAW, (), "example 1")


def test_values_are_read_by_tag() -> None:
    (example,) = read_rows([row(pred={"city": "le tréport", "postcode": ["76470", "7647"], "road": None, "unit": " "})])
    assert example.pred == (
        Entity(tag="city", value="le tréport"),
        Entity(tag="postcode", value="76470"),
        Entity(tag="postcode", value="7647"),
    )


SPAN = 'allowed: {"tag": ..., "start": ..., "end": ...} or [start, end, tag]'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: not valid JSON (Expecting property name"),
        (
            '{"raw": "a", "gold": [], "pred": []} x',
            ":38: not valid JSON (Extra data)",
        ),
        ("[1, 2]", "[1, 2] is not an object; allowed: an object with raw, gold and pred"),
        ("null", "None is not an object"),
        ('{"raw": "a", "gold": []}', "the key 'pred' is missing; keys: 'raw', 'gold'; raw, gold and pred are required"),
        ('{"raw": 3, "gold": [], "pred": []}', "raw is 3; allowed: a string"),
        (
            '{"raw": "a", "gold": "a", "pred": []}',
            "gold is 'a'; allowed: a list of spans, or an object with the values of each tag",
        ),
        ('{"raw": "a", "gold": null, "pred": []}', "gold is None; allowed"),
        ('{"raw": "a", "gold": [], "pred": [], "gold": []}', "the key 'gold' is given twice"),
        (
            '{"raw": "a", "gold": {"t": "a", "t": "b"}, "pred": []}',
            "the key 't' is given twice; give several values of a tag as a list",
        ),
        ('{"raw": "a", "gold": {"t": 3}, "pred": []}', "gold['t'] is 3; allowed: a string, a list of strings, or null"),
        (
            '{"raw": "a", "gold": [], "pred": {"t": ["a", null]}}',
            "pred['t'] is None; allowed: a string, a list of strings, or null",
        ),
        ('{"raw": "a", "gold": {"": "a"}, "pred": []}', "gold: tag is empty; allowed: a string that is not empty"),
        ('{"raw": "a", "gold": [[0, 1]], "pred": []}', f"gold[0] is [0, 1]; {SPAN}"),
        ('{"raw": "a", "gold": [], "pred": [{"tag": "t"}]}', f"pred[0] is {{'tag': 't'}}; {SPAN}"),
        ('{"raw": "a", "gold": [[0, 1, 2]], "pred": []}', "gold[0]: tag is 2; allowed: a string that is not empty"),
        (
            '{"raw": "a", "gold": [["t", 0, 1]], "pred": []}',
            "gold[0]: start is 't'; allowed: a whole number of code points",
        ),
        ('{"raw": "a", "gold": [[0, true, "t"]], "pred": []}', "gold[0]: end is True; allowed: a whole number"),
        ('{"raw": "a", "gold": [[0, 1.0, "t"]], "pred": []}', "gold[0]: end is 1.0; allowed: a whole number"),
        (
            '{"raw": "a", "gold": [], "pred": [[0, 1, "t"], [0, 0, "t"]]}',
            "pred[1]: empty span: start and end are both 0",
        ),
        ('{"raw": "ab", "gold": [], "pred": [[2, 1, "t"]]}', "pred[0]: reversed span: start 2 is after end 1"),
        (
            '{"raw": "🏠", "gold": [[0, 2, "t"]], "pred": []}',
            "gold[0]: span 0-2 is outside the text; offsets go from 0 to 1",
        ),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "a number has thousands of digits; allowed: whole numbers of code points"),
    ],
)
def test_a_faulty_line_is_reported_with_its_place_and_what_is_allowed(line: str, message: str) -> None:
    with pytest.raises(ExamplesError) as caught:
        read_lines([b"\n", line.encode()], "run.jsonl")
    (fault,) = caught.value.faults
    assert fault.startswith("run.jsonl:2:")
    assert message in fault
    assert len(fault) < 300
    assert "\n" not in fault


def test_all_faulty_lines_are_kept_and_ten_are_printed() -> None:
    lines = [b"{}", json.dumps(row()).encode()] * 12
    with pytest.raises(ExamplesError) as caught:
        read_lines(lines, "run.jsonl")
    assert [fault.partition(" ")[0] for fault in caught.value.faults] == [f"run.jsonl:{at}:" for at in range(1, 24, 2)]
    assert str(caught.value).splitlines()[-1] == "... and 2 more"
    assert len(str(caught.value).splitlines()) == 11


@pytest.mark.parametrize("lines", [[], [b"\n", b"  \n"], [b"\xef\xbb\xbf"]])
def test_a_file_without_examples_is_an_error(lines: list[bytes]) -> None:
    with pytest.raises(
        ExamplesError, match=r"^run\.jsonl: the file has no examples; allowed: one JSON object per line$"
    ):
        read_lines(lines, "run.jsonl")


def test_the_first_byte_that_is_not_utf8_is_reported() -> None:
    with pytest.raises(ExamplesError, match=r"run.jsonl:1: byte b'\\xe9' is not UTF-8"):
        read_lines(['{"raw": "Tréport"}'.encode("latin-1")], "run.jsonl")


def test_byte_order_marks_and_windows_line_ends_are_read() -> None:
    line = json.dumps(row(raw="a\u2028b"), ensure_ascii=False).encode()
    (one, two) = read_lines([b"\xef\xbb\xbf" + line + b"\r\n", line], "run.jsonl")
    assert (one.raw, one.place, two.place) == ("a\u2028b", "run.jsonl:1", "run.jsonl:2")


def test_only_predictions_are_trimmed() -> None:
    spans = row(gold=[[10, 17, "postcode"]], pred=[[10, 17, "postcode"], [10, 12, "city"]])
    values = row(pred={"postcode": ", 76470", "city": ["--", "St."]})
    first, second = (trim_predictions(example, keep_full_stop=True) for example in read_rows([spans, values]))
    assert first.gold == (Entity(tag="postcode", value=", 76470", span=(10, 17)),)
    assert first.pred == (Entity(tag="postcode", value="76470", span=(12, 17)),)
    assert second.pred == (Entity(tag="postcode", value="76470"), Entity(tag="city", value="St."))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["raw", "gold", "pred", "tag", "start", "end", "t"]), inner),
    ),
    max_leaves=12,
)


@given(st.fixed_dictionaries({"raw": st.text(max_size=6), "gold": JSON, "pred": JSON}))
def test_any_row_is_read_or_refused(found: dict[str, Any]) -> None:
    examples, faults = [], ()
    try:
        examples = read_rows([found])
    except ExamplesError as error:
        faults = error.faults
    assert len(examples) + len(faults) == 1
    assert all(fault.startswith("example 1: ") for fault in faults)
    for example in examples:
        for entity in (*example.gold, *example.pred):
            assert entity.tag
            assert entity.span is None or example.raw[slice(*entity.span)] == entity.value

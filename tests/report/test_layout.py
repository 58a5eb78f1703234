"""Wrapping, tables that fit a width, and short ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.report.layout import fitted_table, short_ids, wrap

WORD = st.text(alphabet="abc/-.", min_size=1, max_size=20)
TEXT = st.lists(WORD, max_size=20).map(" ".join)


@given(TEXT, st.integers(1, 60), st.sampled_from(["", "  hint: "]), st.sampled_from(["", "    "]))
def test_wrapping_keeps_every_word_whole_and_fits_if_words_do(text: str, width: int, first: str, rest: str) -> None:
    lines = wrap(text, width, first=first, rest=rest)
    assert " ".join(lines).split() == [*first.split(), *text.split()]
    assert all(len(line) <= width or len(line.split()) <= (2 if first else 1) for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_line_breaks_are_kept_and_indented() -> None:
    assert wrap("one\n\ntwo three", 8, first="- ", rest="  ") == ["- one", "", "  two", "  three"]


def test_numbers_stay_with_their_units() -> None:
    assert wrap("it fell by 5.6 % at step 419", 12, rest="") == ["it fell by", "5.6 % at", "step 419"]


CELL = st.text(alphabet="ab ", max_size=30)


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=6), st.integers(20, 80))
def test_a_table_fits_by_wrapping_and_dropping_columns(rows: list[tuple[str, str, str]], width: int) -> None:
    lines = fitted_table(("name", "size", "text"), rows, width, wrapped=("text",), dropped=("size",))
    assert len(lines) == len(rows) + 1
    named = max([4, *(len(row[0]) for row in rows)])
    if named + 2 + 16 <= width and all(len(word) <= 14 for row in rows for word in row[2].split()):
        assert all(len(line) <= width for row in lines for line in row)
    for row, rendered in zip(rows, lines[1:], strict=True):
        assert rendered[0].startswith(row[0].rstrip())
        assert set(row[2].split()) <= {word for line in rendered for word in line.split()}


def test_a_column_without_values_is_left_out() -> None:
    table = fitted_table(("name", "size"), [("a", "-"), ("b", "")], dropped=("size",))
    assert table == [["name"], ["a"], ["b"]]


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), unique=True, max_size=8))
def test_short_ids_are_unique_endings(paths: list[str]) -> None:
    ids = [f"{path}.smoke.yaml::constant" for path in paths]
    short = short_ids(ids)
    assert len(set(short.values())) == len(ids)
    assert all(f"{path}::constant".endswith(short[id]) for path, id in zip(paths, ids, strict=True))


def test_an_id_of_another_file_keeps_its_suffix() -> None:
    assert short_ids(["x/a.recipe.yml::constant[b/c]"]) == {
        "x/a.recipe.yml::constant[b/c]": "a.recipe.yml::constant[b/c]"
    }

"""Parse criteria, and refuse everything else with a position."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.criteria import parse
from pytest_smoke.criteria.grammar import MAX_DEPTH
from pytest_smoke.criteria.nodes import (
    FUNCTIONS,
    ORDERS,
    AtEnd,
    BaselineRef,
    Binary,
    Call,
    Condition,
    Deadline,
    MetricRef,
    Negate,
    Node,
    Number,
    OverStage,
    OverSteps,
    bare_metrics,
    walk,
)
from pytest_smoke.criteria.tokens import MAX_TOKENS
from pytest_smoke.errors import CriterionError

ANY = (0, 0)
names = st.one_of(
    st.sampled_from(
        ["loss", "f1", "val.f1", "max", "over", "by", "step", "1st", "crf/ce", "lr-AdamW", "baseline.f1", " "]
    ),
    st.text(st.characters(exclude_characters="`", codec="utf-8"), min_size=1, max_size=6),
)
counts = st.integers(0, 10**6)
metrics = st.builds(MetricRef, name=names, span=st.just(ANY))
overs = st.one_of(
    st.none(),
    st.builds(OverStage, name=names, span=st.just(ANY)),
    st.builds(lambda a, b: OverSteps(first=min(a, b), last=max(a, b), span=ANY), counts, counts),
)
leaves: st.SearchStrategy[Node] = st.one_of(
    metrics,
    st.builds(BaselineRef, name=names, span=st.just(ANY)),
    st.builds(Number, value=st.floats(0, allow_infinity=False, allow_nan=False).map(abs), span=st.just(ANY)),
)


def grow(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(Negate, operand=inner, span=st.just(ANY)),
        st.builds(Binary, sign=st.sampled_from("+-*/"), left=inner, right=inner, span=st.just(ANY)),
        st.builds(
            Call,
            function=st.sampled_from(FUNCTIONS),
            argument=inner.filter(lambda node: bool(bare_metrics(node))),
            over=overs,
            span=st.just(ANY),
        ),
    )


expressions = st.recursive(leaves, grow, max_leaves=8)
conditions = st.builds(
    Condition,
    left=expressions,
    order=st.sampled_from(ORDERS),
    right=expressions,
    over=overs,
    moment=st.one_of(
        st.none(),
        st.builds(AtEnd, span=st.just(ANY)),
        st.builds(Deadline, unit=st.sampled_from(["step", "epoch"]), count=counts, span=st.just(ANY)),
    ),
    span=st.just(ANY),
).filter(lambda c: any(isinstance(node, MetricRef) for side in (c.left, c.right) for node in walk(side)))


@given(conditions)
def test_the_canonical_text_of_any_tree_parses_back_to_it(condition: Condition) -> None:
    assert parse(str(condition)).condition == condition


@given(conditions)
def test_the_span_of_a_node_is_its_own_text(condition: Condition) -> None:
    criterion = parse(str(condition))
    for side in (criterion.condition.left, criterion.condition.right):
        for node in walk(side):
            cut = criterion.text[slice(*node.span)]
            assert parse(f"{cut} < metric").condition.left == node


WORDS = """
max( mean( ( ) + - * / < <= == 1 1e-3 .5 x loss val/f1 `a b` baseline. over stage steps by step epoch at end B 7 ` , %
"""
words = st.sampled_from(WORDS.split())


@given(
    st.one_of(
        st.text(max_size=60), st.lists(words, max_size=14).map(" ".join), st.lists(words, max_size=14).map("".join)
    )
)
def test_arbitrary_text_is_parsed_or_refused_at_a_column_in_it(text: str) -> None:
    refusal: CriterionError | None = None
    try:
        assert parse(text).metrics
    except CriterionError as error:
        refusal = error
    if refusal is not None:
        problem, line, caret = str(refusal).split("\n")
        assert 1 <= refusal.column <= len(text) + 1
        assert refusal.problem in problem
        assert len(caret) <= len(line) + 1


REFUSED = [
    ("max(grad_norm < 500", 15, ["found '<'", "')'"]),
    ("x = 3", 3, ["'='", "'=='"]),
    ("x ≤ 3", 3, ["'<='"]),
    ("x > 80%", 7, ["0.8"]),
    ("x", 2, ["comparison", "the end"]),
    ("", 1, ["expected a number, a metric", "the end"]),
    ("3 < 4", 1, ["needs at least one metric of the smoke run"]),
    ("baseline.f1 < 4", 1, ["needs at least one metric of the smoke run"]),
    ("0 < x < 1", 7, ["a second comparison starts", "two criteria"]),
    ("x < 1 and y < 1", 7, ["a second comparison starts", "two criteria"]),
    ("mx(l) < 3", 1, ["did you mean 'max'?", "median"]),
    ("max(x, y) < 3", 6, ["one expression"]),
    ("max(3) < x", 5, ["needs a metric inside it, as in max(loss)"]),
    ("max(min(x)) < 3", 5, ["needs a metric inside it, as in max(loss)"]),
    ("x < 3 by stop 4", 10, ["'step' or 'epoch'", "'stop'"]),
    ("x < 3 by step 4.5", 15, ["whole number", "'4.5'"]),
    ("x < 3 over steps 9-4", 7, ["the last step, 4, is before the first, 9"]),
    ("x < 3 over steps 9", 19, ["expected '-'"]),
    ("x < 3 over stage 1", 18, ["name of a stage"]),
    ("x < 3 ovr stage B", 7, ["did you mean 'over'?", "'at end'"]),
    ("x < 3 by step 4 at end", 17, ["only one 'by' or 'at end'"]),
    ("x < 1_000", 5, ["'1_000'", "1e-3"]),
    ("x < 1e999", 5, ["largest float"]),
    ("x < `", 5, ["backticks"]),
    ("x <\t3 4", 7, ["found '4'"]),
]


@pytest.mark.parametrize(("text", "column", "fragments"), REFUSED, ids=[text for text, _, _ in REFUSED])
def test_a_refusal_points_at_the_text_and_says_what_is_allowed(text: str, column: int, fragments: list[str]) -> None:
    with pytest.raises(CriterionError) as refused:
        parse(text)
    assert refused.value.column == column
    assert [fragment for fragment in fragments if fragment not in refused.value.problem] == []
    first, line, caret = str(refused.value).split("\n")
    assert first == f"column {column}: {refused.value.problem}"
    assert line == "  " + text.replace("\t", " ")
    assert caret.index("^") == column + 1


@pytest.mark.parametrize("text", ["(" * 40 + "x" + ")" * 40 + " < 1", "-" * 40 + "x < 1", "max(" * 40 + "x" + ")" * 40])
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(CriterionError, match=f"more than {MAX_DEPTH} nested levels"):
        parse(text)


@pytest.mark.parametrize("part", ["-x", "(x)", "max(x)"])
def test_more_terms_than_the_nesting_limit_are_allowed_side_by_side(part: str) -> None:
    assert parse(" + ".join([part] * (MAX_DEPTH + 5)) + " < 1").metrics == {"x"}


@pytest.mark.parametrize("text", ["(" * 10**5, "-" * 10**5 + "x < 1", "x" + " + x" * 10**5 + " < 1"])
def test_a_text_over_the_limit_is_refused_in_a_message_that_fits_a_screen(text: str) -> None:
    with pytest.raises(CriterionError, match=f"at most {MAX_TOKENS} names, numbers and operators") as refused:
        parse(text)
    assert len(str(refused.value)) < 400


def test_the_longest_sum_is_parsed_printed_and_judged_within_400_stack_frames() -> None:
    text = "x" + " + x" * ((MAX_TOKENS - 3) // 2) + " < 1"
    limit, depth = sys.getrecursionlimit(), 0
    frame = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]  # None ends the loop
    try:
        sys.setrecursionlimit(depth + 400)
        criterion = parse(text)
        assert parse(str(criterion)) == criterion
        assert criterion.judge({"x": [(0, 0.001)]}, steps_run=1).status == "pass"
    finally:
        sys.setrecursionlimit(limit)


def test_criteria_that_differ_in_spacing_are_equal() -> None:
    tight, wide = parse("max(loss)<3 by  step 4"), parse("max( loss )  <  3 by step 4")
    assert tight == wide
    assert hash(tight) == hash(wide)
    assert tight.id == "accept[max(loss)<3 by step 4]"


def test_metrics_are_those_of_the_judged_run_and_not_the_baselines() -> None:
    assert parse("max(a/`b/c`) + d < 2 * baseline.e").metrics == {"a", "b/c", "d"}


def test_minus_and_slash_are_operators_outside_backticks() -> None:
    assert parse("a-b > 0").metrics == {"a", "b"}
    assert parse("`a-b` > 0").metrics == {"a-b"}


@given(st.text("abz 09-_()/", min_size=1, max_size=59).filter(str.strip), conditions)
def test_a_name_changes_neither_the_meaning_nor_the_id(name: str, condition: Condition) -> None:
    named, bare = parse(f"{name}: {condition}"), parse(str(condition))
    assert named == bare
    assert named.id == bare.id
    assert named.name == " ".join(name.split())
    assert (bare.name, bare.name_data) == ("", {})


@pytest.mark.parametrize(
    ("text", "column"),
    [("health: a <", 12), ("health: :a < 1", 9), (": a < 1", 1), (f"{'x' * 61}: a < 1", 62), ("a < 1: b", 6)],
)
def test_an_invalid_name_is_refused_at_a_column_that_counts_the_name(text: str, column: int) -> None:
    with pytest.raises(CriterionError) as raised:
        parse(text)
    assert raised.value.column == column

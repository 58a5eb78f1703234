"""What the criteria language accepts, and how it refuses the rest."""

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
    Baseline,
    Binary,
    By,
    Call,
    Condition,
    Metric,
    Negate,
    Node,
    Number,
    Stage,
    Steps,
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
metrics = st.builds(Metric, name=names, span=st.just(ANY))
overs = st.one_of(
    st.none(),
    st.builds(Stage, name=names, span=st.just(ANY)),
    st.builds(lambda a, b: Steps(first=min(a, b), last=max(a, b), span=ANY), counts, counts),
)
leaves: st.SearchStrategy[Node] = st.one_of(
    metrics,
    st.builds(Baseline, name=names, span=st.just(ANY)),
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
        st.builds(By, unit=st.sampled_from(["step", "epoch"]), count=counts, span=st.just(ANY)),
    ),
    span=st.just(ANY),
).filter(lambda c: any(isinstance(node, Metric) for side in (c.left, c.right) for node in walk(side)))


@given(conditions)
def test_canonical_text_parses_back(condition: Condition) -> None:
    """The text of any tree of the language parses back to that tree."""
    assert parse(str(condition)).condition == condition


@given(conditions)
def test_spans_cut_out_the_node(condition: Condition) -> None:
    """The characters a node claims are a text of that node."""
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
def test_arbitrary_text_is_parsed_or_refused(text: str) -> None:
    """No text raises anything but CriterionError, whose column lies in the text or one past it."""
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
    ("3 < 4", 1, ["needs a metric of this run"]),
    ("baseline.f1 < 4", 1, ["needs a metric of this run"]),
    ("0 < x < 1", 7, ["second comparison", "two criteria"]),
    ("x < 1 and y < 1", 7, ["second comparison", "two criteria"]),
    ("mx(l) < 3", 1, ["did you mean 'max'?", "median"]),
    ("max(x, y) < 3", 6, ["one expression"]),
    ("max(3) < x", 5, ["metric of its own"]),
    ("max(min(x)) < 3", 5, ["metric of its own"]),
    ("x < 3 by stop 4", 10, ["'step' or 'epoch'", "'stop'"]),
    ("x < 3 by step 4.5", 15, ["whole number", "'4.5'"]),
    ("x < 3 over steps 9-4", 7, ["4 lies before the first 9"]),
    ("x < 3 over steps 9", 19, ["expected '-'"]),
    ("x < 3 over stage 1", 18, ["stage's name"]),
    ("x < 3 ovr stage B", 7, ["did you mean 'over'?", "'at end'"]),
    ("x < 3 by step 4 at end", 17, ["at most one"]),
    ("x < 1_000", 5, ["'1_000'", "1e-3"]),
    ("x < 1e999", 5, ["largest float"]),
    ("x < `", 5, ["backticks"]),
    ("x <\t3 4", 7, ["found '4'"]),
]


@pytest.mark.parametrize(("text", "column", "fragments"), REFUSED, ids=[text for text, _, _ in REFUSED])
def test_refusals_point_and_say_what_is_allowed(text: str, column: int, fragments: list[str]) -> None:
    """A refusal names the offending text, where it stands, and what may stand there."""
    with pytest.raises(CriterionError) as refused:
        parse(text)
    assert refused.value.column == column
    assert [fragment for fragment in fragments if fragment not in refused.value.problem] == []
    first, shown, caret = str(refused.value).split("\n")
    assert first == f"column {column}: {refused.value.problem}"
    assert shown == "  " + text.replace("\t", " ")
    assert caret.index("^") == column + 1


@pytest.mark.parametrize("text", ["(" * 40 + "x" + ")" * 40 + " < 1", "-" * 40 + "x < 1", "max(" * 40 + "x" + ")" * 40])
def test_deep_nesting_is_refused(text: str) -> None:
    """Nesting beyond the limit is a refusal that names the limit."""
    with pytest.raises(CriterionError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse(text)


@pytest.mark.parametrize("part", ["-x", "(x)", "max(x)"])
def test_what_stands_side_by_side_is_not_nested(part: str) -> None:
    """The limit is on depth: more parts than it side by side are fine."""
    assert parse(" + ".join([part] * (MAX_DEPTH + 5)) + " < 1").metrics == {"x"}


@pytest.mark.parametrize("text", ["(" * 10**5, "-" * 10**5 + "x < 1", "x" + " + x" * 10**5 + " < 1"])
def test_long_texts_are_refused(text: str) -> None:
    """A text beyond the limit is refused where it passes it, in a message that fits a screen."""
    with pytest.raises(CriterionError, match=f"at most {MAX_TOKENS} words and signs") as refused:
        parse(text)
    assert len(str(refused.value)) < 400


def test_the_largest_criterion_needs_little_stack() -> None:
    """The longest sum there can be parses, prints and is judged within 400 frames."""
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


def test_spacing_does_not_change_a_criterion() -> None:
    """Criteria that differ in spacing are equal, and their ids have single spaces."""
    tight, wide = parse("max(loss)<3 by  step 4"), parse("max( loss )  <  3 by step 4")
    assert tight == wide
    assert hash(tight) == hash(wide)
    assert tight.id == "accept[max(loss)<3 by step 4]"


def test_metrics_are_the_runs_own() -> None:
    """`metrics` has the run's metrics, unquoted, in and out of functions, and no baseline."""
    assert parse("max(a/`b/c`) + d < 2 * baseline.e").metrics == {"a", "b/c", "d"}


def test_minus_and_slash_are_operators_outside_backticks() -> None:
    """`a-b` and `a/b` compute; in backticks they are names."""
    assert parse("a-b > 0").metrics == {"a", "b"}
    assert parse("`a-b` > 0").metrics == {"a-b"}


@given(st.text("abz 09-_()/", min_size=1, max_size=59).filter(str.strip), conditions)
def test_a_name_before_a_criterion_changes_nothing_else(name: str, condition: Condition) -> None:
    """Neither its meaning nor its id."""
    named, bare = parse(f"{name}: {condition}"), parse(str(condition))
    assert named == bare
    assert named.id == bare.id
    assert named.name == " ".join(name.split())
    assert (bare.name, bare.called) == ("", {})


@pytest.mark.parametrize(
    ("text", "column"),
    [("health: a <", 12), ("health: :a < 1", 9), (": a < 1", 1), (f"{'x' * 61}: a < 1", 62), ("a < 1: b", 6)],
)
def test_names_that_are_none(text: str, column: int) -> None:
    """The column counts the name too."""
    with pytest.raises(CriterionError) as raised:
        parse(text)
    assert raised.value.column == column

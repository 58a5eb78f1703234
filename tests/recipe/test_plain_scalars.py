"""Plain scalars have PyYAML's value or are refused."""

from __future__ import annotations

import math
import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_smoke.recipe.yaml_document import AmbiguousScalarError, read_plain

NUMBERISH = st.text(st.sampled_from("0123456789+-._eExXob:naifNAIF"), min_size=1, max_size=9)
WORDS = st.sampled_from(["null", "NULL", "nULL", "~", "True", "tRUE", "false", "Yes", "yES", "on", "Off", "N", "none"])


def pyyaml_value(text: str) -> object:
    """Return the value that PyYAML's own resolver and constructor give a plain scalar."""
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, text))


@given(NUMBERISH | WORDS | st.floats(allow_nan=False).map(repr) | st.integers().map(str))
@example("0b_1")
@example("-0x_F")
@example("1_000.5e+3")
@example("-.5")
@example("1.e+3")
def test_every_accepted_scalar_has_pyyamls_value(text: str) -> None:
    """Other tools that read the recipe see the same values."""
    try:
        value = read_plain(text)
    except AmbiguousScalarError:
        return
    expected = pyyaml_value(text)
    assert type(value) is type(expected)
    assert value == expected


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18))
def test_no_number_written_by_python_is_read_as_text(number: float) -> None:
    """`1e-07` is refused, `0.0005` is read."""
    if re.search("^[^.]*e|e[0-9]", repr(number)):
        with pytest.raises(AmbiguousScalarError, match=r"is text in YAML 1.1, not a number; write"):
            read_plain(repr(number))
    else:
        assert read_plain(repr(number)) == number


@given(st.from_regex(r"[-+]?([0-9]{1,3}(\.[0-9]{0,3})?|\.[0-9]{1,3})[eE][-+]?[0-9]{1,2}", fullmatch=True))
def test_the_suggested_spelling_is_the_number_that_was_meant(text: str) -> None:
    try:
        value = read_plain(text)
    except AmbiguousScalarError as error:
        value = read_plain(str(error).partition("write ")[2].partition(",")[0])
    assert isinstance(value, float)
    assert math.isclose(value, float(text), rel_tol=1e-15)


@pytest.mark.parametrize("text", ["010", "-010", "0o17", "08", "00", "0_1", "+0_"])
def test_leading_zeros_and_octal_numbers_are_refused(text: str) -> None:
    """YAML 1.1 and 1.2 disagree about all of them."""
    with pytest.raises(AmbiguousScalarError, match="without leading zeros"):
        read_plain(text)

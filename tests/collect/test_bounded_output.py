"""Of what a task prints into pytest's capture, the two ends are kept."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.collect import bounded_output as module
from pytest_smoke.collect.bounded_output import KEPT_CHARS, bounded_output


@given(st.lists(st.text("abc\n", max_size=12), max_size=20))
def test_the_first_and_the_last_characters_are_kept_and_the_others_counted(texts: list[str]) -> None:
    stream, whole = io.StringIO(), "".join(texts)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stream):
        patch.setattr(module, "KEPT_CHARS", 10)
        with bounded_output():
            for text in texts:
                sys.stdout.write(text)
    left_out = max(0, len(whole) - 20)
    note = f"\n[... {left_out} characters left out ...]\n"
    assert stream.getvalue() == (whole[:10] + note + whole[-10:] if left_out else whole)


def test_a_large_text_takes_no_more_memory_than_its_ends() -> None:
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), bounded_output():
        for _ in range(50):
            print("x" * 1_000_000, file=sys.stderr)
    assert len(stream.getvalue()) < 2 * KEPT_CHARS + 100


def test_the_streams_are_restored_after_an_exception() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="of the task"), bounded_output():
        raise ValueError("of the task")
    assert (sys.stdout, sys.stderr) == before

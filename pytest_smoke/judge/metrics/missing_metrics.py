"""Will the full run be asked for a metric that nothing records?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from pytest_smoke.criteria import parse
from pytest_smoke.outcome import Finding


def unrecorded(full_accept: Sequence[str], recorded: Collection[str]) -> list[Finding]:
    """`full_accept`, a warning, where one of its criteria names a series that the smoke has not."""
    wanted = dict.fromkeys(name for text in full_accept for name in sorted(parse(text).metrics))
    unknown = [name for name in wanted if name not in recorded]
    if not unknown:
        return []
    text = (
        f"checks.full_accept names {', '.join(unknown)}, which this smoke never recorded; it has {', '.join(recorded)}"
    )
    hint = nearest(unknown, recorded)
    return [Finding(id="full-accept", status="warn", reason="unknown-metric", text=text, hint=hint)]


def nearest(unknown: Sequence[str], known: Collection[str]) -> str:
    """`did you mean f1?`, or nothing where none of the known names is near one of the unknown."""
    near = [match for name in unknown for match in get_close_matches(name, known, n=1, cutoff=0.6)]
    return f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""

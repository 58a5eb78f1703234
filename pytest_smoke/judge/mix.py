"""The sampled data mix against what was intended, from a recipe's `mix:`."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_smoke.judge.finding import Finding
from pytest_smoke.recipe.model import Mix


def sampled_shares(mix: Mix) -> dict[str, float]:
    """Share of each source in what is drawn: rows x weight over the sum of rows x weight.

    Raises ValueError if all weights are 0.
    """
    mass = {name: source.rows * source.weight for name, source in mix.sources.items()}
    total = sum(mass.values())
    if not total:
        raise ValueError("every source has weight 0: nothing can be drawn")
    return {name: part / total for name, part in mass.items()}


def audit_mix(mix: Mix) -> Finding:
    """The `mix` check: intended shares are met, no source dominates, and none leads the next by too much."""
    try:
        shares = sampled_shares(mix)
    except ValueError as error:
        return Finding(id="mix", status="fail", reason="empty", text=str(error))
    faults = list(_faults(mix, shares))
    table = ", ".join(f"{name} {100 * share:.1f} %" for name, share in _descending(shares))
    if not faults:
        return Finding(id="mix", status="pass", text=f"sampled mix: {table}", data={"shares": shares})
    return Finding(
        id="mix",
        status="fail",
        reason=faults[0][0],
        text="; ".join(text for _, text in faults),
        observed=shares,
        hint=f"sampled mix: {table}; change the weights, or mix.dominant_share and mix.lead_ratio if it is meant",
        data={"shares": shares},
    )


def _faults(mix: Mix, shares: dict[str, float]) -> Iterator[tuple[str, str]]:
    for name, source in mix.sources.items():
        if source.share is not None and abs(shares[name] - source.share) > mix.tolerance:
            yield (
                "share",
                f"source {name!r} is {100 * shares[name]:.1f} % of the sampled mix ({source.rows} rows x weight "
                f"{source.weight:g}), not the intended {100 * source.share:.1f} %",
            )
    if len(shares) < 2:
        return
    (first, most), (second, next_most), *_ = _descending(shares)
    if most > mix.dominant_share:
        yield (
            "dominant",
            f"source {first!r} is {100 * most:.1f} % of the sampled mix, over {100 * mix.dominant_share:g} %",
        )
    if most > mix.lead_ratio * next_most:
        lead = f"{most / next_most:.1f}x" if next_most else "all of it against none for"
        yield "lead", f"source {first!r} leads the next, {second!r}, {lead}; at most {mix.lead_ratio:g}x is allowed"


def _descending(shares: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: -item[1])

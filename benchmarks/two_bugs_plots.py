"""The pictures of docs/explanation/why-short-runs-mislead.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import svg
from two_bugs_runs import Run, Three

COSINE, CONSTANT, FULL = "#1f77b4", "#d62728", "#7b3294"
LEFT, GAP, PANEL_WIDTH, PANEL_HEIGHT = 74, 96, 400, 150
TOPS = (84, 274, 464)
LOSSES, LOSS_TICKS = (0.1, 200.0), (0.1, 1, 10, 100)


def first(runs: Mapping[int, Three], path: Path) -> None:
    """Rate, loss and macro-F1 of the three runs; the first seed in strong lines, the others in pale ones."""
    smokes = [(three.cosine, COSINE) for three in runs.values()] + [
        (three.constant, CONSTANT) for three in runs.values()
    ]
    fulls = [(three.full, FULL) for three in runs.values() if three.full]
    shown = next(iter(runs.values()))
    columns = (
        (LEFT, smokes, "One recipe as two smokes", (shown.cosine, shown.constant)),
        (LEFT + PANEL_WIDTH + GAP, fulls, "The full cosine run", (shown.full,) if shown.full else ()),
    )
    parts = [part for left, drawn, title, strong in columns for part in _column(left, drawn, title, strong)]
    names = [
        (COSINE, "cosine smoke: looks clean; the judge: invalid (masked)"),
        (CONSTANT, "constant smoke: dashed where the judge says unstable"),
        (FULL, "full run"),
    ]
    others = f"strong: seed {next(iter(runs))}; pale: seeds {', '.join(map(str, list(runs)[1:]))}"
    foot = TOPS[-1] + PANEL_HEIGHT + 66
    parts.append(svg.key(LEFT, foot, names))
    parts.append(svg.key(LEFT + PANEL_WIDTH + GAP, foot, [("none", others)]))
    svg.write(path, svg.page(996, foot + 60, "A cosine smoke hides what the full run meets", parts))


def _column(left: float, drawn: Sequence[tuple[Run, str]], title: str, strong: Sequence[Run]) -> list[str]:
    steps = max(len(run.losses) for run, _ in drawn)
    every = steps // 4 if steps < 2000 else 2000
    axes = {"left": left, "width": PANEL_WIDTH, "height": PANEL_HEIGHT, "x": (0, steps)}
    axes["x_ticks"] = range(0, steps + 1, every)
    rate = svg.Panel(**axes, top=TOPS[0], y=(0, 1.05), y_ticks=(0, 0.5, 1), y_label="rate / peak", title=title)
    loss = svg.Panel(**axes, top=TOPS[1], y=LOSSES, y_ticks=LOSS_TICKS, y_label="loss (log)", log=True)
    f1 = svg.Panel(
        **axes, top=TOPS[2], y=(0, 1), y_ticks=(0, 0.25, 0.5, 0.75, 1), y_label="val macro-F1", x_label="step"
    )
    order = sorted(drawn, key=lambda one: one[0] in strong)  # strong lines on top
    styles = [(run, colour, (2.0, 1.0) if run in strong else (1.0, 0.3)) for run, colour in order]
    marks = [
        svg.Mark(x=run.loss_trend.step, text=f"unstable, step {run.loss_trend.step}", colour=colour)
        for run, colour, (_, opacity) in styles
        if opacity == 1 and run.loss_trend.step is not None
    ]
    unnamed = [replace(mark, text="") for mark in marks]
    rates = [
        svg.Line(points=[(at, run.multiplier(at)) for at in range(0, len(run.losses), 10)], colour=colour)
        for run, colour, (_, opacity) in styles
        if opacity == 1
    ]
    return [
        rate.draw(rates, unnamed),
        loss.draw([_line(means(run.losses, max(10, steps // 200)), *style) for run, *style in styles], marks),
        f1.draw([_line(run.f1, *style) for run, *style in styles], unnamed),
    ]


def second(pairs: Mapping[tuple[str, float, int], Mapping[int, Run]], path: Path) -> None:
    """The losses of both batches, a panel for each of the first two pairs."""
    parts = []
    for number, ((optimizer, rate, seed), by_batch) in enumerate(list(pairs.items())[:2]):
        steps = max(len(run.losses) for run in by_batch.values())
        panel = svg.Panel(
            left=LEFT + number * (PANEL_WIDTH + GAP),
            top=TOPS[0],
            width=PANEL_WIDTH,
            height=2 * PANEL_HEIGHT,
            x=(0, steps),
            y=LOSSES,
            x_ticks=range(0, steps + 1, 200),
            y_ticks=LOSS_TICKS,
            y_label="loss (log)",
            x_label="step",
            title=f"{optimizer}, learning rate {rate:g}, seed {seed}",
            log=True,
        )
        drawn = list(zip(by_batch.values(), (CONSTANT, COSINE), strict=True))
        marks = [
            svg.Mark(x=run.loss_trend.step, text=f"unstable, step {run.loss_trend.step}", colour=colour, row=row)
            for row, (run, colour) in enumerate(drawn)
            if run.loss_trend.step is not None
        ]
        parts.append(panel.draw([_line(means(run.losses, 5), colour, (1.8, 1.0)) for run, colour in drawn], marks))
    foot = TOPS[0] + 2 * PANEL_HEIGHT + 66
    names = [(CONSTANT, "effective batch 8, to where it is stopped"), (COSINE, "effective batch 128")]
    parts.append(svg.key(LEFT, foot, names))
    svg.write(path, svg.page(996, foot + 40, "One learning rate, two effective batches", parts))


def _line(points: svg.Points, colour: str, look: tuple[float, float]) -> svg.Line:
    return svg.Line(points=points, colour=colour, width=look[0], opacity=look[1])


def means(losses: Sequence[tuple[int, float]], block: int) -> list[tuple[float, float]]:
    """Block means at the middle of each block; a block with a loss that is not finite is infinite."""
    out = []
    for at in range(0, len(losses), block):
        part = losses[at : at + block]
        mean = sum(value for _, value in part) / len(part)
        out.append((part[0][0] + len(part) / 2, mean if math.isfinite(mean) else math.inf))
    return out

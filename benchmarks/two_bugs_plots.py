"""Draw the figures of docs/explanation/why-short-runs-mislead.md. Needs matplotlib (the extra `benchmarks`)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from two_bugs_runs import Run, SeedRuns

from pytest_smoke.files import write_atomic

COSINE, CONSTANT, FULL = "#1f77b4", "#d62728", "#7b3294"
LOSSES = (0.1, 200.0)
"""Range of the loss axes; a block mean outside it, or one that is not finite, is drawn at the edge."""
PADDING: dict[str, Any] = {"w_pad": 0.1, "h_pad": 0.06}
"""Space around every panel, in inches."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller files, and it can be searched
    "svg.hashsalt": "two-bugs",  # ids depend on the figure alone, so that the same runs give the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e3e3e3",
    "axes.titleweight": "bold",
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "figure.titleweight": "bold",
    "legend.frameon": False,
    "lines.solid_joinstyle": "round",
}


def draw_first(runs: Mapping[int, SeedRuns], path: Path) -> None:
    """Write learning rate, loss and macro-F1 of all runs of the first bug; the first seed in bold lines."""
    smokes = [(seed_runs.cosine, COSINE) for seed_runs in runs.values()]
    smokes += [(seed_runs.constant, CONSTANT) for seed_runs in runs.values()]
    fulls = [(seed_runs.full, FULL) for seed_runs in runs.values() if seed_runs.full]
    first_seed, *other_seeds = runs
    bold = [run for run in (runs[first_seed].cosine, runs[first_seed].constant, runs[first_seed].full) if run]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 7.6), layout=ConstrainedLayoutEngine(**PADDING))
        figure.suptitle("A cosine smoke run hides the instability of the full run")
        axes = figure.subplots(3, 2, sharex="col", sharey="row")
        _draw_column(axes[:, 0], smokes, bold, title="Two smoke runs of one recipe", tick_steps=300)
        _draw_column(axes[:, 1], fulls, bold, title="The full run", tick_steps=2000)
        axes[0, 0].set(ylabel="learning rate / peak", ylim=(0, 1.05), yticks=(0, 0.5, 1))
        axes[1, 0].set(ylabel="loss (log scale)", yscale="log", ylim=LOSSES)
        axes[2, 0].set(ylabel="validation macro-F1", ylim=(0, 1.02), yticks=(0, 0.25, 0.5, 0.75, 1))
        for panel in axes[:, 0]:
            panel.yaxis.set_major_formatter("{x:g}")
        axes[1, 0].minorticks_off()
        figure.align_ylabels()
        seeds = f"Bold: seed {first_seed}. Pale: seeds {', '.join(map(str, other_seeds))}."
        _legend(
            figure,
            (COSINE, "cosine smoke run (verdict: invalid, masked)"),
            (CONSTANT, "constant smoke run"),
            (FULL, "full run"),
            note=f"{seeds} Dashed: step of the verdict; training continued after it.",
        )
        _write(figure, path)


def _draw_column(
    axes: Sequence[Axes], runs: Sequence[tuple[Run, str]], bold: Sequence[Run], *, title: str, tick_steps: int
) -> None:
    rate, loss, f1 = axes
    steps = max(len(run.losses) for run, _ in runs)
    for run, colour in runs:
        is_bold = run in bold
        look: dict[str, Any] = {"color": colour, "linewidth": 1.6 if is_bold else 0.9, "alpha": 1.0 if is_bold else 0.3}
        look["zorder"] = 3 if is_bold else 2
        if is_bold:
            sampled = range(0, len(run.losses), 10)
            rate.plot(sampled, [run.multiplier(step) for step in sampled], **look)
        loss.plot(*_loss_curve(run, max(10, steps // 200)), **look)
        f1.plot(*zip(*run.f1, strict=True), **look)
        if is_bold and run.loss_finding.step is not None:
            for panel in axes:
                panel.axvline(run.loss_finding.step, color=colour, linestyle="--", linewidth=1)
            _label_verdict(loss, run, colour)
    rate.set_title(title)
    f1.set(xlabel="step", xlim=(0, steps), xticks=range(0, steps + 1, tick_steps))
    f1.xaxis.set_major_formatter("{x:,.0f}")


def draw_second(pairs: Mapping[tuple[str, float, int], Mapping[int, Run]], path: Path) -> None:
    """Write the losses at both batch sizes, one panel per optimizer, learning rate and seed."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.8), layout=ConstrainedLayoutEngine(**PADDING))
        figure.suptitle("Two effective batches at the same learning rate")
        axes = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
        for panel, ((optimizer, rate, seed), by_batch) in zip(axes, pairs.items(), strict=True):
            steps = max(len(run.losses) for run in by_batch.values())
            for run, colour in zip(by_batch.values(), (CONSTANT, COSINE), strict=True):
                panel.plot(*_loss_curve(run, 5), color=colour, linewidth=1.6)
                if run.loss_finding.step is not None:
                    panel.axvline(run.loss_finding.step, color=colour, linestyle="--", linewidth=1)
                    _label_verdict(panel, run, colour)
            panel.set_title(f"{optimizer}, learning rate {rate:g}, seed {seed}")
            panel.set(xlabel="step", xlim=(0, steps), xticks=range(0, steps + 1, 200))
        axes[0].set(ylabel="loss (log scale)", yscale="log", ylim=LOSSES)
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].minorticks_off()
        _legend(
            figure,
            (CONSTANT, "effective batch 8"),
            (COSINE, "effective batch 128"),
            note="Dashed: step of the verdict, which stopped the run.",
        )
        _write(figure, path)


def block_means(losses: Sequence[tuple[int, float]], block: int) -> list[tuple[float, float]]:
    """Average `block` losses at a time; return the middle step and the mean, infinite if a loss is not finite."""
    means = []
    for at in range(0, len(losses), block):
        part = losses[at : at + block]
        mean = sum(value for _, value in part) / len(part)
        means.append((part[0][0] + len(part) / 2, mean if math.isfinite(mean) else math.inf))
    return means


def _loss_curve(run: Run, block: int) -> tuple[list[float], list[float]]:
    means = block_means(run.losses, block)
    low, high = LOSSES
    return [step for step, _ in means], [min(max(mean, low), high) for _, mean in means]


def _label_verdict(panel: Axes, run: Run, colour: str) -> None:
    panel.annotate(
        f"unstable at step {run.loss_finding.step}",
        (run.loss_finding.step, 1),
        xycoords=("data", "axes fraction"),
        xytext=(5, -11),
        textcoords="offset points",
        color=colour,
    )


def _legend(figure: Figure, *entries: tuple[str, str], note: str) -> None:
    handles = [Line2D([], [], color=colour, linewidth=2, label=label) for colour, label in entries]
    handles.append(Line2D([], [], linestyle="none", label=note))
    figure.legend(handles=handles, loc="outside lower left")


def _write(figure: Figure, path: Path) -> None:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    lines = text.getvalue().splitlines()
    write_atomic(path, "".join(f"{line.rstrip()}\n" for line in lines))  # matplotlib ends path lines with a space

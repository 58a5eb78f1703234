"""A bisect in the terminal: a line per trial, and the closing section."""

from __future__ import annotations

from pytest_smoke.bisect.result import BisectResult, BisectTrial
from pytest_smoke.report.layout import WIDTH, fitted_table, wrap
from pytest_smoke.text import count, listed, verdict_label

HEADER = ("trial", "verdict", "step", "settings taken from the unstable recipe")


def trial_line(trial: BisectTrial, *, number: int, of: int) -> str:
    """Format a trial: `trial 4: unstable (rise) at step 214 with full.learning_rate`; `of`: settings that differ."""
    at = f" at step {trial.step}" if trial.step is not None else ""
    cached = " (from an earlier session)" if trial.kept else ""
    return f"trial {number}: {verdict_label(trial.verdict, trial.reason)}{at} with {_settings(trial, of)}{cached}"


def bisect_summary(result: BisectResult, *, width: int = WIDTH) -> list[tuple[str, str]]:
    """Render the closing section: its lines, each with the verdict that colours it (empty: none)."""
    total = len(result.differences)
    lines: list[str] = []
    if result.found:
        lines += wrap(f"{result.good} is stable, {result.bad} is not; {count(total, 'setting')} differ:", width)
    lines += [f"  {difference}" for difference in result.differences]
    if result.unseen:
        unseen = listed(result.unseen, limit=len(result.unseen))
        lines += wrap(f"also different, without effect on a smoke run: {unseen}", width, first="  ", rest="    ")
    section = [(line, "") for line in lines]
    if rows := trial_rows(result):
        styles = ["", *(trial.verdict for trial in result.tried)]
        table = fitted_table(HEADER, rows, width, wrapped=HEADER[3:])
        section += [(line, style) for row, style in zip(table, styles, strict=True) for line in row]
    return section + [(line, "promote" if result.found else "error") for line in wrap(result.text, width)]


def trial_rows(result: BisectResult) -> list[tuple[str, ...]]:
    """Return the trials as rows below `HEADER`."""
    return [
        (
            str(number),
            verdict_label(trial.verdict, trial.reason),
            "-" if trial.step is None else str(trial.step),
            _settings(trial, len(result.differences)),
        )
        for number, trial in enumerate(result.tried, start=1)
    ]


def _settings(trial: BisectTrial, total: int) -> str:
    if len(trial.settings) == total:
        return f"all {total}"
    return ", ".join(trial.settings) or "none"

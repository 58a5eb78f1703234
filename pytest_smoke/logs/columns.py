"""Recognize the columns of a log by the words in their names. Validation losses never count as the training loss."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from pytest_smoke.errors import LogError
from pytest_smoke.text import listed

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_GLUED = re.compile(r"(train|training|total|batch|avg|mean|val|valid|eval|test|grad|global)(loss|norm|step|iter)s?")

_HELD_OUT = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "holdout", "heldout", "best", "lowest"}
_TRAIN = {"train", "training", "trainer", "inner", "metrics", "loss", "value"}
_LOSS_RANKS = (
    _TRAIN,
    _TRAIN
    | {
        "step",
        "iter",
        "iteration",
        "batch",
        "minibatch",
        "lm",
        "total",
        "sum",
        "all",
        "overall",
        "raw",
        "cur",
        "current",
    },
    _TRAIN | {"total", "batch", "step", "avg", "average", "mean", "running"},
    _TRAIN | {"total", "smooth", "smoothed", "ema", "avg", "mean", "epoch"},
)
"""Words that the name of a training loss may have, best names first: minibatch losses, then averaged, then smoothed."""
_COMPONENT = {
    "loss",
    "losses",
    "nll",
    "ce",
    "bce",
    "xent",
    "crossentropy",
    "mse",
    "mae",
    "kl",
    "kld",
    "ctc",
    "crf",
    "kd",
}
_NOT_LR = {"scale", "factor", "mult", "multiplier", "decay", "min", "max", "base", "initial", "ratio"}
_STEPS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            ("global", "step"),
            ("step",),
            ("steps",),
            ("iteration",),
            ("iterations",),
            ("iter",),
            ("iters",),
            ("num", "updates"),
            ("updates",),
            ("update",),
            ("it",),
            ("batch",),
        ),
    )
)
_MAX_NAMES = 20
"""Column names that a message lists before it counts the rest."""
_STEP_NEUTRAL = {"train", "training", "trainer", "current"}


@lru_cache(maxsize=4096)
def words(name: str) -> frozenset[str]:
    """Split a column name into words in lower case; `train/lossTotal` and `Train loss (total)` have the same words."""
    found: list[str] = []
    for word in (word.lower() for word in _WORD.findall(name)):
        glued = _GLUED.fullmatch(word)
        found += glued.groups() if glued else [word]
    return frozenset(found)


def is_held_out(name: str) -> bool:
    """Whether a column belongs to data that the model is not trained on."""
    return bool(words(name) & _HELD_OUT)


def is_component(name: str) -> bool:
    """Whether a column looks like a training loss or one of its terms: a word in its name is `loss`, `nll`, `kl`..."""
    return bool(words(name) & _COMPONENT or {"cross", "entropy"} <= words(name)) and not is_held_out(name)


def _loss_rank(name: str) -> int | None:
    found = words(name)
    if "loss" not in found:
        return None
    return next((rank for rank, allowed in enumerate(_LOSS_RANKS) if found <= allowed), None)


def loss_column(counts: Mapping[str, int]) -> tuple[str, list[str]]:
    """Return the column of the training loss, and notes about the choice. Raises LogError if none is clear.

    `counts` has the amount of numbers in each column. A column with at most a tenth of the numbers of another candidate
    is a summary, and is used only if there is nothing else.
    """
    ranked = {name: rank for name in counts if (rank := _loss_rank(name)) is not None}
    if ranked:
        most = max(counts[name] for name in ranked)
        order = sorted(ranked, key=lambda name: (counts[name] * 10 <= most, ranked[name], -counts[name]))
        notes = []
        if len(order) > 1:
            notes.append(f"the loss is column {order[0]!r}; --loss NAME selects another: {_quoted(order[1:])}")
        return order[0], notes
    losses = [name for name in counts if "loss" in words(name)]
    components = [name for name in losses if not is_held_out(name)] or [name for name in counts if is_component(name)]
    if len(components) == 1:
        return components[0], [f"the loss is column {components[0]!r}, the only column that looks like one"]
    if components:
        text = f"several columns could be the training loss: {_quoted(components)}; select one with --loss NAME"
    elif losses:
        text = f"there is no training loss, only {_quoted(losses)}; select one with --loss NAME to judge it anyway"
    elif counts:
        text = f"there is no loss column; select one with --loss NAME; columns: {_quoted(counts)}"
    else:
        text = "there is no loss column, and no other column with numbers"
    raise LogError("no-loss-column", text)


def lr_column(counts: Mapping[str, int]) -> tuple[str | None, list[str]]:
    """Return the column of the learning rate, if any, and notes about the choice; of parameter groups, the first."""

    def is_lr(name: str) -> bool:
        found = words(name)
        named = "lr" in found or {"learning", "rate"} <= found or "learningrate" in found
        return named and not found & (_NOT_LR | _COMPONENT | _HELD_OUT)

    found = [name for name in counts if is_lr(name)]
    if not found:
        return None, []
    most = max(map(counts.__getitem__, found))
    found.sort(key=lambda name: (counts[name] * 10 <= most, len(words(name))))
    notes = []
    if len(found) > 1:
        notes.append(f"the learning rate is column {found[0]!r}; --lr NAME selects another: {_quoted(found[1:])}")
    return found[0], notes


def grad_norm_column(counts: Mapping[str, int]) -> str | None:
    """Return the column of the global gradient norm, if any."""
    neutral = _TRAIN - {"loss"} | {
        "total",
        "global",
        "step",
        "l",
        "2",
        "0",
        "all",
        "overall",
        "norm",
        "grad",
        "gradient",
    }

    def is_norm(name: str) -> bool:
        found = words(name)
        if found & {"gnorm", "gradnorm"}:
            return found <= neutral | {"gnorm", "gradnorm"}
        return "norm" in found and bool(found & {"grad", "gradient", "gradients"}) and found <= neutral | {"gradients"}

    return max((name for name in counts if is_norm(name)), key=counts.__getitem__, default=None)


def probe_column(counts: Mapping[str, int]) -> str | None:
    """Return the column of the loss on a fixed batch (`probe_loss`), if any."""
    return next((name for name in counts if words(name) == {"probe", "loss"}), None)


def step_column(counts: Mapping[str, int]) -> str | None:
    """Return the column of the optimizer step, if any. `counts` has the amount of numbers in rows with a loss."""
    most = max(counts.values(), default=0)
    for wanted in _STEPS:
        for name in counts:
            if words(name) - _STEP_NEUTRAL == wanted and counts[name] * 2 > most:
                return name
    return None


def epoch_column(counts: Mapping[str, int]) -> str | None:
    """Return the column of the epoch, if any."""
    return next((name for name in counts if words(name) - _STEP_NEUTRAL in ({"epoch"}, {"epochs"})), None)


def named_column(name: str, option: str, known: Collection[str]) -> str:
    """Return the column that the user named. Raises LogError if it does not exist."""
    if name in known:
        return name
    raise LogError("no-such-column", f"{option} {name!r}: no such column; columns: {_quoted(known)}")


def _quoted(names: Collection[str]) -> str:
    return listed(map(repr, names), limit=_MAX_NAMES)

"""Which column of a log is what, by the words in its name. Validation losses are never taken for the training loss."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from pytest_smoke.errors import LogError

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
"""Words a training loss may have beside `loss`, best first: raw minibatch losses before averages and smoothed ones."""
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
_LR_EXTRAS_REFUSED = {"scale", "factor", "mult", "multiplier", "decay", "min", "max", "base", "initial", "ratio"}
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
_STEP_NEUTRAL = {"train", "training", "trainer", "current"}


@lru_cache(maxsize=4096)
def words(name: str) -> frozenset[str]:
    """The words of a column's name, in lower case: `train/lossTotal` and `Train loss (total)` alike."""
    found: list[str] = []
    for word in (word.lower() for word in _WORD.findall(name)):
        glued = _GLUED.fullmatch(word)
        found += glued.groups() if glued else [word]
    return frozenset(found)


def held_out(name: str) -> bool:
    """Whether the name speaks of data that is not trained on."""
    return bool(words(name) & _HELD_OUT)


def is_component(name: str) -> bool:
    """Whether a column looks like a training loss or a term of one: `loss`, `nll`, `ce`, `kl`, ... as a word."""
    return bool(words(name) & _COMPONENT or {"cross", "entropy"} <= words(name)) and not held_out(name)


def _loss_rank(name: str) -> int | None:
    found = words(name)
    if "loss" not in found:
        return None
    return next((rank for rank, allowed in enumerate(_LOSS_RANKS) if found <= allowed), None)


def loss_column(counts: Mapping[str, int]) -> tuple[str, list[str]]:
    """The training loss and notes about the choice. `counts`: numbers in each column. Raises `LogError`.

    A column with a tenth of the numbers of another candidate is a summary and comes after it.
    """
    ranked = {name: rank for name in counts if (rank := _loss_rank(name)) is not None}
    if ranked:
        most = max(counts[name] for name in ranked)
        order = sorted(ranked, key=lambda name: (counts[name] * 10 <= most, ranked[name], -counts[name]))
        others = f" (other candidates: {_some(order[1:])}; --loss NAME takes one)" if len(order) > 1 else ""
        return order[0], [f"{order[0]!r} was taken as the loss{others}"] if others else []
    losses = [name for name in counts if "loss" in words(name)]
    components = [name for name in losses if not held_out(name)] or [name for name in counts if is_component(name)]
    if len(components) == 1:
        return components[0], [f"{components[0]!r} was taken as the loss, the only column that looks like one"]
    there = f"columns: {_some(counts)}" if counts else "there is no numeric column"
    if components:
        text = (
            f"no column is plainly the training loss, and several could be: {_some(components)}; name one with --loss"
        )
    elif losses:
        text = f"no training loss, only {_some(losses)}; to judge a validation loss all the same, name it with --loss"
    else:
        text = f"no loss column; {there}; name one with --loss"
    raise LogError("no-loss-column", text)


def lr_column(counts: Mapping[str, int]) -> tuple[str | None, list[str]]:
    """The learning rate, if any, and notes about the choice; of several parameter groups the first."""

    def is_lr(name: str) -> bool:
        found = words(name)
        named = "lr" in found or {"learning", "rate"} <= found or "learningrate" in found
        return named and not found & (_LR_EXTRAS_REFUSED | _COMPONENT | _HELD_OUT)

    found = [name for name in counts if is_lr(name)]
    if not found:
        return None, []
    most = max(map(counts.__getitem__, found))
    found.sort(key=lambda name: (counts[name] * 10 <= most, len(words(name))))
    return found[0], [f"{found[0]!r} was taken as the learning rate of {_some(found)}"] if len(found) > 1 else []


def grad_norm_column(counts: Mapping[str, int]) -> str | None:
    """The global gradient norm, if any."""
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
    """The loss on a fixed batch, if any: `probe_loss`."""
    return next((name for name in counts if words(name) == {"probe", "loss"}), None)


def step_column(counts: Mapping[str, int]) -> str | None:
    """The optimizer step, if any. `counts`: numbers in each column, among the rows that have a loss."""
    most = max(counts.values(), default=0)
    for wanted in _STEPS:
        for name in counts:
            if words(name) - _STEP_NEUTRAL == wanted and counts[name] * 2 > most:
                return name
    return None


def epoch_column(counts: Mapping[str, int]) -> str | None:
    """The epoch, if any."""
    return next((name for name in counts if words(name) - _STEP_NEUTRAL in ({"epoch"}, {"epochs"})), None)


def named(name: str, option: str, known: Collection[str]) -> str:
    """The column that the user named. Raises `LogError` with the columns there are."""
    if name in known:
        return name
    raise LogError("no-such-column", f"{option} {name!r}: no such column; columns: {_some(known)}")


def _some(names: Collection[str]) -> str:
    shown = [repr(name) for name in list(names)[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")

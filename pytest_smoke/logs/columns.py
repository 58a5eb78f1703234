"""Recognize the columns of a log by the words in their names: one ranked rule set for every format.

Validation losses never count as the training loss.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from pytest_smoke.errors import LogError
from pytest_smoke.text import listed

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|\u635f\u5931")
_GLUED = re.compile(
    r"(train|training|total|batch|avg|mean|val|valid|eval|test|grad|global)(loss|norm|step|iter)s?|([a-z]{1,12})(loss)"
)
_ALIASES = {
    "trl": ("train", "loss"),  # llm.c
    "tel": ("test", "loss"),
    "tr": ("train",),
    "trn": ("train",),
    "te": ("test",),
    "va": ("val",),
    "vl": ("val",),
    "vloss": ("val", "loss"),
    "tloss": ("train", "loss"),
    "losses": ("loss",),
    "cost": ("loss",),
    "\u635f\u5931": ("loss",),
}
"""Words that mean others; `cost` is Marian's word for the loss, unless ..."""
_COST_OF_TIME = {"batch", "reader", "time", "data", "read", "step", "forward", "backward", "comm", "io", "seconds"}
"""... one of these is in the same name: `batch_cost` is a duration."""

_HELD_OUT = {
    *("val", "valid", "validation", "validate", "validating", "eval", "evaluation", "evaluate", "evaluating"),
    *("test", "testing", "dev", "holdout", "heldout", "best", "lowest"),
}
_TRAIN = {"train", "training", "trainer", "inner", "metrics", "loss"}
_LOSS_RANKS = (
    _TRAIN,
    _TRAIN
    | {
        *("step", "iter", "iteration", "batch", "minibatch", "lm", "total", "sum", "all", "overall", "raw"),
        *("cur", "current"),
    },
    _TRAIN | {"total", "batch", "step", "avg", "average", "mean", "running"},
    _TRAIN | {"total", "smooth", "smoothed", "ema", "avg", "average", "mean", "epoch"},
)
"""Words that the name of a training loss may have, best names first: minibatch losses, then averaged, then smoothed."""
_TERM = {
    *("loss", "nll", "ce", "bce", "xent", "crossentropy", "logloss", "mse", "mae", "kl", "kld", "ctc", "crf", "kd"),
}
_WEAK_TERM = {"rmse", "error", "err", "learn", "objective", "elbo"}
"""Words of a column that is the loss only if nothing else looks like one; `learn` is CatBoost's."""
_NOT_A_LOSS = {
    *("scale", "scaler", "scaling", "weight", "weights", "coef", "coefficient", "lambda", "ratio", "factor", "lr"),
    *("acc", "accuracy", "time", "count", "number", "patience", "delta", "diff", "change", "improvement", "std", "var"),
    *("target", "mask", "min", "max", "perplexity", "ppl", "rate", "seconds", "threshold", "tolerance"),
}
"""Words that make something else of a name with `loss`: `loss scale`, `loss weight`, `min loss`."""
_TOTAL = {"total", "overall", "sum", "all", "combined", "full", "final", "reduced"}
_ONLY_TOTAL = {"total", "overall", "sum", "train", "training"}
"""Words of a total that needs no word for the loss beside the terms of one."""
_OPPONENTS = {
    *("d", "g", "disc", "discriminator", "gen", "generator", "adv", "adversarial", "gan", "real", "fake", "critic"),
    *("actor", "policy", "pi", "v", "q", "vf", "pg", "entropy", "surrogate", "kl", "teacher"),
}
"""Words of losses that work against each other or are no sum: those of GANs and of reinforcement learning."""
_NOT_LR = {"scale", "factor", "mult", "multiplier", "decay", "min", "max", "base", "initial", "ratio"}
_STEPS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            *(("global", "step"), ("globalstep",), ("step",), ("steps",), ("iteration",), ("iterations",), ("iter",)),
            *(("iters",), ("itr",), ("num", "updates"), ("updates",), ("update",), ("up",), ("it",), ("batch",)),
            *(
                ("minibatch",),
                ("batch", "idx"),
                ("nupdates",),
                ("n", "updates"),
                ("total", "timesteps"),
                ("timesteps",),
            ),
            *(("count",), ("leading", "number"), ("s",), ("i",)),
        ),
    )
)
_STEP_SYMBOLS = {"#"}
"""Names without a word that mean the step; spaCy's is `#`."""
_EPOCHS = ({"epoch"}, {"epochs"}, {"ep"}, {"e"}, {"epoch", "num"}, {"outer", "count"})
_STEP_NEUTRAL = {
    *(
        "train",
        "training",
        "trainer",
        "current",
        "completed",
        "finished",
        "learning",
        "optimizer",
        "global",
        "no",
        "idx",
    ),
}
_STEPS_BY_CORE: dict[frozenset[str], list[tuple[int, frozenset[str]]]] = {}
for _rank, _wanted in enumerate(_STEPS):
    _STEPS_BY_CORE.setdefault(_wanted - _STEP_NEUTRAL, []).append((_rank, _wanted))
_TAIL = re.compile(
    r"(?:.*[\s\W])?((?:global[ _]step|step|iteration|iter|itr|epoch|batch|update|ep)s?)\W{0,2}", re.IGNORECASE
)
_SENTENCE = re.compile(
    r"(.{2,60}?)\W+(?:after|at|for|in|on|of|by)\W+(?:the )?"
    r"((?:global[ _])?(?:step|iteration|iter|epoch|batch|update)s?)\W{0,2}",
    re.IGNORECASE,
)
_NOT_A_COUNTER = re.compile(
    r"(?<![a-z])(?:per|number|of|num|max|maximum|total|every|last|best|warm-?up|skipped|nan|remaining|until|after|for|sec|time)"
    r"(?![a-z])",
    re.IGNORECASE,
)
_RANKS = {
    "rank",
    "ranks",
    "worker",
    "pid",
    "process",
    "proc",
    "node",
    "host",
    "gpu",
    "device",
    "replica",
    "shard",
    "default",
}
_RUNS = {
    *("run", "seed", "trial", "fold", "experiment", "exp", "job", "replicate", "rep", "repeat", "runid", "version"),
    *("config", "variant", "method", "model", "name", "task"),
}
_ROLE_LABEL = re.compile(
    r"(?<![\w./-])(?:valid|validation|val|eval|evaluation|test|testing|dev|train|training|loss)(?![\w./-])",
    re.IGNORECASE,
)
_LOSS_HINT = re.compile(r"loss|cost|nll|entropy|ce|xent|mse|mae|kl|ctc|crf|kd|trl|l_|\u635f\u5931", re.IGNORECASE)
_MAX_NAMES = 20
"""Column names that a message lists before it counts the rest."""
_SUMMARY_SHARE = 0.1
"""A column with at most this share of the numbers of another candidate is a summary."""


@lru_cache(maxsize=4096)
def words(name: str) -> frozenset[str]:
    """Split a column name into words in lower case; `train/lossTotal` and `Train loss (total)` have the same words."""
    found: list[str] = []
    lower = [word.lower() for word in _WORD.findall(name)]
    is_duration = "cost" in lower and not _COST_OF_TIME.isdisjoint(lower)
    for word in lower:
        if word in _ALIASES and not (word == "cost" and is_duration):
            found += _ALIASES[word]
            continue
        glued = _GLUED.fullmatch(word)
        found += [part for part in glued.groups() if part] if glued else [word]
    if {"cross", "entropy"} <= set(found):
        found.append("crossentropy")
    if re.match(r"[lL]_[a-zA-Z]", name):  # BasicSR: l_pix, l_g_total
        found.append("loss")
    return frozenset(found)


def is_held_out(name: str) -> bool:
    """Whether a column belongs to data that the model is not trained on."""
    return bool(words(name) & _HELD_OUT)


def is_held_out_loss(name: str) -> bool:
    """Whether a column is a loss on data that the model is not trained on."""
    return is_held_out(name) and bool(words(name) & _TERM)


def is_component(name: str) -> bool:
    """Whether a column looks like a training loss or one of its terms: a word in its name is `loss`, `nll`, `kl`..."""
    found = words(name)
    return bool(found & _TERM) and not found & (_HELD_OUT | _NOT_A_LOSS)


def is_known(name: str) -> bool:
    """Whether a word in the name says what the numbers are: a loss, a learning rate, a gradient norm or a step."""
    return bool(words(name) & (_TERM | _WEAK_TERM)) or is_counter(name) or _is_lr(name) or _norm_rank(name) is not None


def is_counter(name: str) -> bool:
    """Whether a name is that of a step or an epoch, or a few words that end in one, as `Starting epoch`."""
    return _step_rank(name) is not None or _is_epoch(name) or _counter_tail(name) is not None


def counter_tail(name: str) -> str:
    """Return the name of a step or an epoch without the words before it."""
    if _step_rank(name) is not None or _is_epoch(name):
        return name
    return _counter_tail(name) or name


@lru_cache(maxsize=4096)
def _counter_tail(name: str) -> str | None:
    if len(name) > 60 or "/" in name or _NOT_A_COUNTER.search(name) or words(name) & (_HELD_OUT | {"loss"}):
        return None
    found = _TAIL.fullmatch(name)
    return found.group(1) if found else None


def is_micro(name: str) -> bool:
    """Whether a column counts the micro-batches of a step."""
    return bool(words(name) & {"micro", "microbatch", "microstep", "accum", "accumulation", "substep"})


def tells_role(label: str) -> bool:
    """Whether a label before a colon says what the number after it is, as `Valid` in `Valid: loss 2.3`."""
    return _ROLE_LABEL.search(label) is not None


def run_label_rank(name: str) -> int | None:
    """Return 0 for a column that names the rank of a line, 1 for one that names its run, None for any other."""
    found = words(name)
    for rank, known in enumerate((_RANKS, _RUNS)):
        if found & known and found <= known | {"local", "global", "id", "idx", "train", "training", "no", "num", "ray"}:
            return rank
    return None


def ends_in_role(name: str) -> bool:
    """Whether the last word of a name says what the number after it is, so that `nan` is a number there."""
    last = name.split()[-1] if name.split() else ""
    return bool(words(last) & (_TERM | _WEAK_TERM)) or _is_lr(last) or _norm_rank(name) is not None


def split_sentence(name: str) -> tuple[str, str] | None:
    """Split `Cost after iteration` (100: 2.3) into the name of the loss and that of the step; None for other names."""
    found = _SENTENCE.fullmatch(name) if len(name) <= 80 else None
    return (found.group(1).strip(), found.group(2)) if found and is_component(found.group(1)) else None


def held_out_label(text: object) -> str:
    """Return the word for held-out data in a cell that names the phase of its record, as `val`; empty if none."""
    found = words(text) & _HELD_OUT if isinstance(text, str) and len(text) <= 40 else ()
    return min(found, default="")


def is_phase(name: str) -> bool:
    """Whether a column says in which phase a record was written: training or evaluation."""
    return words(name) <= {"mode", "phase", "split", "stage", "type", "kind", "subset", "dataset", "set", "partition"}


def _loss_rank(name: str) -> int | None:
    found = words(name)
    if "loss" not in found:
        return None
    return next((rank for rank, allowed in enumerate(_LOSS_RANKS) if found <= allowed), None)


def _is_cost(name: str) -> bool:
    return "loss" not in name.lower()


def losses(counts: Collection[str]) -> list[str]:
    """Return every column that could be the training loss or a term of it."""
    return [name for name in counts if is_component(name)]


def loss_column(counts: Mapping[str, int]) -> tuple[str, list[str]]:
    """Return the column of the training loss, and notes about the choice. Raises LogError if none is clear.

    `counts` has the amount of numbers in each column. The rules, best first: a name of `_LOSS_RANKS`; the only
    candidate; the only one called a total; the one whose words all other candidates have as well (`main/loss` beside
    `main/loss_ctc`); the only weak name. A column with few of the numbers of another candidate is a summary, and is
    used only if there is nothing else.
    """
    ranked = {name: rank for name in counts if (rank := _loss_rank(name)) is not None}
    if ranked:
        most = max(counts[name] for name in ranked)
        order = sorted(
            ranked,
            key=lambda name: (counts[name] <= most * _SUMMARY_SHARE, ranked[name], _is_cost(name), -counts[name]),
        )
        notes = []
        if len(order) > 1:
            notes.append(f"the loss is column {order[0]!r}; --loss NAME selects another: {_quoted(order[1:])}")
        return order[0], notes
    terms = losses(counts)
    if terms and (
        totals := [name for name in counts if words(name) & {"total", "overall"} and words(name) <= _ONLY_TOTAL]
    ):
        return totals[0], [f"the loss is column {totals[0]!r}; --loss NAME selects another: {_quoted(terms)}"]
    if len(terms) == 1:
        return terms[0], [f"the loss is column {terms[0]!r}, the only column that looks like one"]
    if terms:
        if (total := _total(terms)) is not None:
            others = _quoted([name for name in terms if name != total])
            return total, [f"the loss is column {total!r}; --loss NAME selects another: {others}"]
        raise LogError(
            "no-loss-column",
            f"several columns could be the training loss: {_quoted(terms)}; select one with --loss NAME",
        )
    weak = [name for name in counts if words(name) & _WEAK_TERM and not words(name) & (_HELD_OUT | _NOT_A_LOSS)]
    if len(weak) == 1:
        return weak[0], [f"the loss is column {weak[0]!r}, the only column that looks like one"]
    held_out = [name for name in counts if "loss" in words(name) and is_held_out(name)]
    if held_out:
        text = f"there is no training loss, only {_quoted(held_out)}; select one with --loss NAME to judge it anyway"
    elif counts:
        text = f"there is no loss column; select one with --loss NAME; columns: {_quoted(counts)}"
    else:
        text = "there is no loss column, and no other column with numbers"
    raise LogError("no-loss-column", text)


def _total(terms: Sequence[str]) -> str | None:
    """Return the term that is the total of the others, by its name."""
    totals = [name for name in terms if words(name) & _TOTAL]
    if len(totals) == 1:
        return totals[0]
    inner = [name for name in terms if all(words(name) < words(other) for other in terms if other != name)]
    return inner[0] if len(inner) == 1 else None


def summable(counts: Mapping[str, int]) -> list[str]:
    """Return the loss terms of a log without a total whose sum is one, as those of a detector; empty if there are none.

    Terms that differ in a number only may be those of several runs, and losses that work against each other (a GAN's)
    have no meaningful sum.
    """
    terms = losses(counts)
    apart = _OPPONENTS | _RUNS | _RANKS
    if len(terms) < 2 or any(words(name) & apart for name in terms if "crossentropy" not in words(name)):
        return []
    kinds = {frozenset(word for word in words(name) if not word.isdigit()) for name in terms}
    return terms if len(kinds) == len(terms) else []


@lru_cache(maxsize=4096)
def _is_lr(name: str) -> bool:
    found = words(name)
    named = "lr" in found or {"learning", "rate"} <= found or "learningrate" in found or found == {"rate"}
    return named and not found & (_NOT_LR | _TERM | _HELD_OUT)


def lr_column(counts: Mapping[str, int]) -> tuple[str | None, list[str]]:
    """Return the column of the learning rate, if any, and notes about the choice; of parameter groups, the first."""
    found = [name for name in counts if _is_lr(name)]
    named = [name for name in found if words(name) != {"rate"}]
    found = named or [name for name in found if "loss" in counts and "avg loss" in counts]  # darknet's `rate`
    if not found:
        return None, []
    most = max(map(counts.__getitem__, found))
    found.sort(key=lambda name: (counts[name] <= most * _SUMMARY_SHARE, len(words(name))))
    notes = []
    if len(found) > 1:
        notes.append(f"the learning rate is column {found[0]!r}; --lr NAME selects another: {_quoted(found[1:])}")
    return found[0], notes


_NORM_NEUTRAL = _TRAIN - {"loss"} | {
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


@lru_cache(maxsize=4096)
def _norm_rank(name: str) -> int | None:
    found = words(name)
    if found & {"gnorm", "gradnorm"}:
        return 0 if found <= _NORM_NEUTRAL | {"gnorm", "gradnorm", "gradients"} else None
    if not found <= _NORM_NEUTRAL | {"gradients", "optim", "optimizer", "before", "clip"}:
        return None
    if found & {"grad", "gradient", "gradients"} and ("norm" in found or {"l", "2"} <= found):
        return 0
    return 1 if found == {"norm"} else None  # llm.c


def grad_norm_column(counts: Mapping[str, int]) -> str | None:
    """Return the column of the global gradient norm, if any."""
    found = [(rank, -counts[name], name) for name in counts if (rank := _norm_rank(name)) is not None]
    return min(found)[2] if found else None


def probe_column(counts: Mapping[str, int]) -> str | None:
    """Return the column of the loss on a fixed batch (`probe_loss`), if any."""
    return next((name for name in counts if words(name) == {"probe", "loss"}), None)


@lru_cache(maxsize=4096)
def _step_rank(name: str) -> int | None:
    if name in _STEP_SYMBOLS:
        return len(_STEPS)
    found = words(name.removeprefix("time/"))  # Stable-Baselines3
    for rank, wanted in _STEPS_BY_CORE.get(found - _STEP_NEUTRAL, ()):
        if wanted <= found:
            return rank
    return None


def step_columns(names: Collection[str]) -> list[str]:
    """Return the columns that could be the optimizer step, best names first."""
    ranked = [(rank, at, name) for at, name in enumerate(names) if (rank := _step_rank(name)) is not None]
    return [name for _, _, name in sorted(ranked)]


@lru_cache(maxsize=4096)
def _is_epoch(name: str) -> bool:
    found = words(name)
    return any(found - (_STEP_NEUTRAL - {"num"}) == wanted for wanted in _EPOCHS)


def epoch_column(counts: Mapping[str, int]) -> str | None:
    """Return the column of the epoch, if any."""
    found = [name for name in counts if _is_epoch(name)]
    return max(found, key=lambda name: (words(name) - _STEP_NEUTRAL <= {"epoch", "epochs"}, counts[name]), default=None)


def named_column(name: str, option: str, known: Collection[str]) -> str:
    """Return the column that the user named. Raises LogError if it does not exist."""
    if name in known:
        return name
    raise LogError("no-such-column", f"{option} {name!r}: no such column; columns: {_quoted(known)}")


def _quoted(names: Collection[str]) -> str:
    return listed(map(repr, names), limit=_MAX_NAMES)


def mentions_loss(text: str) -> bool:
    """Whether a word of a text is a word for the loss."""
    return _LOSS_HINT.search(text) is not None and bool(words(text) & _TERM)

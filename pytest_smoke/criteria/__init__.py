"""The criteria language: what a recipe's `accept:` lines say, parsed by a small grammar and judged on recorded metrics.

    max(grad_norm) < 500                     f1 > 0.5 * baseline.f1
    val_macro_f1 > 0.1 by step 1000          mean(loss over stage B) < 2
    latent_nll < 1.1 * text_nll              first_acc > 0 by epoch 4

A criterion is one comparison (`< <= > >= == !=`) of two expressions: numbers, metrics, `+ - * /`, unary minus,
parentheses, and `max min mean median first last` of an expression of metrics.

Names. A plain name has letters, digits, `_` and inner dots. Any other stands in backticks: `` `crf/ce` > 0.01 ``, ``
`lr-AdamW` > 0 ``; without them `/` divides and `-` subtracts. `baseline.NAME` is the metric's final value in the
baseline run. No word is reserved: a metric may be called `step` or `max`.

Values. A metric by itself is its last value; two metrics are each read at their own last step. In a function, metrics
are combined at the steps that have them all. A window `over stage NAME` or `over steps A-B` (both ends inclusive)
inside a function is the function's own; after the comparison it is that of everything that has none. Steps the run
never made are a fail.

Moments. Without one, and with `at end`, the last values count. With `by step N` (`by epoch N`: N times the steps of
an epoch) only points at or before that step count, and the comparison must have held at one of them, all its metrics
read at the same step. There a function is one number, over all those points: `max(grad_norm) < 500 by step 100`
speaks of every point up to step 100. A run that ended before N fails unless it had reached the mark, and the sentence
says that it was shorter.

A metric without points, a value that is not finite on either side, a division by zero: fail, and the sentence says
so.
"""

from pytest_smoke.criteria.criterion import Criterion, parse
from pytest_smoke.errors import CriterionError

__all__ = ["Criterion", "CriterionError", "parse"]

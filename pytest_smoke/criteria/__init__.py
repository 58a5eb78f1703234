"""The criteria language: the `accept:` lines of a recipe, parsed by a small grammar and judged on recorded metrics.

    max(grad_norm) < 500                     f1 > 0.5 * baseline.f1
    val_macro_f1 > 0.1 by step 1000          mean(loss over stage B) < 2
    latent_nll < 1.1 * text_nll              first_acc > 0 by epoch 4

A criterion is one comparison (`< <= > >= == !=`) of two expressions. An expression has numbers, metrics, `+ - * /`,
unary minus, parentheses, and the functions `max min mean median first last` over an expression of metrics. A name may
come first, as in `quality: f1 > 0.5`.

Metric names. A plain name has letters, digits, `_` and inner dots. Write any other in backticks, as in
`` `crf/ce` > 0.01 `` or `` `lr-AdamW` > 0 ``: outside of backticks `/` divides and `-` subtracts. `baseline.NAME` is
the metric's final value in the baseline run. No word is reserved: a metric may be called `step` or `max`.

Values. A metric outside a function is its last value; two metrics are each read at their own last step. Inside a
function, metrics are combined at the steps at which all of them were recorded.

Ranges of steps. `over stage NAME` or `over steps A-B` (both ends included) inside a function applies to that function;
after the comparison it applies to everything that has no range of its own. A range that the run did not reach fails.

Deadlines. Without one, and with `at end`, the last values count. With `by step N` only values at or before step N
count, and the comparison must hold at one of those steps, with all metrics read at the same step; `by epoch N` is
`by step` N times the steps of an epoch. A function is then one number over all values up to the deadline:
`max(grad_norm) < 500 by step 100` is about every step up to 100. A run that ended before N passes only if the
comparison held by then, and the message says that the run was shorter.

A metric without values, a value that is not finite on either side, and a division by zero fail; the message says why.
"""

from pytest_smoke.criteria.criterion import Criterion, parse
from pytest_smoke.errors import CriterionError

__all__ = ["Criterion", "CriterionError", "parse"]

"""Read the same run from every format."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.read import read_text

Run = list[tuple[int, float, float, float]]
"""Step, loss, learning rate and gradient norm of each point."""


def read(text: str, path: str = "log", **names: str) -> Log:
    return read_text(path, text, ColumnNames(**names))


def csv(run: Run) -> str:
    return "step,loss,lr,grad_norm\n" + "".join(f"{s},{x!r},{lr!r},{g!r}\n" for s, x, lr, g in run)


def tsv(run: Run) -> str:
    return csv(run).replace(",", "\t").replace("\n", "\r\n")


def lightning(run: Run) -> str:
    rows = ["epoch,grad_norm,lr-AdamW,step,train_loss_epoch,train_loss_step,val_loss"]
    for s, x, lr, g in run:
        rows += [f",,{lr!r},{s},,,", f"0,{g!r},,{s},,{x!r},"]
    return "\n".join([*rows, f"0,,,{run[-1][0]},1.5,,2.5"]) + "\n"


def jsonl(run: Run) -> str:
    return "".join(
        json.dumps({"train": {"loss": x}, "lr": lr, "grad_norm": g, "step": s}) + "\n" for s, x, lr, g in run
    )


def trainer_state(run: Run) -> str:
    history: list[dict[str, float]] = []
    for s, x, lr, g in run:
        history.append({"epoch": s / 100, "grad_norm": g, "learning_rate": lr, "loss": x, "step": s})
        history.append({"epoch": s / 100, "eval_loss": 7.0, "eval_runtime": 1.0, "step": s})
    summary = {"step": run[-1][0] + 9, "train_loss": 9.0, "train_runtime": 3.0, "train_samples_per_second": 2.0}
    return json.dumps({"best_metric": None, "log_history": [*history, summary], "max_steps": 100}, indent=2)


def history(run: Run) -> str:
    s, x, lr, g = zip(*run, strict=True)
    return json.dumps({"step": s, "loss": x, "lr": lr, "grad_norm": g, "note": "columns"})


def nanogpt(run: Run) -> str:
    text = "number of parameters: 10.65M\ntokens per iteration will be: 16,384\n"
    for s, x, lr, g in run:
        text += f"step {s}: train loss 9.1, val loss 9.2\n" if s == run[0][0] else ""
        text += f"iter {s}: loss {x!r}, lr {lr!r}, grad norm {g!r}, time 123.45ms, mfu 1.23%\n"
    return text


def nanogpt_bare(run: Run) -> str:
    return nanogpt(run).split("\n", 3)[3]


def fairseq(run: Run) -> str:
    head = "2023-01-01 10:00:00 | INFO | fairseq.trainer | begin training epoch 1\n"
    for s, x, lr, g in run:
        record = {
            "epoch": 1,
            "update": 0.1,
            "loss": repr(x),
            "ppl": "9",
            "num_updates": str(s),
            "lr": repr(lr),
            "gnorm": repr(g),
        }
        head += f"2023-01-01 10:00:01 | INFO | train_inner | {json.dumps(record)}\n"
    return head + '2023-01-01 10:00:02 | INFO | valid | {"epoch": 1, "valid_loss": "2.2", "valid_num_updates": "300"}\n'


def fairseq_simple(run: Run) -> str:
    return "".join(
        f"| epoch 001:  {s} / 9 loss={x!r}, wps=1034, num_updates={s}, lr={lr!r}, gnorm={g!r}\n" for s, x, lr, g in run
    )


def megatron(run: Run) -> str:
    return "".join(
        f" iteration {s:8d}/  300 | consumed samples: {s} | learning rate: {lr:.17E} | lm loss: {x:.17E} | "
        f"grad norm: {g!r} |\n"
        for s, x, lr, g in run
    )


def torchtitan(run: Run) -> str:
    return "".join(
        f"[rank0]:2024-10-01 10:10:10,123 - root - INFO - \x1b[31mstep: {s:2}  \x1b[32mloss: {x!r}  "
        f"\x1b[39mgrad_norm: {g!r}  \x1b[33mmemory: 8.30GiB(8.7%)  \x1b[34mlr: {lr!r}\x1b[39m\n"
        for s, x, lr, g in run
    )


def torchtune(run: Run) -> str:
    return "".join(
        f"Step {s} | loss:{x!r} lr:{lr!r} tokens_per_second_per_gpu:100.2 grad_norm:{g!r} \n" for s, x, lr, g in run
    )


FORMATS: list[Callable[[Run], str]] = [
    csv,
    tsv,
    lightning,
    jsonl,
    trainer_state,
    history,
    nanogpt,
    nanogpt_bare,
    fairseq,
    fairseq_simple,
    megatron,
    torchtitan,
    torchtune,
]
numbers = st.floats(-1e6, 1e6)
runs = st.lists(
    st.tuples(st.integers(0, 10**6), numbers, st.floats(1e-9, 10), st.floats(0, 1e9)),
    min_size=2,
    max_size=6,
    unique_by=lambda p: p[0],
).map(sorted)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__)
@given(run=runs)
def test_every_format_yields_the_same_points(form: Callable[[Run], str], run: Run) -> None:
    log = read(form(run))
    assert [(p.step, p.loss, p.lr, p.grad_norm) for p in log.points] == run


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_every_format_keeps_nan_and_infinity(form: Callable[[Run], str], bad: float) -> None:
    log = read(form([(0, 2.0, 0.1, 1.0), (1, 1.9, 0.1, bad), (2, bad, 0.1, bad), (3, 1.8, 0.1, 1.0)]))
    assert [math.isfinite(p.loss) for p in log.points] == [True, True, False, True]
    assert [math.isfinite(p.grad_norm or 0) for p in log.points] == [True, False, False, True]


def test_zeros_after_a_nan_reach_the_judge() -> None:
    """Some trainers log NaN as 0.0; the judge recognizes this."""
    log = read("step,loss,grad_norm\n1,2.0,1\n2,0.0,nan\n3,0.0,nan\n")
    assert [p.loss for p in log.points] == [2.0, 0.0, 0.0]


def test_hugging_face_prints_are_numbered() -> None:
    """Printed dicts have a fraction of an epoch, but no step."""
    text = "{'loss': 2.5, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': 0.01}\n"
    bar = "  3%|3         | 3/300 [00:10<05:00,  1.2it/s]\r"
    strings = "{'loss': '2.4', 'grad_norm': 'nan', 'learning_rate': '9e-06', 'epoch': '0.02'}\n"
    end = "{'train_runtime': 10.2, 'train_samples_per_second': 3.2, 'train_loss': 1.3, 'epoch': 3.0}\n"
    log = read(text + bar + "{'eval_loss': 2.4, 'epoch': 0.01}\n" + bar + strings + end)
    assert [(p.step, p.loss, p.lr) for p in log.points] == [(0, 2.5, 1e-05), (1, 2.4, 9e-06)]
    assert "numbered from 0" in log.notes[0]


def test_each_state_of_a_progress_bar_is_a_point() -> None:
    text = "\r".join(f"Epoch 0:  1%|#| {n}/300 [00:10<01:30, 10.0it/s, loss={3 - n / 10}, v_num=0]" for n in range(4))
    assert [p.loss for p in read(text).points] == [3.0, 2.9, 2.8, 2.7]


def test_loss_terms_and_the_probe_loss_are_separate_from_the_loss() -> None:
    log = read("step,loss,crf_nll,probe_loss,val_loss,acc\n1,2,0.5,3,9,0.1\n2,1.9,,,9,0.1\n")
    assert [dict(p.terms) for p in log.points] == [{"crf_nll": 0.5}, {}]
    assert [p.probe_loss for p in log.points] == [3.0, None]


NAMED = "it,a,b,rate\n10,1.0,5.0,0.1\n20,2.0,6.0,0.2\n"


def test_selected_columns_win_over_recognized_ones() -> None:
    log = read("x,loss,val_loss,lr,rate,n\n1,9,1.0,9,0.5,10\n", "x.csv", loss="val_loss", lr="rate", step="n")
    assert [(p.step, p.loss, p.lr) for p in log.points] == [(10, 1.0, 0.5)]
    assert log.loss_column == "val_loss"


@pytest.mark.parametrize("option", ["loss", "lr", "step"])
def test_an_unknown_column_name_is_an_error_with_all_columns(option: str) -> None:
    with pytest.raises(LogError, match=r"no such column; columns: 'it', 'a', 'b' and 'rate'") as refused:
        read(NAMED, "x.csv", **{"loss": "a", option: "zzz"})
    assert refused.value.reason == "no-such-column"


REFUSED = [
    ("", "empty", "the log is empty"),
    (" \n\n", "empty", "the log is empty"),
    ("# only a comment\n", "no-loss-column", "no line of the log"),
    ("step,loss\n", "header-only", "header (step, loss), but no rows"),
    ("step,val_loss\n1,2\n", "no-loss-column", "only 'val_loss'"),
    ("step,acc\n1,2\n", "no-loss-column", "columns: 'step' and 'acc'"),
    (
        "step,loss\n1,2.0\n2,oops\n3,1\n4,also\n",
        "not-a-number",
        "line 3: 'loss' is 'oops', not a number (and 1 more value)",
    ),
    ("step,loss\n1,x\n", "not-a-number", "line 2: 'loss' is 'x'"),
    ("step,loss\n1,\n2,\n", "no-loss-column", "columns: 'step'"),
    (
        "step,loss\n1,2,3\n2,3,4\n",
        "unreadable",
        "2 rows do not have 2 cells like the header (first: line 2 has 3)",
    ),
    ('{"log_history": []}', "empty", "the log has no records"),
    ('{\n  "log_history": [\n    {"loss": 2.0, "step": 1},\n    {"lo', "unreadable", "broken or incomplete"),
    ('[{"loss": 2.0, "step": 1},\n', "unreadable", "broken or incomplete"),
    ('{"step": 1, "lo', "unreadable", "broken or incomplete"),
    ('{"a": 1,\n "b": 2}', "unreadable", "the JSON document is not a log"),
    ('{"step": 1, "losses": [1, 2]}\n', "no-loss-column", "columns: 'step'"),
    ('{"step": 1}\n{"step": 2}\n', "no-loss-column", "columns: 'step'"),
    ("Traceback (most recent call last):\nOSError\n", "no-loss-column", "no line of the log has a name with a number"),
]


@pytest.mark.parametrize(("text", "reason", "says"), REFUSED, ids=[repr(text)[:40] for text, _, _ in REFUSED])
def test_a_log_that_cannot_be_judged_has_its_own_reason(text: str, reason: str, says: str) -> None:
    with pytest.raises(LogError) as refused:
        read(text)
    assert refused.value.reason == reason
    assert says in str(refused.value)


def test_a_table_without_a_header_is_refused() -> None:
    with pytest.raises(LogError, match=r"must name the columns, but holds numbers: 0,2\.5") as refused:
        read("0,2.5\n1,2.4\n", "x.csv")
    assert refused.value.reason == "no-header"


@given(st.one_of(st.text(), st.text(alphabet="steplos0123456789.,:={}[]'\"\n \tna-")), st.sampled_from(["x", "x.csv"]))
def test_any_text_is_read_or_raises_a_log_error(text: str, path: str) -> None:
    try:
        log = read(text, path)
    except LogError:
        return
    steps = [p.step for p in log.points]
    assert steps
    assert steps == sorted(set(steps))

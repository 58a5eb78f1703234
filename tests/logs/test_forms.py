"""Forms in which trainers print or export the same short run: three or more relatives of each kind."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.read import read_text

LOSSES = (3.0, 2.5, 2.25, 2.125)
TWO_EPOCHS = (*LOSSES, *(loss - 0.5 for loss in LOSSES))
Line = Callable[[int, float], str]


def read(text: str, path: str = "x.log") -> Log:
    return read_text(path, text, ColumnNames())


def lines(line: Line) -> str:
    """Return a line for each of four steps."""
    return "".join(line(step, loss) for step, loss in enumerate(LOSSES))


def epochs(line: Callable[[int, int, float], str], *, head: str = "") -> str:
    """Return two epochs of four lines; the losses of the second are 0.5 lower."""
    parts = []
    for epoch in (1, 2):
        parts += [head.format(epoch), *(line(epoch, at, loss - 0.5 * (epoch - 1)) for at, loss in enumerate(LOSSES))]
    return "".join(parts)


def noted(log: Log, fragment: str) -> bool:
    return any(fragment in note for note in log.notes)


FOUR_STEPS: dict[str, tuple[str, str]] = {
    "wandb chart": (
        '"Step","sun-3 - train/loss","sun-3 - train/loss__MIN","sun-3 - train/loss__MAX"\n'
        + lines(lambda s, x: f'"{s}","{x}","{x - 1}","{x + 1}"\n'),
        "w.csv",
    ),
    "wandb chart with its own step": (
        "Step,a - _step,a - _step__MIN,a - _step__MAX,a - loss,a - loss__MIN,a - loss__MAX\n"
        + lines(lambda s, x: f"{s},{s},{s},{s},{x},{x},{x}\n"),
        "w.csv",
    ),
    "wandb chart of a group": (
        "Step,Group: lr-0.1 - train_loss,Group: lr-0.1 - train_loss__MIN,Group: lr-0.1 - train_loss__MAX\n"
        + lines(lambda s, x: f"{s},{x},{x},{x}\n"),
        "w.csv",
    ),
    "tensorboard csv": ("Wall time,Step,Value\n" + lines(lambda s, x: f"{1.6e9 + s},{s},{x}\n"), "v.csv"),
    "tensorboard csv with its tag": (
        "Wall time,Step,Value\n" + lines(lambda s, x: f"{1.6e9 + s},{s},{x}\n"),
        "run-a-tag-Loss_train.csv",
    ),
    "tensorboard json": ("[" + ",".join(f"[{1.6e9 + s}, {s}, {x}]" for s, x in enumerate(LOSSES)) + "]", "t.json"),
    "long table of tags": (
        "tag,step,value\n" + lines(lambda s, x: f"train/loss,{s},{x}\ntrain/lr,{s},0.1\nval/loss,{s},9\n"),
        "t.csv",
    ),
    "long table of metrics": ("step\tmetric\tvalue\n" + lines(lambda s, x: f"{s}\tloss\t{x}\n{s}\tacc\t1\n"), "t.tsv"),
    "mlflow metric": (lines(lambda s, x: f"{1600000000000 + s} {x} {s}\n"), "loss"),
    "bare numbers": (lines(lambda s, x: f"{x}\n"), "loss.txt"),
    "bare numbers of numpy": (lines(lambda s, x: f" {x:.18e}\n"), "loss.txt"),
    "bare numbers in a csv": (lines(lambda s, x: f"{x}\n"), "train_loss.csv"),
    "bare numbers as json": (str(list(LOSSES)), "loss.json"),
    "numpy with a comment": ("# step loss\n" + lines(lambda s, x: f"{s:.4e} {x:.4e}\n"), "loss.txt"),
    "deepxde dat": (
        "# step, loss_train, loss_test, metrics_test\n"
        + lines(lambda s, x: f"{s:.18e} {x - 1:.18e} 1.0 {x - 1:.18e} 1.0\n"),
        "loss.dat",
    ),
    "deepxde dat with one term": (
        "# step, loss_train, loss_test, metrics_test\n" + lines(lambda s, x: f"{s:.4e} {x:.4e} {x:.4e} 0.1\n"),
        "loss.dat",
    ),
    "deepxde printed": (
        "Step      Train loss              Test loss               Test metric\n"
        + lines(lambda s, x: f"{s}         [{x - 1:.3e}, 1.000e+00]    [2.53e+00, 1.23e-01]    []  \n"),
        "x.log",
    ),
    "keras history with lists of other lengths": (
        '{"loss": [3.0, 2.5, 2.25, 2.125], "val_loss": [3, 2], "lr": [0.1], "test": 0.9}',
        "h.json",
    ),
    "nested history": (
        '{"config": {"lr": 1}, "history": {"train": {"loss": [3.0, 2.5, 2.25, 2.125]}, "val": {"loss": [3, 2]}}}',
        "h.json",
    ),
    "pandas columns": ('{"loss": {"0": 3.0, "1": 2.5, "2": 2.25, "10": 2.125}}', "h.json"),
    "json by epoch": (
        "{" + ", ".join(f'"epoch_{s}": {{"train_loss": {x}, "val_loss": 9}}' for s, x in enumerate(LOSSES)) + "}",
        "h.json",
    ),
    "skorch": (
        "  epoch    train_loss    valid_acc    valid_loss     dur\n"
        "-------  ------------  -----------  ------------  ------\n"
        + lines(lambda s, x: f"      {s}        {x:.4f}       0.6150        0.6749  0.1174\n"),
        "x.log",
    ),
    "fastai": (
        "epoch     train_loss  valid_loss  accuracy  time    \n"
        + lines(lambda s, x: f"{s}         {x:.6f}    0.512300    0.780000  00:12     \n"),
        "x.log",
    ),
    "gradient boosting": (
        "      Iter       Train Loss   Remaining Time \n" + lines(lambda s, x: f"         {s}     {x:.4f}     1.23s\n"),
        "x.log",
    ),
    "spacy": (
        "[+] Initialized pipeline\nE    #       LOSS NER  ENTS_F  SCORE\n---  ------  --------  ------  ------\n"
        + lines(lambda s, x: f"  0  {s:6d}  {x:8.3f}    9.57    0.10\n"),
        "x.log",
    ),
    "csv after a banner": (
        "Starting\nepoch,train_loss,val_loss\n" + lines(lambda s, x: f"{s},{x},9\n"),
        "x.log",
    ),
    "notebook table": ("Step\tTraining Loss\tValidation Loss\n" + lines(lambda s, x: f"{s}\t{x}\t1.2\n"), "n.txt"),
    "spinup box": (
        "".join(f"------\n|  Epoch |   {s} |\n|   Loss | {x} |\n------\n" for s, x in enumerate(LOSSES)),
        "x.log",
    ),
    "stable-baselines box": (
        "".join(
            f"-------\n| time/ | |\n|    iterations | {s} |\n| train/ | |\n|    loss | {x} |\n"
            "|    value_loss | 9 |\n-----\n"
            for s, x in enumerate(LOSSES)
        ),
        "x.log",
    ),
    "rich box": (
        "".join(f"┌──────┬─────┐\n│ step │ {s} │\n│ loss │ {x} │\n└──────┴─────┘\n" for s, x in enumerate(LOSSES)),
        "x.log",
    ),
    "grid": (
        "+-------+-------+\n| Epoch | Loss  |\n+-------+-------+\n" + lines(lambda s, x: f"| {s} | {x} |\n+---+---+\n"),
        "x.log",
    ),
    "markdown": (
        "# card\n\n- Loss: 0.13\n\n| Epoch | Training Loss | Validation Loss |\n|:---:|:---:|:---:|\n"
        + lines(lambda s, x: f"| {s} | {x} | 0.3 |\n"),
        "README.md",
    ),
    "markdown without outer pipes": ("Step | Training Loss\n-- | --\n" + lines(lambda s, x: f"{s} | {x}\n"), "x.md"),
    "markdown in windows": (
        "| step | loss |\r\n|---|---|\r\n" + lines(lambda s, x: f"| {s} | {x} |\r\n"),
        "x.md",
    ),
    "decimal comma": (lines(lambda s, x: f"step {s}: loss {str(x).replace('.', ',')}, lr 0,001\n"), "x.log"),
    "decimal comma in a csv": ("step;loss\n" + lines(lambda s, x: f"{s};{str(x).replace('.', ',')}\n"), "x.csv"),
    "exponents": (lines(lambda s, x: f"step {s} loss {x:.6E}\n"), "x.log"),
    "llm.c": ("s:0 tel:11.0\n" + lines(lambda s, x: f"s:{s} trl:{x} lr:0.000600 norm:1.23\n"), "main.log"),
    "cost": (lines(lambda s, x: f"Epoch {s}: Cost = {x}\n"), "x.log"),
    "cost after a step": (lines(lambda s, x: f"Cost after iteration {s}: {x}\n"), "x.log"),
    "loss at a step": (lines(lambda s, x: f"Training loss (for one batch) at step {s}: {x}\n"), "x.log"),
    "names in brackets": (lines(lambda s, x: f"[step] {s} [loss] {x} [lr] 0.1\n"), "x.log"),
    "names in brackets with a sign": (lines(lambda s, x: f"[iter={s}] [loss={x}]\n"), "x.log"),
    "names in brackets and pipes": (
        lines(lambda s, x: f"[R0] | E5 | [Loss] {x} | [exp] ./a | [step]   {s}\n"),
        "x.log",
    ),
    "reversed name": (lines(lambda s, x: f"step {s} | loss train: {x}, val: n/a\n"), "x.log"),
    "reversed name in brackets": (lines(lambda s, x: f"step {s} | loss (train): {x} | loss (val): 9.0\n"), "x.log"),
    "reversed name with a slash": (lines(lambda s, x: f"step {s} loss/train={x} loss/valid=9.0\n"), "x.log"),
    "loss in the middle": (lines(lambda s, x: f"step {s} done, loss after forward pass = {x}\n"), "x.log"),
    "loss in a sentence": (lines(lambda s, x: f"Iteration {s}, current loss of the model: {x}\n"), "x.log"),
    "glued name": (lines(lambda s, x: f"step: {s}  closs: {x} (3.5)\n"), "x.log"),
    "typographic quotes": (lines(lambda s, x: f"{{\u2018step\u2019: {s}, \u2018loss\u2019: {x}}}\n"), "x.log"),
    "typographic double quotes": (lines(lambda s, x: f"{{\u201cstep\u201d: {s}, \u201closs\u201d: {x}}}\n"), "x.log"),
    "no-break spaces": (lines(lambda s, x: f"step\u00a0{s}: loss\u00a0{x}\n"), "x.log"),
    "full-width signs": (lines(lambda s, x: f"step\uff1a{s}\uff0closs\uff1a{x}\n"), "x.log"),
    "upper case": (lines(lambda s, x: f"EPOCH: {s} | TRAIN LOSS: {x} | VAL LOSS: 9\n"), "x.log"),
    "arrows": (lines(lambda s, x: f"step={s} loss -> {x}\n"), "x.log"),
    "dashes": (lines(lambda s, x: f"Epoch {s} - loss - {x}\n"), "x.log"),
    "name and value between commas": (
        lines(lambda s, x: f"epoch 1, phase train, step {s}, loss_train, {x}\n"),
        "x.log",
    ),
    "tensor": (lines(lambda s, x: f"step {s} loss tensor({x}, device='cuda:0')\n"), "x.log"),
    "tensor in a dict": (lines(lambda s, x: f"step {s} {{'loss': tensor({x}, device='cuda:0')}}\n"), "x.log"),
    "number in brackets": (lines(lambda s, x: f"step {s} loss: [{x}] lr:[1e-06]\n"), "x.log"),
    "leading number": (lines(lambda s, x: f"{s} | loss {x} | lr 2.64e-04 | 13880.16ms\n"), "x.log"),
    "leading number of catboost": (lines(lambda s, x: f"{s}:\tlearn: {x}\ttest: 0.6\ttotal: 60ms\n"), "x.log"),
    "leading number in brackets": (lines(lambda s, x: f"[{s}]\ttrain-logloss:{x}\teval-logloss:0.6\n"), "x.log"),
    "count without a name": (lines(lambda s, x: f"{s}/1500 - loss: {x}\n"), "x.log"),
    "count of tqdm": (
        "\r".join(f"Steps:  {25 * s}%|██▌  | {s}/1000 [00:10<01:30, 10.0it/s, loss={x}]" for s, x in enumerate(LOSSES)),
        "x.log",
    ),
    "count of tqdm that refreshes": (
        "".join(
            f"\r 0%|   | {s}/1000 [00:1{s}<?, ?it/s, loss={LOSSES[max(0, s - 1)]}]"
            f"\r 0%|   | {s}/1000 [00:1{s}<?, ?it/s, loss={x}]"
            for s, x in enumerate(LOSSES)
        ),
        "x.log",
    ),
    "count of rich": (
        lines(lambda s, x: f"Epoch 0 ━━━━━━━━━━━━ {s}/100 0:00:10 • 0:00:30 3.2it/s loss: {x}\n"),
        "x.log",
    ),
    "darknet": (
        lines(lambda s, x: f" {s}: {x}, {x + 0.1} avg, 0.001000 rate, 3.3 seconds, {64 * s} images\n"),
        "x.log",
    ),
    "darknet with layers": (
        lines(
            lambda s, x: (
                "v3 (mse loss, Normalizer: (iou: 0.75) Region 82 Avg (IOU: 0.3), count: 4, total_loss = 1.5 \n"
                f" {s}: {x}, {x + 0.1} avg loss, 0.001 rate, 3.3 seconds, {64 * s} images, 3.4 hours left\n"
            )
        ),
        "x.log",
    ),
    "darknet classifier": (
        lines(lambda s, x: f"{s}, 0.00{s}: {x}, {x + 0.1} avg, 0.1 rate, 1.2 seconds, {64 * s} images\n"),
        "x.log",
    ),
    "caffe": (
        lines(
            lambda s, x: (
                f"I1128 08:59:24.07 14972 solver.cpp:218] Iteration {s} (6.2 iter/s, 62.4s/10 iters), loss = {x}\n"
                f"I1128 08:59:24.07 14972 solver.cpp:237]     Train net output #0: loss = 9.5 (* 1 = 9.5 loss)\n"
                f"I1128 08:59:24.07 14972 sgd_solver.cpp:105] Iteration {s}, lr = 0.1\n"
                f"I1128 08:59:25.07 14972 solver.cpp:397]     Test net output #1: loss = 9.0 (* 1 = 9.0 loss)\n"
            )
        ),
        "x.log",
    ),
    "olmo": (
        lines(
            lambda s, x: (
                f"2024-08-06 09:59:26.181 host-0:0  olmo.train:908  INFO    [step={s}/739328,epoch=0]\n"
                f"    optim/total_grad_norm=1.5\n    train/CrossEntropyLoss={x}\n    throughput/tokens=1,048,576\n"
            )
        ),
        "x.log",
    ),
    "blocks": (lines(lambda s, x: f"---- Iteration {s} ----\ngrad norm: 0.5\nloss: {x}\n\n"), "x.log"),
    "blocks of epochs": (lines(lambda s, x: f"Epoch    :  {s}\nLOSS     :  {x}\n\n"), "x.log"),
    "colours and windows line ends": (
        lines(lambda s, x: f"\x1b[32m2024-01-01 10:00:00\x1b[0m | \x1b[1mINFO\x1b[0m | step={s} loss={x}\r\n"),
        "x.log",
    ),
    "log prefix": (
        lines(lambda s, x: f"[2024-01-01 10:00:00,123][INFO][train.py:123] - step: {s}, loss: {x}\n"),
        "x.log",
    ),
    "syslog prefix": (lines(lambda s, x: f"Jan 05 10:11:1{s} node1 python[123]: step {s} loss {x}\n"), "x.log"),
    "iso prefix": (lines(lambda s, x: f"2024-01-05T10:11:1{s}.123456Z stderr F step {s} loss {x}\n"), "x.log"),
    "loguru prefix": (
        lines(lambda s, x: f"2024-01-05 10:11:12.123 | INFO     | core.fit:fit:123 - step {s} loss {x}\n"),
        "x.log",
    ),
    "long lines": (
        lines(lambda s, x: f"step {s} " + " ".join(f"m{k}={k}.5" for k in range(400)) + f" loss {x}\n"),
        "x.log",
    ),
    "validation lines": (lines(lambda s, x: f"Train: epoch {s} loss {x}\nValid: epoch {s} loss 9.0\n"), "x.log"),
    "validation lines in brackets": (
        lines(lambda s, x: f"[Train] epoch={s} loss={x}\n[Val] epoch={s} loss=9.0\n"),
        "x.log",
    ),
    "validation lines of pytorch": (
        lines(lambda s, x: f"Epoch {s}\ntrain Loss: {x} Acc: 0.5\nval Loss: 9.0 Acc: 0.6\n\n"),
        "x.log",
    ),
    "validation in the same line": (
        lines(lambda s, x: f"Epoch {s} train: loss={x} acc=0.1 val: loss=9.0 acc=0.2\n"),
        "x.log",
    ),
    "validation records": (
        lines(
            lambda s, x: f'{{"mode": "train", "iter": {s}, "loss": {x}}}\n{{"mode": "val", "iter": {s}, "loss": 9}}\n'
        ),
        "x.jsonl",
    ),
    "validation rows": ("epoch,phase,loss\n" + lines(lambda s, x: f"{s},train,{x}\n{s},val,9.0\n"), "x.csv"),
    "marian": (
        lines(
            lambda s, x: (
                f"[2021-07-17 12:54:33] Ep. 1 : Up. {s} : Sen. 965,843 : Cost {x} : Time 359.59s : 3007.81 words/s\n"
                f"[2021-07-17 13:50:36] [valid] Ep. 1 : Up. {s} : cross-entropy : 130.97 : new best\n"
            )
        ),
        "x.log",
    ),
    "steps before the loss": (
        lines(lambda s, x: f"Train loss {s} {x:.6f} Grad Norm 1.234567 0.45s/it\n") + "Validation loss 3:  9.000000\n",
        "x.log",
    ),
    "steps and losses without names": (lines(lambda s, x: f"{s}:\t{x:.9f}\n"), "x.log"),
    "count after the loss": (lines(lambda s, x: f"loss: {x:>7f}  [{s:>5d}/60000]\n"), "x.log"),
    "count of a bar after the loss": (
        "\r".join(f"acc: 0.5, loss: {x} ||:  1%|# | {s}/9 [00:01<00:10, 9.0it/s]" for s, x in enumerate(LOSSES)),
        "x.log",
    ),
    "count of torchtune": (
        "\r".join(f"1|{s}|Loss: {x}:   5%|▌  | {s}/9 [00:10<01:00, 1.1it/s]" for s, x in enumerate(LOSSES)),
        "x.log",
    ),
    "bar glued to a dict": (
        "".join(
            f"  1%|▏  | {s}/9 [00:10<15:00, 1.1it/s]{{'loss': {x}, 'epoch': 0.0{s}}}\n\r" for s, x in enumerate(LOSSES)
        ),
        "x.log",
    ),
    "means of epochs with a step": (
        lines(
            lambda s, x: (
                f"| INFO | train_inner | epoch 001:  {s} / 1374 loss={x}, num_updates={s}, lr=4.8e-06, gnorm=3\n"
            )
        )
        + "| INFO | valid | epoch 001 | valid on 'valid' subset | loss 9.5 | num_updates 3 | best_loss 9.5\n"
        + "| INFO | train | epoch 001 | loss 2.7 | num_updates 3 | lr 1e-5 | gnorm 3 | wall 9\n",
        "x.log",
    ),
    "epochs of keras without bars": (
        lines(
            lambda s, x: (
                f"Epoch {s}/4\n1875/1875 - 3s - 2ms/step - acc: 0.91 - loss: {x} - val_acc: 0.9 - val_loss: 9\n"
            )
        ),
        "x.log",
    ),
    "blocks of coqui": (
        lines(
            lambda s, x: (
                f"\x1b[1m   --> STEP: 0/406 -- GLOBAL_STEP: {s}\x1b[0m\n"
                f"     | > loss: {x}  (1.3)\n     | > grad_norm: 1 (2)\n"
            )
        ),
        "x.log",
    ),
    "durations called cost": (
        lines(lambda s, x: f"global step {s}, loss: {x}, batch_cost: 0.5, reader_cost: 0.1, ips: 20.0 images/s\n"),
        "x.log",
    ),
    "signs before names": (lines(lambda s, x: f"\U0001f680 Epoch {s} | \U0001f4c9 Loss: {x} | Acc: 0.5\n"), "x.log"),
    "sentences": (lines(lambda s, x: f"Epoch {s} completed. Average training loss: {x}\n"), "x.log"),
    "json objects in a row": (lines(lambda s, x: f'{{\n  "step": {s},\n  "loss": {x}\n}}\n'), "x.log"),
    "lists of python": ("train_losses = [3.0, 2.5, 2.25, 2.125]\nval_losses = [3.0, 2.5]\n", "x.log"),
    "total without the word loss": (lines(lambda s, x: f"step {s} cls_loss 0.5 box_loss 0.3 total {x}\n"), "x.log"),
    "total and its terms": (
        lines(lambda s, x: f"step {s} main/loss_ctc=9 main/loss_att=9 main/loss={x}\n"),
        "x.log",
    ),
    "total with l_": (lines(lambda s, x: f"step {s} l_rec 0.5 l_percep 0.3 l_total {x}\n"), "x.log"),
    "terms summed": (lines(lambda s, x: f"step {s} box_loss {x - 1} cls_loss 0.5 dfl_loss 0.5\n"), "x.log"),
    "number of nan iterations": (
        lines(lambda s, x: f" iteration {s}/ 9 | lm loss: {x:E} | loss scale: 1.0 | number of nan iterations:   0 |\n"),
        "x.log",
    ),
    "terms of more tokens ahead": (
        lines(lambda s, x: f"iteration {s} | lm loss: {x} | mtp_1 loss: 9.1 | mtp_2 loss: 9.2 |\n"),
        "x.log",
    ),
}


@pytest.mark.parametrize("name", FOUR_STEPS)
def test_a_form_is_read_as_its_four_steps(name: str) -> None:
    text, path = FOUR_STEPS[name]
    log = read(text, path)
    assert [point.step for point in log.points] == [0, 1, 2, 3], log.notes
    assert [point.loss for point in log.points] == pytest.approx(LOSSES)
    assert log.non_finite is None


OTHER_STEPS: dict[str, tuple[str, list[int]]] = {
    "basicsr": (
        lines(
            lambda s, x: (
                f"2021-05-05 10:00:00,123 INFO: [R..][epoch:  0, iter:   {100_000 + s * 100:,}, lr:(2.000e-04,)] "
                f"[eta: 1 day, 2:33:44, time (data): 1.2 (0.003)] l_pix: {x:.4e} \n"
            )
        ),
        [100_000, 100_100, 100_200, 100_300],
    ),
    "basicsr of old": (
        lines(lambda s, x: f"<epoch:  8, iter: {150_000 + s * 100:,}, lr:5.000e-05> l_pix: {x:.4e} \n"),
        [150_000, 150_100, 150_200, 150_300],
    ),
    "thousands without blanks": (
        lines(lambda s, x: f"step={1_000_000 + s:,},loss={x}\n"),
        [1_000_000, 1_000_001, 1_000_002, 1_000_003],
    ),
    "mmcv": (
        lines(
            lambda s, x: (
                f"2021-01-01 10:00:00,123 - mmdet - INFO - Epoch [1][{s * 50}/5808]\tlr: 2.0e-03, eta: 1 day, 1:00:00, "
                f"time: 0.9, loss_cls: 0.5, loss_bbox: 0.2, loss: {x}\n"
            )
        ),
        [0, 50, 100, 150],
    ),
    "mmengine": (
        lines(
            lambda s, x: f"10/30 22:18:02 - mmengine - INFO - Epoch(train) [1][{s * 10}/735]  lr: 1.9e-04  loss: {x}\n"
        ),
        [0, 10, 20, 30],
    ),
    "deepspeed pipeline": (
        lines(
            lambda s, x: f"[INFO] [logging.py:123:log_dist] [Rank 0] step={s + 9}, lr=[1e-06], mom=[0.0], loss={x}\n"
        ),
        [9, 10, 11, 12],
    ),
    "step of the json text": (
        lines(
            lambda s, x: (
                f'json_stats: {{"_type": "train_iter", "epoch": "1/300", "iter": "{s * 80}/240", "loss": {x}}}\n'
            )
        ),
        [0, 80, 160, 240],
    ),
}


@pytest.mark.parametrize("name", OTHER_STEPS)
def test_a_form_is_read_with_its_own_steps(name: str) -> None:
    text, steps = OTHER_STEPS[name]
    log = read(text)
    assert [point.step for point in log.points] == steps, log.notes
    assert [point.loss for point in log.points] == pytest.approx(LOSSES)


IN_EPOCHS = {
    "brackets": epochs(lambda e, s, x: f"[{e}][{s + 1}/4] loss={x}\n"),
    "brackets of one number": epochs(lambda e, s, x: f"[{e}/2][{s + 1}/4] Loss: {x}\n"),
    "tutorial": epochs(lambda e, s, x: f"[{e}, {s + 1:5d}] loss: {x}\n"),
    "tutorial without blanks": epochs(lambda e, s, x: f"[{e},{s + 1}] loss: {x}\n"),
    "mnist": epochs(lambda e, s, x: f"Train Epoch: {e} [{s + 1}/60000 ({s}%)]\tLoss: {x:.6f}\n")
    + "\nTest set: Average loss: 0.0561, Accuracy: 9820/10000 (98%)\n",
    "imagenet": epochs(lambda e, s, x: f"Epoch: [{e}][ {s + 1}/5005]\tTime  0.5 ( 0.6)\tLoss {x:.4e} ({x + 1:.4e})\n")
    + "Test: [ 1/196]\tTime  0.5 ( 0.6)\tLoss 6.9e+00 (6.9e+00)\n * Acc@1 0.100 Acc@5 0.500\n",
    "keras": epochs(lambda e, s, x: f"\r{s + 1}/4 [==>.......] - ETA: {9 - s}s - loss: {x:.4f}", head="\nEpoch {}/2\n")
    + "\r4/4 [==========] - 5s 3ms/step - loss: 1.6250 - val_loss: 0.7\n",
    "keras that goes back": epochs(
        lambda e, s, x: f"{s + 1}/4 [==>.......] - ETA: {9 - s}s - loss: {x:.4f}" + "\b" * 60, head="\nEpoch {}/2\n"
    ),
    "tqdm": epochs(lambda e, s, x: f"Epoch {e}/2:  5%|#  | {s + 1}/9 [00:10<01:30, 10.0it/s, loss={x:.3f}]\r"),
    "timm": epochs(
        lambda e, s, x: (
            f"Train: {e} [{s + 1:4d}/5004 (  0%)]  Loss: {x:.3f} (6.94)  Time: 5.000s,  100.00/s  (5.000s)  LR: 1e-06\n"
        )
    )
    + "Test: [   0/195]  Time: 5.0 (5.0)  Loss:  6.9 (6.9)\n",
    "swin": epochs(
        lambda e, s, x: (
            f"[2021-04-10 10:00:00 swin] (main.py 200): INFO Train: [{e}/300][{s + 1}/1251]\teta 0:10:00 lr 0.1"
            f"\tloss {x:.4f} (6.9)\tgrad_norm 1.2 (1.3)\tloss_scale 65536.0 (65536.0)\tmem 5000MB\n"
        )
    ),
    "language model": epochs(
        lambda e, s, x: (
            f"| epoch {e:3d} | {s + 1:5d}/ 2983 batches | lr 20.00 | ms/batch 12.3 | loss {x:6.3f} | ppl  2059\n"
        )
    )
    + "-----\n| end of epoch   1 | time:  5.00s | valid loss  5.70 | valid ppl   300.00\n-----\n",
    "metric logger": epochs(
        lambda e, s, x: f"Train: data epoch: [{e}]  [  {s + 1}/500]  eta: 0:35:50  lr: 0.1  loss: {x:.4f}  data: 0.0\n"
    )
    + "Averaged stats: lr: 0.0001  loss: 0.2326\n",
    "means in between": epochs(lambda e, s, x: f"epoch {e} batch {s + 1} loss {x}\n")
    + "epoch 2 finished, overall loss 2.0\nepoch 2 average loss 2.0\n",
}


@pytest.mark.parametrize("name", IN_EPOCHS)
def test_steps_of_an_epoch_are_counted_on(name: str) -> None:
    log = read(IN_EPOCHS[name])
    assert [point.step for point in log.points] == [1, 2, 3, 4, 5, 6, 7, 8], log.notes
    assert [point.loss for point in log.points] == pytest.approx(TWO_EPOCHS)


def test_a_step_that_restarts_without_an_epoch_is_counted_on_if_the_loss_goes_on() -> None:
    parts = ((3.0, 2.8, 2.5, 2.3), (2.25, 2.2, 2.1, 2.0), (1.95, 1.9, 1.85, 1.8))
    log = read("".join(f"[{at * 10}/40] loss {x}\n" for part in parts for at, x in enumerate(part, 1)))
    assert len(log.points) == 12
    assert noted(log, "the steps restart 2 times, as in each epoch: they are counted on")


def test_a_yolo_table_is_read_once_per_epoch() -> None:
    head = "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size\n"
    text = ""
    for epoch in (1, 2, 3):
        states = (
            f"{epoch}/3  3.1G  {4 - epoch / 2 - k / 100:.3f}  0.5  0.25  21  640:  {k}%|#  | {k}/9" for k in range(9)
        )
        text += head + "\r".join(states)
        text += "\n                 Class     Images  Instances      Box(P          R\n   all   128   929  0.7  0.5\n\n"
    log = read(text)
    assert [(point.step, round(point.loss, 3)) for point in log.points] == [(1, 4.17), (2, 3.67), (3, 3.17)]
    assert noted(log, "the sum of its terms is judged, 'box_loss' + 'cls_loss' + 'dfl_loss'")


def test_a_model_card_has_one_point_per_logged_loss() -> None:
    rows = [(0.5, 200), (0.5, 300), (0.4, 400), (0.4, 500), (0.3, 600)]
    text = "- Loss: 0.013\n\n| Training Loss | Epoch | Step | Validation Loss |\n|:---:|:---:|:---:|:---:|\n"
    text += "| No log | 1.0 | 100 | 0.99 |\n" + "".join(f"| {x} | 2.0 | {s} | 0.{900 - s} |\n" for x, s in rows)
    log = read(text, "README.md")
    assert [(point.step, point.loss) for point in log.points] == [(200, 0.5), (400, 0.4), (600, 0.3)]
    assert noted(log, "skipped 2 lines that only repeat the loss of the one before")


def test_a_rate_in_a_line_without_the_step_applies_from_there_on() -> None:
    text = "".join(f"[Rank 0] step={s}, lr=[{0.1 * s:.1f}]\nsteps: {s} loss: {x}\n" for s, x in enumerate(LOSSES, 1))
    log = read(text)
    assert [point.lr for point in log.points] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("bad", ["nan", "NaN.", "-nan", "-nan(ind)", "1.#QNAN", "-1.#IND", "NAN,", "inf", "Infinity"])
def test_every_spelling_of_a_non_finite_number_is_read(bad: str) -> None:
    log = read(f"step 1 loss 2.5\nstep 2 loss {bad}\nstep 3 loss {bad}\n")
    assert [math.isfinite(point.loss) for point in log.points] == [True, False, False]


REFUSED = {
    "gan": lines(lambda s, x: f"[{s}/25][0/391] Loss_D: {x} Loss_G: 5.0 D(x): 0.5\n"),
    "gan in brackets": lines(lambda s, x: f"[Epoch {s}] [Batch 3/10] [D loss: {x}] [G loss: 1.5]\n"),
    "terms in separate lines": lines(lambda s, x: f"step {s}: mlm_loss {x}\nstep {s}: nsp_loss 0.5\n"),
    "terms of two phases": lines(lambda s, x: f"Decom {s} Decom Loss: {x}\n")
    + lines(lambda s, x: f"Relight Loss: {x}\n"),
    "losses of two seeds": lines(lambda s, x: f"step {s} loss_seed0 {x} loss_seed1 {x + 1}\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_of_several_losses_none_is_taken_silently(name: str) -> None:
    with pytest.raises(LogError, match="several columns could be the training loss") as refused:
        read(REFUSED[name])
    assert refused.value.reason == "no-loss-column"


HELD_OUT_ONLY = {
    "wandb": (
        "Step,r - val/loss,r - val/loss__MIN,r - val/loss__MAX\n" + lines(lambda s, x: f"{s},{x},1,1\n"),
        "w.csv",
    ),
    "tensorboard": ("Wall time,Step,Value\n" + lines(lambda s, x: f"1.6e9,{s},{x}\n"), "run-a-tag-Loss_val.csv"),
    "lines": (lines(lambda s, x: f"[valid] step {s} : cross-entropy : {x} : new best\n"), "x.log"),
    "caffe": (lines(lambda s, x: f"Test net output #{s}: loss = {x} (* 1 = {x} loss)\n"), "x.log"),
    "sentence": (lines(lambda s, x: f"Test set: Average loss: {x}, Accuracy: 1/10\n"), "x.log"),
}


@pytest.mark.parametrize("name", HELD_OUT_ONLY)
def test_a_loss_on_held_out_data_is_never_the_training_loss(name: str) -> None:
    with pytest.raises(LogError) as refused:
        read(*HELD_OUT_ONLY[name])
    assert refused.value.reason == "no-loss-column"


DAMAGED = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"a":' * 5000 + "1" + "}" * 5000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_deeply_nested_document_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(LogError, match="the JSON document is nested too deeply"):
        read(DAMAGED[name], "x.json")


@pytest.mark.parametrize(
    "step", ["-1", "1" + "0" * 30, "9" * 5000], ids=["negative", "huge", "longer than Python reads"]
)
def test_a_column_with_impossible_steps_is_not_the_step(step: str) -> None:
    log = read(f'{{"step": {step}, "loss": 3.0}}\n{{"step": 2, "loss": 2.5}}\n', "x.jsonl")
    assert [(point.step, point.loss) for point in log.points] == [(0, 3.0), (1, 2.5)]
    assert noted(log, "column 'step' is not used as the step, because it holds")


def test_a_negative_step_that_was_asked_for_is_refused() -> None:
    with pytest.raises(LogError, match=r"line 2: 'n' is -3, but a step is 0 or more") as refused:
        read_text("x.csv", "n,loss\n-3,2\n4,1\n", ColumnNames(step="n"))
    assert refused.value.reason == "bad-step"


def test_numbers_that_are_none_are_passed_over() -> None:
    log = read("step 1: loss 2,5, lr 0,001,001\nstep 2: loss 2,4, lr 0,001\n")
    assert [(point.loss, point.lr) for point in log.points] == [(2.5, None), (2.4, 0.001)]


@pytest.mark.parametrize("form", ["step {} loss 2\n", "Epoch: {} loss: 2\n"])
def test_steps_beyond_every_integer_are_not_used(form: str) -> None:
    log = read(form.format("1e300") + form.format("2e300"))
    assert [point.step for point in log.points] == [0, 1]


def test_steps_that_overflow_across_epochs_are_refused() -> None:
    steps = ((0, 2**53 - 2), (1, 5), (1, 2**53 - 2))
    text = "".join(f"epoch {epoch} step {step} loss 2\n" for epoch, step in steps)
    with pytest.raises(LogError, match="which is too large for a step") as refused:
        read(text)
    assert refused.value.reason == "bad-step"


def test_a_log_decided_without_points_has_no_other_columns() -> None:
    log = read("step,loss_d,loss_g,acc\n1,2,1,0\n2,nan,1,0\n", "x.csv")
    assert (len(log.points), log.other_columns()) == (0, {})


def test_prose_with_more_names_than_a_log_has_is_cut_with_a_note() -> None:
    text = "".join(f"step {s} loss 2.0 thing{s:05d}x = 1\n" for s in range(5100))
    log = read(text)
    assert len(log.points) == 5100
    assert noted(log, "more than 5,000 columns")


@pytest.mark.parametrize("between", ["saved checkpoint-100.pt", "UserWarning: slow", "step 2: val loss 0.9"])
@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("step,loss,lr\n", "{},{},0.1\n"),
        ("step\tloss\tlr\n", "{}\t{}\t0.1\n"),
        ("  step    loss    lr\n", "  {}   {}   0.1\n"),
        ("| step | loss | lr |\n|---|---|---|\n", "| {} | {} | 0.1 |\n"),
    ],
    ids=["commas", "tabs", "blanks", "markdown"],
)
def test_a_table_that_other_lines_interrupt_is_read_to_its_end(header: str, row: str, between: str) -> None:
    rows = [row.format(step, loss) for step, loss in enumerate(LOSSES)]
    log = read("".join(["1,200 parameters\n", header, *rows[:2], between, "\n", *rows[2:]]))
    assert log.points.losses.tolist() == list(LOSSES)  # type: ignore[attr-defined]  # Points
    late = read("".join([header, between, "\n", *rows]))
    assert late.points.losses.tolist() == list(LOSSES)  # type: ignore[attr-defined]  # Points

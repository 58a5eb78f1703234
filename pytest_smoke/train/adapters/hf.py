"""Smoke runs of a Hugging Face `Trainer`: its own loop, optimizer and data, under the schedule of the mode."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments
from transformers import Trainer as HfTrainer
from transformers.trainer_utils import SchedulerType

from pytest_smoke.errors import TaskError
from pytest_smoke.text import count, listed
from pytest_smoke.train.adapters.factory import built
from pytest_smoke.train.adapters.samples import LoaderSamples
from pytest_smoke.train.adapters.session import Session, Wrapped, logged_losses, named_losses, replaced
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.device import isolated_eval, seed_all
from pytest_smoke.train.learning_rates import same_rate
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.source_files import source_files
from pytest_smoke.train.task import data_files_of
from pytest_smoke.train.temporary import temporary_folder

SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "polynomial": "polynomial",
    "inverse_sqrt": "inverse-sqrt",
    "warmup_stable_decay": "wsd",
}
"""The recipe's name of an `lr_scheduler_type`; every one that is not listed is `other`."""
SCHEDULER_TYPES = {"constant": "constant_with_warmup", "cosine": "cosine", "linear": "linear"}
"""The `lr_scheduler_type` of a smoke run's `lr_schedule`."""
FIXED = {
    "logging_strategy": "no",  # its `.item()` would wait for the device at every step; the losses are read without it
    "logging_nan_inf_filter": False,
    "eval_strategy": "no",
    "eval_on_start": False,
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "auto_find_batch_size": False,  # it would make the batch smaller where memory runs out
    "disable_tqdm": True,
    "report_to": [],
    "lr_scheduler_kwargs": {},
    "warmup_ratio": 0.0,
}
"""Arguments that a smoke run sets, where the installed version has them."""
USE_CPU = "ACCELERATE_USE_CPU"
"""Environment variable that Accelerate reads when a trainer is built."""
OWN_TOKENS = (
    "average_tokens_across_devices is off, so each rank of the full run divides its loss by its own tokens, and the "
    "smoke run on one device by those of all ranks: the gradients differ where ranks have different numbers of tokens"
)
NOT_METRICS = ("_runtime", "_per_second", "epoch", "_preparation_time")
"""Ends of the names that `evaluate` returns and that are not metrics."""
QUIET = ("PrinterCallback", "ProgressCallback", "NotebookProgressCallback")
"""Callbacks that only print."""


def describe(plan: RunPlan, device: torch.device) -> dict[str, Any]:
    """Build the trainer and return the settings of its full run, by the recipe's names.

    `plan` needs the import path, the arguments, the seed and the world size. Raises TaskError, and whatever the factory
    raises.
    """
    trainer = build(plan, device)
    args = trainer.args
    loader = _train_loader(trainer, plan)
    accumulation = int(args.gradient_accumulation_steps)
    max_steps = int(args.max_steps)
    is_split = _splits_batches(args)
    batch_size = int(args.per_device_train_batch_size)
    if is_split and batch_size % plan.world_size:
        raise TaskError(
            f"accelerator_config.split_batches divides per_device_train_batch_size {batch_size} among "
            f"{plan.world_size} ranks: it must be a multiple of their number",
            key="full.world_size",
        )
    if max_steps <= 0:
        batches, ranks = len(loader), 1 if is_split else plan.world_size
        per_rank = batches // ranks if args.dataloader_drop_last else math.ceil(batches / ranks)
        max_steps = math.ceil(args.num_train_epochs * max(1, math.ceil(per_rank / accumulation)))
    kind = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    own_scheduler = trainer.lr_scheduler is not None
    return {
        "batch_size": batch_size // plan.world_size if is_split else batch_size,
        "grad_accum_steps": accumulation,
        "learning_rate": _peak_rate(trainer),
        "lr_schedule": "other" if own_scheduler else SCHEDULES.get(kind, "other"),
        "warmup_steps": _warmup_steps(args, max_steps),
        "max_steps": max_steps,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "grad_clip_norm": float(args.max_grad_norm) if args.max_grad_norm and args.max_grad_norm > 0 else None,
    }


def _splits_batches(args: Any) -> bool:
    """Return whether Accelerate divides a batch of the data loader among the ranks; else each draws its own."""
    return bool(getattr(args.accelerator_config, "split_batches", False))


def run(plan: RunPlan, device: torch.device, channel: Channel) -> None:
    """Train the plan's trainer, report to `channel` and follow its commands. Raises TaskError and what it raises."""
    trainer = build(plan, device)
    channel.send([source_files(plan.root)])
    if (data := data_files_of(trainer, plan.root)) is not None:
        channel.send([data])
    _Run(plan, device, channel, trainer).run()


def build(plan: RunPlan, device: torch.device) -> Any:
    """Call the plan's factory and return its trainer. Raises TaskError, and whatever the factory raises."""
    with _prepared_arguments(plan.trainer, device), _device_of_trainer(device):
        trainer = built(plan)
    if not isinstance(trainer, HfTrainer):
        raise TaskError(
            f"{plan.task} returned {type(trainer).__name__}, not a transformers.Trainer: return the trainer as it is "
            "before `train()` is called",
            key=plan.trainer,
        )
    _refuse_sharded(trainer.args, plan.trainer)
    if steps := int(trainer.state.global_step):
        raise TaskError(
            f"{plan.task} returned a trainer that has already trained for {count(steps, 'step')}: return it as it is "
            "before `train()` is called",
            key=plan.trainer,
        )
    trainer.args._n_gpu = min(1, int(trainer.args.n_gpu))  # several visible GPUs would be used by DataParallel
    return trainer


@contextlib.contextmanager
def _device_of_trainer(device: torch.device) -> Iterator[None]:
    """Keep a trainer that is built on the CPU, where an accelerator is there that must not be used."""
    before = os.environ.get(USE_CPU)
    if device.type == "cpu":
        os.environ[USE_CPU] = "true"
    try:
        yield
    finally:
        os.environ.pop(USE_CPU, None)
        if before is not None:
            os.environ[USE_CPU] = before


def _train_loader(trainer: Any, plan: RunPlan) -> Any:
    overridden = type(trainer).get_train_dataloader is not HfTrainer.get_train_dataloader
    if trainer.train_dataset is None and not overridden:
        raise TaskError(f"the trainer of {plan.task} has no train_dataset: there is nothing to train on", key="hf")
    return trainer.get_train_dataloader()


def _peak_rate(trainer: Any) -> float:
    """Return the peak learning rate: that of the arguments if a parameter group has it, else the highest one."""
    optimizer = trainer.optimizer if trainer.optimizer is not None else trainer.create_optimizer()
    rates = _peaks(optimizer)
    declared = float(trainer.args.learning_rate)
    return declared if any(same_rate(rate, declared) for rate in rates) else max(rates, default=declared)


def _peaks(optimizer: Any) -> list[float]:
    """Return the peak rate of each parameter group: a scheduler has set the current one, and keeps the peak apart."""
    return [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]


def _warmup_steps(args: Any, max_steps: int) -> int:
    if str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)) == "constant":
        return 0  # this type ignores a warm-up
    return int(args.get_warmup_steps(max_steps))


@contextlib.contextmanager
def _prepared_arguments(key: str, device: torch.device) -> Iterator[None]:
    """Prepare arguments before the library checks them, and remove the empty output folders that trainers make.

    DeepSpeed and FSDP are refused before the library looks for what they need. On the CPU, `use_cpu` is set, without
    which bf16 is an error there.
    """
    original = TrainingArguments.__post_init__
    new_folders: list[Path] = []

    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        _refuse_sharded(self, key)
        self.use_cpu = self.use_cpu or device.type == "cpu"
        if self.output_dir is not None and not Path(self.output_dir).exists():
            new_folders.append(Path(self.output_dir))
        original(self, *args, **kwargs)

    TrainingArguments.__post_init__ = checked
    try:
        yield
    finally:
        TrainingArguments.__post_init__ = original
        for folder in new_folders:
            with contextlib.suppress(OSError):  # the factory has written something there
                folder.rmdir()


def _refuse_sharded(args: Any, key: str) -> None:
    given = [name for name in ("deepspeed", "fsdp") if getattr(args, name, None)]
    if given:
        raise TaskError(
            f"TrainingArguments has {listed(given)} set: a smoke run trains on one device, with the batches of all "
            "ranks. Let the factory leave it out, and write the number of ranks as full.world_size",
            key=key,
        )


class _Run:
    """One smoke run of a trainer."""

    def __init__(self, plan: RunPlan, device: torch.device, channel: Channel, trainer: Any) -> None:
        self._plan, self._device, self._trainer = plan, device, trainer
        self._configure()
        self._loader = _train_loader(trainer, plan)
        self.samples = LoaderSamples(self._loader)
        self._session = Session(plan, device, channel, self)
        self._training_step: Wrapped = trainer.training_step
        self._compute_loss: Wrapped = trainer.compute_loss
        self._in_micro_batch = self._asks_outputs = False
        self._outputs: dict[str, Tensor] = {}
        """Named losses of the model's last output."""
        self._terms: dict[str, Tensor] = {}
        """Named losses of the micro-batch."""
        self._trained: int | None = None
        """Samples that its loss was computed on."""

    def run(self) -> None:
        """Train to the end, or until a command stops the run."""
        trainer, session = self._trainer, self._session
        trainer.add_callback(_Callback(self))
        seed_all(self._plan.seed)
        with ExitStack() as stack:
            # Callbacks of the user's write there, and must not mix with the full run's files.
            trainer.args.output_dir = str(stack.enter_context(temporary_folder("trainer-")))
            wraps: tuple[tuple[Any, str, Callable[[Wrapped], Wrapped]], ...] = (
                (trainer, "training_step", self._on_training_step),
                (trainer, "compute_loss", self._on_compute_loss),
                (trainer, "log", self._on_log),
                (trainer.accelerator, "backward", self._on_backward),
                (trainer.accelerator, "clip_grad_norm_", self._on_clip),
            )
            for owner, name, make in wraps:
                stack.enter_context(replaced(owner, name, make))
            try:
                trainer.train()
                session.finish()
            except BaseException:
                session.fail()
                raise

    def _configure(self) -> None:
        """Set what the mode needs through the trainer's own arguments."""
        plan, stage, args, trainer = self._plan, self._plan.stages[0], self._trainer.args, self._trainer
        own = {
            "per_device_train_batch_size": plan.batch_size,
            "gradient_accumulation_steps": plan.micro_batches * plan.world_size,
            "lr_scheduler_type": SchedulerType(SCHEDULER_TYPES[stage.lr_schedule]),
            "warmup_steps": stage.warmup_steps,
            "max_steps": stage.max_steps,
            "seed": plan.seed,
        }
        for name, value in {**FIXED, **own}.items():
            if hasattr(args, name):
                kind = type(getattr(args, name))
                setattr(args, name, kind(value) if name.endswith("_strategy") else value)
        trainer._train_batch_size = plan.batch_size
        for callback in list(trainer.callback_handler.callbacks):
            kind = type(callback)
            reports = kind.__module__.startswith("transformers.integrations")
            if reports or kind.__name__ in QUIET or isinstance(callback, EarlyStoppingCallback):
                trainer.remove_callback(callback)

    # called by the session

    def losses(self, batch: Any) -> Mapping[str, Tensor]:
        """Return the loss of a micro-batch, and its named terms, as in training."""
        trainer = self._trainer
        prepared = trainer._prepare_inputs(_copied(batch))
        self._outputs = {}
        with trainer.compute_loss_context_manager():
            found = self._compute_loss(trainer.model_wrapped, prepared, **_outputs_if(self._asks_outputs))
        loss, outputs = found if self._asks_outputs else (found, None)
        return {"loss": loss.mean(), **(named_losses(outputs) if self._asks_outputs else self._outputs)}

    def score(self, batch: Any) -> Tensor | None:
        """Return the loss that the trainer's own `prediction_step` returns."""
        trainer = self._trainer
        loss, *_ = trainer.prediction_step(trainer.model_wrapped, _copied(batch), prediction_loss_only=True)
        return loss if loss is not None else self.losses(batch)["loss"]

    def gradient(self, batches: Sequence[Any]) -> Tensor:
        """Make the trainer's own training steps on the micro-batches of one update, but not the update."""
        trainer = self._trainer
        before = getattr(trainer, "current_gradient_accumulation_steps", None)
        trainer.current_gradient_accumulation_steps = len(batches)
        try:
            moved = [trainer._prepare_inputs(_copied(batch)) for batch in batches]
            items = trainer._get_num_items_in_batch(moved, self._device)
            losses = [self._training_step(trainer.model_wrapped, _copied(batch), items) for batch in moved]
        finally:
            trainer.current_gradient_accumulation_steps = before
        return torch.stack([loss.float().mean() for loss in losses]).sum()

    def evaluate(self) -> dict[str, float] | None:
        """Return the metrics of the trainer's `evaluate`, without its timings."""
        if self._trainer.eval_dataset is None:
            return None
        metrics = self._trainer.evaluate()
        return {
            name: float(value)
            for name, value in metrics.items()
            if isinstance(value, int | float) and not name.endswith(NOT_METRICS)
        }

    # called by the trainer

    def start(self) -> None:
        """Attach to the model and the optimizer, which the trainer has made."""
        trainer, session = self._trainer, self._session
        optimizer = trainer.optimizer
        inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate wraps it
        trainer.model.train()  # as every `training_step` does
        not_checked = {}
        if self._plan.precision == "fp16":
            session.term_problem = "under fp16 the trainer scales the loss, so its terms are not differentiated"
        compiled = bool(getattr(trainer.args, "torch_compile", False))
        if not compiled:
            trainer.model.register_forward_hook(self._on_output, with_kwargs=False)
        session.attach(trainer.model, inner, _peaks(inner))
        self._learn_terms()
        if session.terms and session.term_problem:
            not_checked["grad-ratio"] = session.term_problem
        if self._plan.world_size > 1 and self._weights_by_rank():
            not_checked["items-drawn"] = OWN_TOKENS
        session.start(not_checked=not_checked)

    def _weights_by_rank(self) -> bool:
        """Return whether the full run divides the loss of each rank by the items of that rank alone."""
        counts = getattr(self._trainer, "model_accepts_loss_kwargs", False) or self._trainer.compute_loss_func
        return bool(counts) and not getattr(self._trainer.args, "average_tokens_across_devices", True)

    def _learn_terms(self) -> None:
        """Learn the names of the losses: from the model's output, and from what a `compute_loss` of its own returns."""
        trainer, samples = self._trainer, self.samples
        if samples.problem:
            return
        overridden = type(trainer).compute_loss is not HfTrainer.compute_loss
        with (
            isolated_eval(trainer.model, self._device),
            torch.enable_grad(),
            warnings.catch_warnings(),
            contextlib.suppress(Exception),  # training shows what is wrong
        ):
            warnings.simplefilter("ignore")
            batch = next(samples.batches(self._plan.batch_size, seed=self._plan.seed))
            self._session.terms = tuple(set(self.losses(batch)) - {"loss"})
            if overridden:
                self._asks_outputs = True
                try:
                    self._session.terms = tuple(self.losses(batch).keys() - {"loss"})
                except Exception:
                    self._asks_outputs = False
                self._asks_outputs = self._asks_outputs and bool(self._session.terms)
        self._session.terms = tuple(sorted(self._session.terms))

    def _on_output(self, module: Any, args: Any, output: Any) -> None:
        self._outputs = named_losses(output)

    def _on_training_step(self, original: Wrapped) -> Wrapped:
        def training_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._in_micro_batch, self._terms, self._trained = True, {}, None
            kept = _copied(inputs)
            try:
                loss = original(model, inputs, *args, **kwargs)
            finally:
                self._in_micro_batch = False
            self._session.on_micro_batch(kept, loss, self._terms, trained_samples=self._trained)
            return loss

        return training_step

    def _on_compute_loss(self, original: Wrapped) -> Wrapped:
        def compute_loss(model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            if not self._in_micro_batch:
                return original(model, inputs, return_outputs=return_outputs, **kwargs)
            if (samples := self._session.samples_of(inputs)) is not None:
                self._trained = (self._trained or 0) + samples
            self._outputs = {}
            asked = return_outputs or self._asks_outputs
            found = original(model, inputs, return_outputs=asked, **kwargs)
            self._terms = named_losses(found[1]) if self._asks_outputs else self._outputs
            return found if return_outputs or not asked else found[0]

        return compute_loss

    def _on_backward(self, original: Wrapped) -> Wrapped:
        def backward(loss: Tensor, **kwargs: Any) -> Any:
            if self._in_micro_batch and self._session.probes_terms:
                share = 1.0 / max(1, int(getattr(self._trainer, "current_gradient_accumulation_steps", 1) or 1))
                self._session.on_backward(loss, self._terms, share)
            return original(loss, **kwargs)

        return backward

    def _on_clip(self, original: Wrapped) -> Wrapped:
        def clip_grad_norm_(parameters: Any, max_norm: Any, *args: Any, **kwargs: Any) -> Any:
            norm = original(parameters, max_norm, *args, **kwargs)
            if isinstance(norm, Tensor):
                self._session.on_gradient_norm(norm)
            return norm

        return clip_grad_norm_

    def _on_log(self, original: Wrapped) -> Wrapped:
        def log(logs: dict[str, float], *args: Any, **kwargs: Any) -> Any:
            if self._in_micro_batch:
                self._session.on_logged(logged_losses(logs))
            return original(logs, *args, **kwargs)

        return log

    @property
    def session(self) -> Session:
        """What measures the run."""
        return self._session

    @property
    def skipped(self) -> bool:
        """Whether the loss scaler skipped the last update."""
        return bool(self._trainer.accelerator.optimizer_step_was_skipped)


class _Callback(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked
    """Tells a run about the trainer's steps. It is the last callback, so it sees what others have changed."""

    def __init__(self, run: _Run) -> None:
        self._run, self._session = run, run.session

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.start()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.begin_step()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.before_update()
        self._session.watch_rates()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.after_update(skipped=self._run.skipped)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self._session.end_step():
            control.should_training_stop = True
        return control


def _copied(batch: Any) -> Any:
    """Return a shallow copy of a batch: losses take labels out of it."""
    return copy.copy(batch) if isinstance(batch, Mapping | list) else batch


def _outputs_if(asked: bool) -> dict[str, bool]:
    return {"return_outputs": True} if asked else {}

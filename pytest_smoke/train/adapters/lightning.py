"""Smoke runs of a LightningModule: its own steps, optimizer and data in Lightning's loop, under the mode's schedule."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from pytest_smoke import schedules
from pytest_smoke.errors import TaskError
from pytest_smoke.events import SERIES
from pytest_smoke.train.adapters.factory import built
from pytest_smoke.train.adapters.samples import LoaderSamples, rows_of
from pytest_smoke.train.adapters.session import Session, Wrapped, named_losses, replaced
from pytest_smoke.train.batch_equivalence import restored
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.device import isolated_eval, seed_all
from pytest_smoke.train.learning_rates import same_rate
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.source_files import source_files
from pytest_smoke.train.task import data_files_of

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""Packages of Lightning; the classes of one are not those of the other."""
SIMULATED_STEPS = 20_000
"""Steps of a full run's schedule that are simulated to find its peak: a warm-up ends before."""
NEVER = 10**9
"""Epochs between two validations that Lightning would make by itself."""
DEFAULT_EPOCHS = 1000
"""Epochs of a Lightning trainer without `max_epochs` and `max_steps`."""
SHARDED = ("deepspeed", "fsdp", "xla", "model_parallel", "ModelParallel", "DeepSpeed", "FSDP", "XLA")
"""Parts of the names of strategies that shard a model."""
SCHEDULES = {
    "OneCycleLR": "one-cycle",
    "CosineAnnealingLR": "cosine",
    "PolynomialLR": "polynomial",
    "ConstantLR": "other",
}
"""The recipe's name of a class of schedulers; every one that is not listed is `other`."""
PLACE_IN_EPOCH = ("_epoch_end_reached", "_current_fx", "_batch_idx", "_split_idx", "_first_loop_iter")
"""What Lightning's loggers remember of the batch that is trained; a validation in between changes it."""
DROPPED = (
    *("devices", "num_nodes", "strategy", "accelerator", "logger", "min_epochs", "min_steps", "max_time"),
    *("val_check_interval", "fast_dev_run", "profiler", "plugins", "barebones", "enable_autolog_hparams"),
)
"""Arguments of the trainer that a smoke run leaves out or sets itself."""
REMOVED = (
    *("ModelCheckpoint", "EarlyStopping", "LearningRateMonitor", "ProgressBar", "Timer", "DeviceStatsMonitor"),
    *("StochasticWeightAveraging", "LearningRateFinder"),
)
"""Callbacks that save, stop, print, need a logger, or set learning rates as a scheduler does."""

REFUSED = {
    "GradientAccumulationScheduler": "changes the effective batch during training",
    "BatchSizeFinder": "chooses a batch size of its own",
    "BaseFinetuning": "adds parameters to the optimizer during training",
}
"""What callbacks do that a smoke run cannot follow, by class or base class."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a factory returned."""

    module: Any
    """The LightningModule."""
    data: Any
    """A data loader or a LightningDataModule; None if the module has its own."""
    arguments: dict[str, Any]
    """Arguments of the full run's `Trainer`."""

    @property
    def package(self) -> Any:
        """The package that the module's class is from."""
        names = {base.__module__.partition(".")[0] for base in type(self.module).__mro__}
        return importlib.import_module(PACKAGES[1] if "pytorch_lightning" in names else PACKAGES[0])

    @property
    def is_datamodule(self) -> bool:
        """Whether the data are a LightningDataModule."""
        return isinstance(self.data, self.package.LightningDataModule)

    def train_loader(self) -> Any:
        """Return the training data, as the trainer will ask for them. Raises TaskError."""
        if self.data is not None and not self.is_datamodule:
            return _one(self.data)
        owner = self.data if self.is_datamodule else self.module
        owner.prepare_data()
        owner.setup("fit")
        try:
            loader = owner.train_dataloader()
        except Exception as error:
            if "train_dataloader" not in str(error):
                raise
            raise TaskError(
                "there are no training data: return (module, data) from the factory, or write train_dataloader",
                key="lightning",
            ) from None
        return _one(loader)


def _one(loader: Any) -> Any:
    """Return the data loader; raise TaskError if it is a collection of several."""
    if isinstance(loader, Mapping | list | tuple) or type(loader).__name__ == "CombinedLoader":
        raise TaskError(
            f"the training data are a {type(loader).__name__} of data loaders: a smoke run of a LightningModule has "
            "one, so that its samples can be counted; train it with `command`, or as a task",
            key="lightning",
        )
    return loader


def describe(plan: RunPlan, device: torch.device) -> dict[str, Any]:
    """Build the module and return the settings of its full run, by the recipe's names.

    `plan` needs the import path, the arguments, the seed and the world size. Raises TaskError, and whatever the factory
    raises.
    """
    parts = build(plan)
    arguments, loader = parts.arguments, parts.train_loader()
    accumulation = arguments.get("accumulate_grad_batches", 1)
    if not isinstance(accumulation, int):
        raise TaskError(
            "accumulate_grad_batches must be a number: a smoke run has one effective batch", key="lightning"
        )
    world = _world_size(arguments)
    ranks = plan.world_size if world is None else world
    steps_per_epoch = _steps_per_epoch(arguments, loader, ranks)
    max_steps = _max_steps(arguments, steps_per_epoch)
    rate = _main_peak(_simulated(parts, max_steps=max_steps, steps_per_epoch=steps_per_epoch or max_steps))
    clip = arguments.get("gradient_clip_val") or None
    read = {
        "batch_size": _batch_size(loader),
        "grad_accum_steps": accumulation,
        "learning_rate": rate.peak,
        "lr_schedule": rate.kind,
        "warmup_steps": rate.warmup_steps,
        "max_steps": max_steps,
        "precision": _precision(arguments.get("precision")),
        "grad_clip_norm": float(clip) if clip and arguments.get("gradient_clip_algorithm", "norm") == "norm" else None,
    }
    return read if world is None else {**read, "world_size": world}


def _steps_per_epoch(arguments: Mapping[str, Any], loader: Any, ranks: int) -> int | None:
    """Return the optimizer steps of an epoch of the full run; None if the training data have no length."""
    limit = arguments.get("overfit_batches") or arguments.get("limit_train_batches")
    try:
        batches = math.ceil(len(loader) / ranks)
    except TypeError:
        batches = limit if isinstance(limit, int) else 0
        limit = None
    if isinstance(limit, int):
        batches = min(batches, limit)
    elif limit is not None:
        batches = int(batches * limit)
    return math.ceil(batches / arguments.get("accumulate_grad_batches", 1)) or None


def _max_steps(arguments: Mapping[str, Any], steps_per_epoch: int | None) -> int:
    """Return the optimizer steps of the full run: it ends with `max_steps` or `max_epochs`, whichever is first."""
    steps, epochs = int(arguments.get("max_steps") or -1), arguments.get("max_epochs")
    if epochs is None:
        epochs = DEFAULT_EPOCHS if steps < 0 else -1
    if epochs > 0 and steps_per_epoch is not None:
        return min(steps, epochs * steps_per_epoch) if steps > 0 else int(epochs * steps_per_epoch)
    if steps > 0:
        return steps
    without = "the training data have no length" if epochs > 0 else "the trainer's arguments state no length (-1)"
    raise TaskError(f"{without}: set max_steps in the trainer's arguments", key="lightning")


def run(plan: RunPlan, device: torch.device, channel: Channel) -> None:
    """Train the plan's module, report to `channel` and follow its commands. Raises TaskError and what it raises."""
    parts = build(plan)
    channel.send([source_files(plan.root)])
    for part in (parts.module, parts.data):
        if (data := data_files_of(part, plan.root)) is not None:
            channel.send([data])
    _Run(plan, device, channel, parts).run()


def build(plan: RunPlan) -> Parts:
    """Call the plan's factory and return the parts. Raises TaskError, and whatever the factory raises."""
    returned = built(plan)
    parts: tuple[Any, ...] = tuple(returned) if isinstance(returned, tuple | list) else (returned,)
    padded: list[Any] = [*parts, None, None] if 1 <= len(parts) <= 3 else [None] * 3
    module, data, arguments = padded[:3]
    if not _is_module(module) or not isinstance(arguments, dict | None):
        shown = f"({', '.join(type(part).__name__ for part in parts)})" if len(parts) > 1 else type(parts[0]).__name__
        raise TaskError(
            f"{plan.task} returned {shown}: it must return a LightningModule, (module, data), or (module, data, "
            "arguments of the Trainer as a dict)",
            key=plan.trainer,
        )
    if not module.automatic_optimization:
        raise TaskError(
            f"{type(module).__name__} optimizes manually (automatic_optimization = False), so its steps cannot be told "
            "from its batches: train it with `command`, or as a task",
            key=plan.trainer,
        )
    found = Parts(module, data, dict(arguments or {}))
    strategy = found.arguments.get("strategy", "auto")
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    if any(part in name for part in SHARDED):
        raise TaskError(
            f"the trainer's arguments have strategy {name}: a smoke run trains on one device, with the batches of all "
            "ranks. Let the factory leave it out, and write the number of ranks as full.world_size",
            key=plan.trainer,
        )
    for callback in _callbacks(found.arguments):
        for kind in type(callback).__mro__:
            if kind.__name__ in REFUSED:
                name = type(callback).__name__
                text = f"the callback {name} {REFUSED[kind.__name__]}: let the factory leave it out"
                raise TaskError(text, key=plan.trainer)
    return found


def _is_module(value: Any) -> bool:
    """Tell whether an object is a LightningModule, of either package."""
    packages = [importlib.import_module(name) for name in PACKAGES if find_spec(name.partition(".")[0])]
    return any(isinstance(value, package.LightningModule) for package in packages)


def _callbacks(arguments: Mapping[str, Any]) -> list[Any]:
    given = arguments.get("callbacks") or []
    return list(given) if isinstance(given, list | tuple) else [given]


def _world_size(arguments: Mapping[str, Any]) -> int | None:
    """Return the number of ranks that the arguments state; None if they depend on the machine."""
    devices, nodes = arguments.get("devices"), int(arguments.get("num_nodes") or 1)
    if isinstance(devices, list | tuple):
        return len(devices) * nodes
    return devices * nodes if isinstance(devices, int) and devices > 0 else None


def _precision(given: Any) -> str:
    name = str(given or "32-true")
    return "bf16" if name.startswith("bf16") else "fp16" if name.startswith(("16", "transformer")) else "fp32"


def _batch_size(loader: Any) -> int:
    """Return the samples in a micro-batch: what the loader declares, or else those of the first batch that it draws."""
    declared = getattr(loader, "batch_size", None) or getattr(
        getattr(loader, "batch_sampler", None), "batch_size", None
    )
    if isinstance(declared, int):
        return declared
    batch = next(iter(loader), None)
    rows = rows_of(batch, 0) if batch is not None else "the training data are empty"
    if isinstance(rows, str):
        raise TaskError(f"the samples in a batch cannot be counted: {rows}", key="lightning")
    return rows


# the schedule


@dataclass(frozen=True, slots=True)
class Rate:
    """What the schedule of a parameter group does in the full run."""

    peak: float
    warmup_steps: int
    kind: str


def _simulated(parts: Parts, *, max_steps: int, steps_per_epoch: int) -> list[Rate]:
    """Make optimizer and scheduler as Lightning does, and step the scheduler: return the rate of each group."""
    trainer = parts.package.Trainer(
        **{name: value for name, value in _kept(parts).items() if name != "precision"},  # some need an accelerator
        max_steps=max_steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    parts.module.trainer = trainer
    trainer.strategy.connect(parts.module)
    given = {"datamodule": parts.data} if parts.is_datamodule else {"train_dataloaders": parts.data}
    trainer._data_connector.attach_data(parts.module, **given)
    optimizer, scheduler, every = _configured(parts.module.configure_optimizers(), steps_per_epoch)
    return rates_of(optimizer, scheduler, steps=max_steps, every=every)


def _configured(returned: Any, steps_per_epoch: int) -> tuple[torch.optim.Optimizer, Any, int]:
    """Return the optimizer of what `configure_optimizers` returned, its scheduler (None without one), and its interval.

    The interval is the number of optimizer steps between two of the scheduler. Raises TaskError for several optimizers,
    and for none.
    """
    optimizers, given = returned, None
    if isinstance(returned, Mapping):
        optimizers, given = returned.get("optimizer"), returned.get("lr_scheduler")
    elif isinstance(returned, list | tuple) and len(returned) == 2 and isinstance(returned[0], list | tuple):
        optimizers, given = returned
    elif isinstance(returned, list | tuple) and len(returned) == 1 and isinstance(returned[0], Mapping):
        optimizers, given = returned[0].get("optimizer"), returned[0].get("lr_scheduler")
    found = list(optimizers) if isinstance(optimizers, list | tuple) else [optimizers]
    if len(found) != 1 or not isinstance(found[0], torch.optim.Optimizer):
        what = f"{len(found)} optimizers" if len(found) > 1 else "no optimizer"
        raise TaskError(
            f"configure_optimizers returned {what}: a smoke run of a LightningModule has one optimizer; train it with "
            "`command`, or as a task",
            key="lightning",
        )
    many = list(given) if isinstance(given, list | tuple) else [given] if given is not None else []
    if len(many) > 1:
        raise TaskError("configure_optimizers returned several schedulers: chain them in one", key="lightning")
    scheduler, interval, frequency = many[0] if many else None, "epoch", 1
    if isinstance(scheduler, Mapping):
        interval, frequency = scheduler.get("interval", "epoch"), int(scheduler.get("frequency", 1))
        scheduler = scheduler.get("scheduler")
    return found[0], scheduler, frequency * (steps_per_epoch if interval == "epoch" else 1)


def rates_of(optimizer: torch.optim.Optimizer, scheduler: Any, *, steps: int, every: int) -> list[Rate]:
    """Return peak, warm-up and kind of each parameter group's schedule over `steps` optimizer steps.

    `every`: optimizer steps between two steps of the scheduler. The scheduler is stepped, so it cannot be used later.
    """
    seen = [[float(group["lr"]) for group in optimizer.param_groups]]
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if scheduler is not None and not plateau:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimizer does not step in between
            for _ in range(min(SIMULATED_STEPS, steps) // every):
                try:
                    scheduler.step()
                except ValueError:  # OneCycleLR counts its steps
                    break
                seen.append([float(group["lr"]) for group in optimizer.param_groups])
    found = []
    for rates in zip(*seen, strict=True):
        peak = max(rates)
        at = next(number for number, rate in enumerate(rates) if same_rate(peak, rate))
        is_constant = all(same_rate(peak, rate) for rate in rates[at:]) and not plateau
        kind = "constant" if is_constant else SCHEDULES.get(type(scheduler).__name__, "other")
        found.append(Rate(peak, at * every, kind))
    return found


def _main_peak(rates: Sequence[Rate]) -> Rate:
    return max(rates, key=lambda rate: rate.peak)


def _kept(parts: Parts) -> dict[str, Any]:
    """Return the trainer's arguments that say how to train."""
    ours = (
        "max_steps",
        "max_epochs",
        "accumulate_grad_batches",
        "callbacks",
        "num_sanity_val_steps",
        "limit_val_batches",
    )
    reports = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "check_val_every_n_epoch")
    return {name: value for name, value in parts.arguments.items() if name not in (*DROPPED, *ours, *reports)}


class _Run:
    """One smoke run of a module."""

    def __init__(self, plan: RunPlan, device: torch.device, channel: Channel, parts: Parts) -> None:
        self._plan, self._device, self._parts, self._module = plan, device, parts, parts.module
        self._accumulation = plan.micro_batches * plan.world_size
        loader = parts.train_loader()
        if (size := _batch_size(loader)) != plan.batch_size:
            raise TaskError(
                f"the data loader has batches of {size}, and the smoke run's batch_size is {plan.batch_size}: a smoke "
                "run cannot change it; remove it from `smoke`",
                key="smoke.batch_size",
            )
        self.samples = LoaderSamples(loader)
        self._steps_per_epoch = _steps_per_epoch(parts.arguments, loader, plan.world_size)
        self._session = Session(plan, device, channel, self)
        self._training_step: Wrapped = self._module.training_step
        self._takes_index = len(inspect.signature(self._training_step).parameters) > 1
        self._terms: dict[str, Tensor] = {}
        self._validated: set[str] = set()
        """Names that the module logged while it validated."""
        self._is_rerun = False
        """Whether a loss is computed again, apart from training."""
        self._in_step = False
        """Whether some micro-batches of a step were trained."""
        self._has_updated = False
        """Whether the optimizer stepped since."""
        self._has_ended = False
        self._trainer: Any = None
        self._peaks: list[float] = []

    def run(self) -> None:
        """Train to the end, or until a command stops the run."""
        plan, parts, module = self._plan, self._parts, self._module
        evaluates = plan.evaluates and module.validation_step is not None
        own = [one for one in _callbacks(parts.arguments) if not type(one).__name__.endswith(REMOVED)]
        limit = parts.arguments.get("limit_val_batches", 1.0) if evaluates else 0
        self._trainer = parts.package.Trainer(
            **_kept(parts),
            accelerator={"cuda": "gpu"}.get(self._device.type, self._device.type),
            devices=[self._device.index or 0] if self._device.type == "cuda" else 1,
            max_steps=plan.run_steps,
            max_epochs=-1,
            accumulate_grad_batches=self._accumulation,
            callbacks=[*own, _callback(parts.package, self)],
            check_val_every_n_epoch=NEVER,
            limit_val_batches=limit,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        given = {"datamodule": parts.data} if parts.is_datamodule else {"train_dataloaders": parts.data}
        seed_all(plan.seed)
        with ExitStack() as stack:
            for name, make in (
                ("training_step", self._on_training_step),
                ("configure_optimizers", self._on_configure),
                ("log", self._on_log),
            ):
                stack.enter_context(replaced(module, name, make))
            try:
                self._trainer.fit(module, **given)
                if not self._has_ended:
                    self._session.finish()  # says why
            except BaseException:
                self._session.fail()
                raise

    @property
    def session(self) -> Session:
        """What measures the run."""
        return self._session

    # called by the session

    def losses(self, batch: Any) -> Mapping[str, Tensor]:
        """Return the loss of a micro-batch, and its named terms, as in training."""
        loss, terms = self._losses(batch)
        return {"loss": loss, **terms}

    def score(self, batch: Any) -> Tensor | None:
        """Return the training loss of a batch; the module is in evaluation mode, and is restored."""
        with restored(self._module, self):  # type: ignore[arg-type]  # any object whose attributes are restored
            return self._losses(batch)[0]

    def gradient(self, batches: Sequence[Any]) -> Tensor:
        """Differentiate the losses of the micro-batches of one update, each times its share."""
        total = torch.zeros((), device=self._device)
        for batch in batches:
            loss, _ = self._losses(batch)
            share = loss / len(batches)
            share.backward()  # type: ignore[no-untyped-call]  # torch types it so
            total += share.detach()
        return total

    def evaluate(self) -> dict[str, float] | None:
        """Run Lightning's own validation loop and return what the module logged in it."""
        trainer = self._trainer
        loop = trainer.fit_loop.epoch_loop.val_loop
        self._validated = set()
        connector = trainer._logger_connector
        place = {name: value for name, value in vars(connector).items() if name in PLACE_IN_EPOCH}
        hook = self._module._current_fx_name
        trainer.validating = True
        try:
            loop.setup_data()
            if loop.skip:
                return None
            loop.run()
        finally:
            trainer.training = True
            vars(connector).update(place)
            self._module._current_fx_name = hook
        # With several data loaders, Lightning appends `/dataloader_idx_N` to a name.
        return {
            name: float(value)
            for name, value in sorted(trainer.callback_metrics.items())
            if name.partition("/dataloader_idx_")[0] in self._validated
        }

    def _losses(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        trainer = self._trainer
        moved = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        self._terms, self._is_rerun = {}, True
        try:
            with trainer.precision_plugin.train_step_context():
                returned = self._training_step(moved, 0) if self._takes_index else self._training_step(moved)
        finally:
            self._is_rerun = False
        return self._split(returned)

    def _split(self, returned: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and the named losses: what the module logged, and what its step returned."""
        loss = returned.get("loss") if isinstance(returned, Mapping) else returned
        if not isinstance(loss, Tensor):
            raise TaskError(
                f"training_step returned {type(returned).__name__} without a loss: a smoke run needs one for every "
                "batch"
            )
        named = {**self._terms, **named_losses(returned)}
        return loss, {name: value for name, value in named.items() if value is not loss and name not in SERIES}

    # called by Lightning

    def start(self) -> None:
        """Attach to the module and the optimizer, which the trainer has made."""
        module, session = self._module, self._session
        optimizer = self._trainer.optimizers[0]
        inner = getattr(optimizer, "optimizer", optimizer)
        session.attach(module, inner, self._peaks)
        inner.register_step_post_hook(self._after_step)
        if self._plan.precision == "fp16":
            session.term_problem = "under fp16 the trainer scales the loss, so its terms are not differentiated"
        self._learn_terms()
        reasons = {"grad-ratio": session.term_problem} if session.terms and session.term_problem else {}
        session.start(not_checked=reasons)

    def _learn_terms(self) -> None:
        if self.samples.problem:
            return
        with isolated_eval(self._module, self._device), torch.enable_grad(), contextlib.suppress(Exception):
            batch = next(self.samples.batches(self._plan.batch_size, seed=self._plan.seed))
            with restored(self._module, self):  # type: ignore[arg-type]  # any object whose attributes are restored
                self._session.terms = tuple(sorted(self._losses(batch)[1]))

    def begin_micro_batch(self) -> None:
        """Begin a step with its first micro-batch."""
        if not self._in_step:
            self._in_step, self._has_updated = True, False
            self._session.begin_step()
            self._session.watch_rates()

    def before_update(self) -> None:
        """Measure the gradient before it is clipped."""
        self._session.before_update()

    def _after_step(self, *_: Any) -> None:
        if self._in_step and not self._has_updated:
            self._has_updated = True
            self._session.after_update()

    def end_micro_batch(self) -> bool:
        """End the step if this was its last micro-batch; return whether training has to stop."""
        if self._trainer.fit_loop._should_accumulate() and not self._has_updated:
            return False
        if not self._has_updated:
            self._session.without_update()
        self._in_step = False
        return self._session.end_step()

    def end(self) -> None:
        """Report the end of training, before Lightning takes the module from its device."""
        self._session.finish()
        self._has_ended = True

    def on_backward(self, loss: Tensor) -> None:
        """Differentiate the terms of a micro-batch."""
        if self._session.probes_terms:
            self._session.on_backward(loss, self._terms, 1.0 / self._accumulation)

    def _on_training_step(self, original: Wrapped) -> Wrapped:
        def training_step(*args: Any, **kwargs: Any) -> Any:
            self._terms = {}
            returned = original(*args, **kwargs)
            loss, self._terms = self._split(returned)
            batch = args[0] if args else next(iter(kwargs.values()))
            self._session.on_micro_batch(batch, loss / self._accumulation, self._terms)
            return returned

        return training_step

    def _on_configure(self, original: Wrapped) -> Wrapped:
        def configure_optimizers() -> Any:
            stage = self._plan.stages[0]
            optimizer, scheduler, every = _configured(original(), self._steps_per_epoch or stage.full_steps)
            self._peaks = [rate.peak for rate in rates_of(optimizer, scheduler, steps=stage.full_steps, every=every)]
            for group, peak in zip(optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak
                group.pop("initial_lr", None)
            multiplier = schedules.named(stage.lr_schedule, stage.warmup_steps, stage.max_steps)
            ours = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": ours, "interval": "step", "frequency": 1}}

        return configure_optimizers

    def _on_log(self, original: Wrapped) -> Wrapped:
        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            trainer = self._trainer
            if trainer.validating:
                self._validated.add(name)
            elif isinstance(value, Tensor) and value.ndim == 0 and name.lower().endswith("loss"):
                self._terms[name.replace("/", ".")] = value
            if not self._is_rerun:
                original(name, value, *args, **kwargs)

        return log


def _callback(package: Any, run: _Run) -> Any:
    class Reporting(package.Callback):  # type: ignore[misc]  # of the package of the module
        """Tells a run about the trainer's steps. It is the last callback, so it sees what others have changed."""

        def on_train_start(self, trainer: Any, module: Any) -> None:
            run.start()

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            run.begin_micro_batch()

        def on_before_backward(self, trainer: Any, module: Any, loss: Tensor) -> None:
            run.on_backward(loss)

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            run.before_update()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if run.end_micro_batch():
                trainer.should_stop = True

        def on_train_end(self, trainer: Any, module: Any) -> None:
            run.end()

    return Reporting()

"""Trainers of Hugging Face for the tests: a tiny GPT-2 with random weights, on text of the standard library."""

from __future__ import annotations

import argparse
import pydoc_data.topics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import (
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

LENGTH = 16
"""Bytes in a sample."""
SAMPLES = 4000
TEXT = torch.frombuffer(bytearray("".join(pydoc_data.topics.topics.values()).encode()), dtype=torch.uint8).long()


class Topics(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        text = TEXT[index * LENGTH : (index + 1) * LENGTH]
        return {"input_ids": text, "labels": text}


class Stream(IterableDataset[dict[str, Tensor]]):
    def __iter__(self) -> Any:
        return (Topics()[index] for index in range(SAMPLES))


def model() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=256, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    return GPT2LMHeadModel(config)


def arguments(**changes: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        "output_dir": "trained",
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 4,
        "weight_decay": 0.1,
        "num_train_epochs": 20,
        "report_to": "none",
    }
    return TrainingArguments(**{**settings, **changes})


def trainer(kind: type[Trainer] = Trainer, *, given: Mapping[str, Any] | None = None, **changes: Any) -> Trainer:
    parts: dict[str, Any] = {"model": model(), "train_dataset": Topics(), **(given or {})}
    return kind(args=arguments(**changes), **parts)


def diverging() -> Trainer:
    return trainer(learning_rate=2.0)


def split_batches() -> Trainer:
    """Return a trainer whose batch of 8 is divided among the ranks."""
    return trainer(accelerator_config={"split_batches": True})


def tokens_by_rank() -> Trainer:
    return trainer(average_tokens_across_devices=False)


class HalfBatches(Trainer):
    """Its own data loader has half of the batch size that the arguments declare."""

    def get_train_dataloader(self) -> Any:
        return self.accelerator.prepare(DataLoader(self.train_dataset, batch_size=4, shuffle=True))


def half_batches() -> Trainer:
    return trainer(HalfBatches)


class SlicedSteps(Trainer):
    """Its training step drops half of every batch."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        return super().training_step(model, {name: value[:4] for name, value in inputs.items()}, *args, **kwargs)


def sliced_steps() -> Trainer:
    return trainer(SlicedSteps)


class Decay(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= 0.99**state.global_step


def decaying() -> Trainer:
    return trainer(given={"callbacks": [Decay()]})


def own_scheduler() -> Trainer:
    made = model()
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 4, 5000)
    return trainer(given={"model": made, "optimizers": (optimizer, scheduler)})


class OwnScheduler(Trainer):
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=3e-3, total_steps=5000)
        return self.lr_scheduler


def overridden_scheduler() -> Trainer:
    return trainer(OwnScheduler)


class TwoTerms(Trainer):
    """Adds a penalty to the loss, and returns both as outputs."""

    nan_from = 10**9
    loss_is_scaled_for_ga = False  # the loss is a mean over a micro-batch
    penalty_weight = 0.1

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(**inputs)
        penalty = outputs.logits.float().square().mean()
        if self.state.global_step >= self.nan_from and model.training:
            penalty = penalty * float("nan")
        loss = outputs.loss + self.penalty_weight * penalty
        terms = {"ce_loss": outputs.loss, "penalty_loss": penalty}
        return (loss, {**outputs, **terms}) if return_outputs else loss


class Summed(TwoTerms):
    """Is not divided by the number of micro-batches."""

    loss_is_scaled_for_ga = True


def summed() -> Trainer:
    return trainer(Summed)


class BreaksAt8(TwoTerms):
    nan_from = 8


def two_terms(penalty_weight: float = 0.1) -> Trainer:
    """Return a trainer as a user has it, with evaluation, early stopping, checkpoints and a progress bar."""
    made = trainer(
        TwoTerms,
        given={
            "eval_dataset": torch.utils.data.Subset(Topics(), range(64)),
            "callbacks": [EarlyStoppingCallback(early_stopping_patience=1)],
        },
        eval_strategy="steps",
        eval_steps=5,
        save_steps=5,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        logging_steps=5,
    )
    made.penalty_weight = penalty_weight
    return made


def breaks() -> Trainer:
    return trainer(BreaksAt8)


class Still(torch.optim.AdamW):
    def step(self, closure: Any = None) -> None:
        """Change nothing."""


def does_not_step() -> Trainer:
    made = model()
    return trainer(given={"model": made, "optimizers": (Still(made.parameters(), lr=3e-3), None)})


class StopsAt8(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control.should_training_stop = state.global_step >= 8
        return control


def stops() -> Trainer:
    return trainer(given={"callbacks": [StopsAt8()]})


def no_data() -> Trainer:
    return trainer(given={"train_dataset": None})


def stream() -> Trainer:
    return trainer(given={"train_dataset": Stream()}, max_steps=5000)


def returns_model() -> GPT2LMHeadModel:
    return model()


def deepspeed() -> Trainer:
    return trainer(deepspeed={"zero_optimization": {"stage": 2}})


def fsdp() -> Trainer:
    return trainer(fsdp=True)


def raises() -> Trainer:
    raise FileNotFoundError("corpus.jsonl")


class EvalMode(Trainer):
    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        model.eval()
        return super().compute_loss(model, inputs, *args, **kwargs)


def eval_mode() -> Trainer:
    return trainer(EvalMode)


class Experts(GPT2LMHeadModel):
    """Returns an auxiliary loss next to its loss, as a mixture of experts does."""

    def forward(self, input_ids: Any = None, labels: Any = None, **kwargs: Any) -> Any:
        """Add a part of the auxiliary loss to the loss."""
        output = super().forward(input_ids=input_ids, labels=labels, **kwargs)
        if output.loss is not None:
            output["aux_loss"] = output.logits.float().square().mean()
            output["loss"] = output.loss + 0.01 * output["aux_loss"]
        return output


def experts() -> Trainer:
    return trainer(given={"model": Experts(model().config)})


class OwnLoop(Trainer):
    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        self.create_optimizer()
        for inputs in self.get_train_dataloader():
            self.model(**inputs).loss.backward()
            self.optimizer.step()
            break


def own_loop() -> Trainer:
    return trainer(OwnLoop)


def frozen() -> Trainer:
    made = model()
    made.requires_grad_(False)
    return trainer(given={"model": made, "optimizers": (torch.optim.AdamW(made.parameters(), lr=3e-3), None)})


class FreezesAt10(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 10:
            model.transformer.requires_grad_(False)
            model.transformer.ln_f.requires_grad_(True)


def freezes() -> Trainer:
    return trainer(given={"callbacks": [FreezesAt10()]}, gradient_accumulation_steps=1)


class WritesNotes(TrainerCallback):
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (Path(args.output_dir) / "notes.txt").write_text("began")


def script() -> Trainer:
    """Return a trainer whose settings a script parses, with bf16 and a callback that writes files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--output-dir", default="trained_by_script")
    parsed = parser.parse_args()
    return trainer(
        given={"callbacks": [WritesNotes()]},
        learning_rate=parsed.learning_rate,
        output_dir=parsed.output_dir,
        bf16=True,
    )


def script_with_required_option() -> Trainer:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.parse_args()
    return trainer()


def trained() -> Trainer:
    made = trainer(max_steps=1, save_strategy="no", disable_tqdm=True)
    made.train()
    return made

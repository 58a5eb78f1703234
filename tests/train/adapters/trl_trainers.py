"""Trainers of TRL for the tests: supervised fine-tuning and preference optimization of a tiny GPT-2."""

from __future__ import annotations

import pydoc_data.topics
from typing import Any

from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

LENGTH = 24
"""Bytes of a text."""
TEXT = "".join(pydoc_data.topics.topics.values()).encode("ascii", "ignore").decode()
TRAINING: dict[str, Any] = {
    "output_dir": "trained",
    "per_device_train_batch_size": 8,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 5,
    "max_steps": 2000,
    "report_to": "none",
    "gradient_checkpointing": False,
    "bf16": False,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*letters, "<end>", "<pad>"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<pad>")


def model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=258, n_positions=64, n_embd=32, n_layer=2, n_head=2))


def texts(count: int) -> list[str]:
    return [TEXT[at * LENGTH : (at + 1) * LENGTH] for at in range(count)]


def sft(**changes: Any) -> SFTTrainer:
    args = SFTConfig(**{**TRAINING, "max_length": 32, **changes})
    data = Dataset.from_dict({"text": texts(600)})
    return SFTTrainer(model=model(), args=args, train_dataset=data, processing_class=tokenizer())


def dpo(**changes: Any) -> DPOTrainer:
    args = DPOConfig(**{**TRAINING, "max_length": 48, **changes})
    parts = texts(912)
    data = Dataset.from_dict(
        {"prompt": parts[:304], "chosen": parts[304:608], "rejected": [p[::-1] for p in parts[608:]]}
    )
    return DPOTrainer(model=model(), ref_model=model(), args=args, train_dataset=data, processing_class=tokenizer())

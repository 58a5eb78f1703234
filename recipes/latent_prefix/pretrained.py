"""The language model, trained once on real text and kept in a folder; never downloaded."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from random import Random

import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F

from recipes.latent_prefix import facts as facts_module
from recipes.latent_prefix import language_model, passages, vocabulary
from recipes.latent_prefix.facts import QUESTIONS, SENTENCES, Facts, load_facts
from recipes.latent_prefix.language_model import LanguageModel
from recipes.latent_prefix.passages import Passages, padded
from recipes.latent_prefix.vocabulary import PADDING, Vocabulary, build_vocabulary

FOLDER_VARIABLE = "LATENT_PREFIX_CACHE"
"""Environment variable that names another folder for the artifact."""
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that the artifact depends on beside its data and this code."""

    width: int = 64
    depth: int = 2
    heads: int = 4
    steps: int
    batch_size: int = 16
    help_texts: int = 2
    """Of a batch, windows of Python's help topics; the rest are passages with questions."""
    questions: int = 3
    """A passage."""
    learning_rate: float = 4.0e-3
    warmup_steps: int = 100
    decay_share: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls to 0."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """The frozen language model and what it was trained on."""

    model: LanguageModel
    passages: Passages


def load_pretrained(config: Config, folder: Path | None = None) -> Pretrained:
    """From the folder, or trained first (about a minute on one core); prints what it does.

    Of processes that need it at once, one trains and the others wait. What is damaged is trained again.
    """
    folder = folder or Path(os.environ.get(FOLDER_VARIABLE) or HERE / ".cache")
    drawn = _passages()
    model = _new(config, drawn.vocabulary)
    path = folder / f"language-model-{fingerprint(config, drawn)}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        tensors = _read(path)
        if tensors is None:
            train(model, drawn, config)
            tensors = _write(path, model)
    model.load_state_dict(load(tensors))
    return Pretrained(model=model.eval().requires_grad_(False), passages=drawn)


def passages_of(facts: Facts) -> Passages:
    """With the vocabulary: all words of answers and templates, common ones of the help topics, pieces of the rest."""
    templates = [text.replace("{}", " ") for text in (*SENTENCES.values(), *QUESTIONS.values())]
    countries = [name for fact in facts.train for name in (fact.country, *([fact.value] * (fact.relation != "city")))]
    cities = [fact.subject for fact in facts.train if fact.relation == "city"]
    return Passages(facts, build_vocabulary({*templates, *countries}, help_text(), cities, word_uses=40, piece_uses=8))


@cache  # seconds each
def _passages() -> Passages:
    return passages_of(load_facts())


@cache
def help_text() -> str:
    """Of the help topics that Python itself ships."""
    return "\n".join(topics[name] for name in sorted(topics))


def fingerprint(config: Config, drawn: Passages) -> str:
    """Names an artifact by its settings, data, code and libraries: any other has another name."""
    code = [Path(str(module.__file__)).read_text() for module in (facts_module, language_model, passages, vocabulary)]
    facts = drawn.facts
    libraries = [importlib.metadata.version(name) for name in ("torch", "safetensors")]
    parts = [asdict(config), facts.train, facts.held_out, drawn.vocabulary.tokens, help_text(), libraries]
    text = json.dumps([parts, code, Path(__file__).read_text()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train(model: nn.Module, drawn: Passages, config: Config) -> None:
    """Next-token cross-entropy over whole documents. The caller's random numbers are left as they were."""
    print(f"latent_prefix: training its language model, {config.steps} steps, once", flush=True)
    began = time.perf_counter()
    random = Random(config.seed)
    text = drawn.vocabulary.encode(help_text())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(config.steps):
        decay = (config.steps - step) / (config.decay_share * config.steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, step / config.warmup_steps, decay)
        rows = [drawn.document(random, config.questions) for _ in range(config.batch_size - config.help_texts)]
        longest = max(map(len, rows))
        starts = [random.randrange(len(text) - longest) for _ in range(config.help_texts)]
        batch = padded([*rows, *(text[start : start + longest] for start in starts)])
        logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=PADDING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch types it so
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"  step {step + 1}: loss {loss.item():.3f}, {time.perf_counter() - began:.0f} s", flush=True)


def _new(config: Config, vocabulary: Vocabulary) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):  # a smoke must not depend on whether the artifact was there
        torch.manual_seed(config.seed)
        return LanguageModel(len(vocabulary), width=config.width, depth=config.depth, heads=config.heads)


def _read(path: Path) -> bytes | None:
    """The artifact if it is what was written; says so where it is not."""
    try:
        tensors, line = path.read_bytes(), _checksum_path(path).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    expected = line.partition(" ")[0]
    found = hashlib.sha256(tensors).hexdigest()
    if found == expected:
        return tensors
    print(f"latent_prefix: {path} has SHA-256 {found}, not {expected!r}: it is made again", flush=True)
    return None


def _write(path: Path, model: nn.Module) -> bytes:
    """The artifact, then its checksum; each beside, then renamed."""
    tensors = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    line = f"{hashlib.sha256(tensors).hexdigest()}  {path.name}\n"
    for target, data in ((path, tensors), (_checksum_path(path), line.encode())):
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_bytes(data)
        os.replace(beside, target)
    return tensors


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Until no other process holds the lock; a process that dies lets go of it."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

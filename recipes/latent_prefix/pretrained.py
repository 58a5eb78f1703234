"""The language model. It is trained once on real text and cached in a folder; nothing is downloaded."""

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
"""Environment variable with the cache folder. Default: `.cache` in the folder of this file."""
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the language model and its training."""

    width: int = 64
    depth: int = 2
    heads: int = 4
    steps: int
    batch_size: int = 16
    help_texts: int = 2
    """Rows of a batch that are windows of Python's help topics. All others are passages with questions."""
    questions: int = 3
    """Questions about each passage."""
    learning_rate: float = 4.0e-3
    warmup_steps: int = 100
    decay_share: float = 0.3
    """Share of the steps, at the end, in which the learning rate decays to 0."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """The frozen language model and the passages it was trained on."""

    model: LanguageModel
    passages: Passages


def load_pretrained(config: Config, folder: Path | None = None) -> Pretrained:
    """Load the language model from the cache, or train it first (about a minute on one core).

    If several processes need it at once, one trains and the others wait. A damaged file is replaced by training again.
    """
    folder = folder or Path(os.environ.get(FOLDER_VARIABLE) or HERE / ".cache")
    data = _passages()
    model = _new(config, data.vocabulary)
    path = folder / f"language-model-{fingerprint(config, data)}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        tensors = _read(path)
        if tensors is None:
            train(model, data, config)
            tensors = _write(path, model)
    model.load_state_dict(load(tensors))
    return Pretrained(model=model.eval().requires_grad_(False), passages=data)


def passages_of(facts: Facts) -> Passages:
    """Return passages with a vocabulary.

    It has all words of answers and templates, common words of the help topics, and pieces of all other words.
    """
    templates = [text.replace("{}", " ") for text in (*SENTENCES.values(), *QUESTIONS.values())]
    countries = [name for fact in facts.train for name in (fact.country, *([fact.value] * (fact.relation != "city")))]
    cities = [fact.subject for fact in facts.train if fact.relation == "city"]
    return Passages(facts, build_vocabulary({*templates, *countries}, help_text(), cities, word_uses=40, piece_uses=8))


@cache  # takes seconds
def _passages() -> Passages:
    return passages_of(load_facts())


@cache
def help_text() -> str:
    """Return the text of Python's own help topics."""
    return "\n".join(topics[name] for name in sorted(topics))


def fingerprint(config: Config, data: Passages) -> str:
    """Return a hash of the settings, data, code and libraries that the weights depend on."""
    code = [Path(str(module.__file__)).read_text() for module in (facts_module, language_model, passages, vocabulary)]
    facts = data.facts
    libraries = [importlib.metadata.version(name) for name in ("torch", "safetensors")]
    parts = [asdict(config), facts.train, facts.held_out, data.vocabulary.tokens, help_text(), libraries]
    text = json.dumps([parts, code, Path(__file__).read_text()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train(model: nn.Module, data: Passages, config: Config) -> None:
    """Train with next-token cross-entropy on whole documents. The global random state does not change."""
    print(f"latent_prefix: training the language model once, {config.steps} steps", flush=True)
    began = time.perf_counter()
    random = Random(config.seed)
    text = data.vocabulary.encode(help_text())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(config.steps):
        decay = (config.steps - step) / (config.decay_share * config.steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, step / config.warmup_steps, decay)
        rows = [data.document(random, config.questions) for _ in range(config.batch_size - config.help_texts)]
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
    with torch.random.fork_rng(devices=[]):  # a smoke run must not depend on whether the file was cached
        torch.manual_seed(config.seed)
        return LanguageModel(len(vocabulary), width=config.width, depth=config.depth, heads=config.heads)


def _read(path: Path) -> bytes | None:
    """Return the cached weights, or None if they are missing or do not match their checksum."""
    try:
        tensors, line = path.read_bytes(), _checksum_path(path).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    expected = line.partition(" ")[0]
    found = hashlib.sha256(tensors).hexdigest()
    if found == expected:
        return tensors
    print(f"latent_prefix: {path} has SHA-256 {found}, expected {expected!r}: training again", flush=True)
    return None


def _write(path: Path, model: nn.Module) -> bytes:
    """Write the weights and then their checksum, each to a temporary file that is renamed."""
    tensors = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    line = f"{hashlib.sha256(tensors).hexdigest()}  {path.name}\n"
    for target, data in ((path, tensors), (_checksum_path(path), line.encode())):
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(data)
        os.replace(temporary, target)
    return tensors


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file. The system releases it if the process dies."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

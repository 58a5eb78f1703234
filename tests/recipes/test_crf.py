"""The CRF, compared with an enumeration of all paths, and with matrix products in float64 for long sequences."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recipes.address_tagger.crf import Crf
from recipes.address_tagger.labels import LABELS, may_follow, may_start

SMALL = ("O", "B-a", "I-a", "B-b", "I-b")


def random_crf(labels: tuple[str, ...], seed: int, scale: float = 2.0) -> tuple[Crf, torch.Generator]:
    """Return a CRF with random scores, also for forbidden transitions, which the mask must hide."""
    generator = torch.Generator().manual_seed(seed)
    crf = Crf(labels)
    for parameter in crf.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return crf, generator


def valid(path: tuple[int, ...], labels: tuple[str, ...]) -> bool:
    """Tell whether BIO allows the path."""
    names = [labels[label] for label in path]
    return may_start(names[0]) and all(itertools.starmap(may_follow, itertools.pairwise(names)))


@cache
def valid_paths(labels: tuple[str, ...], length: int) -> Tensor:
    """Return all valid paths [P, T]."""
    return torch.tensor([p for p in itertools.product(range(len(labels)), repeat=length) if valid(p, labels)])


def enumerate_paths(crf: Crf, emissions_TK: Tensor, labels: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return all valid paths [P, T] and their scores [P] in float64."""
    length = len(emissions_TK)
    paths = valid_paths(labels, length)
    scores = crf.start_K.double()[paths[:, 0]] + crf.end_K.double()[paths[:, -1]]
    for step in range(length):
        scores = scores + emissions_TK.double()[step, paths[:, step]]
        if step:
            scores = scores + crf.transitions_KK.double()[paths[:, step - 1], paths[:, step]]
    return paths, scores


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from([2, 3, 5]))
def test_likelihood_and_gradient_equal_an_enumeration_of_all_paths(seed: int, lengths: list[int], size: int) -> None:
    """In a padded batch; padding has no influence and no gradient."""
    labels = SMALL[:size]
    crf, generator = random_crf(labels, seed)
    emissions = torch.randn(len(lengths), max(lengths), size, generator=generator).mul_(3).requires_grad_()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    gold = torch.zeros(mask.shape, dtype=torch.long)
    expected = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(lengths):
        paths, scores = enumerate_paths(crf, emissions[row, :length], labels)
        chosen = int(torch.randint(len(scores), (), generator=generator))
        gold[row, :length] = paths[chosen]
        expected = expected + (row + 1) * (torch.logsumexp(scores, 0) - scores[chosen])
    gold[~mask] = size - 1
    of = [emissions, *crf.parameters()]
    wanted = torch.autograd.grad(expected, of, materialize_grads=True)  # one token makes no transition
    found = (torch.arange(1, len(lengths) + 1) * crf.nll(emissions, gold, mask)).sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(torch.autograd.grad(found, of), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.autograd.grad(crf.nll(emissions, gold, mask).sum(), emissions)[0][~mask].any()


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from([2, 3, 5]))
def test_decoding_finds_the_best_of_all_paths(seed: int, lengths: list[int], size: int) -> None:
    """In a padded batch; padding gets label 0."""
    labels = SMALL[:size]
    crf, generator = random_crf(labels, seed)
    emissions = 3 * torch.randn(len(lengths), max(lengths), size, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    found = crf.decode(emissions, mask)
    for row, length in enumerate(lengths):
        paths, scores = enumerate_paths(crf, emissions[row, :length], labels)
        (chosen,) = (paths == found[row, :length]).all(1).nonzero()
        torch.testing.assert_close(scores[chosen], scores.max().view(1), rtol=0, atol=1e-4)
        assert not found[row, length:].any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_log_partition_of_long_sequences_equals_a_matrix_product(seed: int, length: int) -> None:
    """start' E1 (M E2) ... end, with exponentials in float64."""
    crf, generator = random_crf(LABELS, seed, scale=1.0)
    emissions = 2 * torch.randn(1, length, len(LABELS), generator=generator)
    mask = torch.ones(1, length, dtype=torch.bool)
    path = crf.decode(emissions, mask)
    moves = torch.tensor([[float(may_follow(before, after)) for after in LABELS] for before in LABELS]).double()
    moves = moves * crf.transitions_KK.double().exp()
    weights = torch.tensor([float(may_start(label)) for label in LABELS]) * crf.start_K.double().exp()
    for step in range(length):
        weights = (weights @ moves if step else weights) * emissions[0, step].double().exp()
    log_partition = (weights @ crf.end_K.double().exp()).log().item()
    score = crf.start_K[path[0, 0]] + crf.end_K[path[0, -1]] + emissions[0].gather(1, path[0][:, None]).sum()
    score = score + crf.transitions_KK[path[0, :-1], path[0, 1:]].sum()
    assert crf.nll(emissions, path, mask).item() == pytest.approx(log_partition - score.item(), abs=1e-3)


@pytest.mark.parametrize("broken", [0.0, 1e4, 1e38, math.inf, -math.inf, math.nan])
@given(seed=st.integers(0, 2**32 - 1))
def test_decoded_labels_are_valid_for_all_scores(seed: int, broken: float) -> None:
    crf, generator = random_crf(LABELS, seed)
    emissions = torch.randn(4, 9, len(LABELS), generator=generator)
    for scores in (emissions, crf.transitions_KK.data, crf.start_K.data, crf.end_K.data):
        scores[torch.rand(scores.shape, generator=generator) < 0.3] = broken
    for path in crf.decode(emissions, torch.ones(4, 9, dtype=torch.bool)).tolist():
        assert valid(tuple(path), LABELS)


def test_forbidden_transitions_have_no_gradient() -> None:
    crf, generator = random_crf(SMALL, seed=0)
    emissions = torch.randn(64, 6, len(SMALL), generator=generator)
    mask = torch.ones(64, 6, dtype=torch.bool)
    crf.nll(emissions, crf.decode(torch.randn(emissions.shape, generator=generator), mask), mask).sum().backward()
    for parameter, allowed in ((crf.transitions_KK, crf.allowed_KK), (crf.start_K, crf.allowed_start_K)):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad != 0, allowed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_likelihood_is_float32_under_autocast(dtype: torch.dtype) -> None:
    crf, generator = random_crf(LABELS, seed=1)
    emissions = torch.randn(3, 12, len(LABELS), generator=generator).to(dtype)
    mask = torch.ones(3, 12, dtype=torch.bool)
    path = crf.decode(emissions, mask)
    with torch.autocast("cpu", dtype=dtype):
        found = crf.nll(emissions, path, mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, crf.nll(emissions.float(), path, mask))

"""Families of the held-out split: do not look at a judge's verdicts on them while its constants are chosen."""

from __future__ import annotations

import copy
import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from families.layers import Block, Lamb, Muon, Transformer, mlp
from families.training import Batch, Family, Problem, adam, adamw, momentum, sgd


def diffusion_denoiser() -> Problem:
    """Predict the noise in points of a two-dimensional spiral at a random noise level."""
    net = mlp(4, 48, 48, 2, activation=nn.SiLU)

    def sample(count: int, draw: Generator) -> Batch:
        angle = 3 * math.pi * torch.rand(count, 1, generator=draw)
        clean = torch.cat([angle * angle.cos(), angle * angle.sin()], -1) / 5
        time = torch.rand(count, 1, generator=draw)
        noise = torch.randn(count, 2, generator=draw)
        keep = torch.cos(0.5 * math.pi * time)
        return torch.cat([keep * clean + (1 - keep**2).sqrt() * noise, time, time**2], -1), noise

    return Problem(model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]))


def contrastive_views() -> Problem:
    """Match two noisy views of a latent vector with InfoNCE among 16 pairs."""
    encoder = mlp(24, 32, 8, activation=nn.ReLU)
    first, second = torch.randn(6, 24), torch.randn(6, 24)

    def sample(count: int, draw: Generator) -> Batch:
        latent = torch.randn(count, 6, generator=draw)
        noise = torch.randn(2, count, 24, generator=draw)
        return torch.tanh(latent @ first) + 0.5 * noise[0], torch.tanh(latent @ second) + 0.5 * noise[1]

    def loss(batch: Batch) -> Tensor:
        left, right = (F.normalize(encoder(x), dim=-1).unflatten(0, (-1, 16)) for x in batch)
        logits = (left @ right.transpose(1, 2) / 0.1).flatten(0, 1)
        return F.cross_entropy(logits, torch.arange(16).repeat(len(logits) // 16))

    return Problem(model=encoder, sample=sample, loss=loss)


def preference_pairs() -> Problem:
    """Fine-tune a small language model on preferred and rejected sequences with the DPO loss."""
    vocabulary, time = 12, 7
    policy = Transformer(vocabulary, time, vocabulary, width=16)
    reference = copy.deepcopy(policy).requires_grad_(False)
    worth = torch.randn(vocabulary)

    def sample(count: int, draw: Generator) -> Batch:
        pair = torch.randint(vocabulary, (count, 2, time), generator=draw)
        value = worth[pair].mean(-1) + 0.3 * torch.randn(count, 2, generator=draw)
        order = value.argsort(-1, descending=True)
        ordered = pair.gather(1, order[..., None].expand(-1, -1, time))
        return ordered[:, 0], ordered[:, 1]

    def log_probability(net: nn.Module, ids: Tensor) -> Tensor:
        scores: Tensor = net(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])
        return scores.sum((1, 2))

    def loss(batch: Batch) -> Tensor:
        both = torch.cat(batch)
        chosen, rejected = (log_probability(policy, both) - log_probability(reference, both)).chunk(2)
        return -F.logsigmoid(0.5 * (chosen - rejected)).mean()

    return Problem(model=policy, sample=sample, loss=loss, optimizer=adamw)


class PatchClassifier(nn.Module):
    """A vision transformer of nine 3 x 3 patches: (batch, 9, 9) to (batch, classes)."""

    def __init__(self, classes: int, width: int = 24):
        super().__init__()
        self.patch, self.place = nn.Linear(9, width), nn.Parameter(0.1 * torch.randn(9, width))
        self.blocks = nn.Sequential(Block(width, causal=False), Block(width, causal=False))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, patches: Tensor) -> Tensor:
        """Return the class logits."""
        out: Tensor = self.head(self.blocks(self.patch(patches) + self.place).mean(1))
        return out


def patch_vision_transformer() -> Problem:
    """Tell the orientation and frequency of gratings in 9 x 9 images."""
    net = PatchClassifier(8)
    axis = torch.linspace(-1, 1, 9)

    def sample(count: int, draw: Generator) -> Batch:
        kind = torch.randint(8, (count,), generator=draw)
        angle, pitch = (kind % 4) * math.pi / 4, 3 + 3 * (kind // 4)
        along = angle.cos()[:, None, None] * axis[:, None] + angle.sin()[:, None, None] * axis
        phase = 6.3 * torch.rand(count, 1, 1, generator=draw)
        image = torch.sin(pitch[:, None, None] * along + phase) + 0.6 * torch.randn(count, 9, 9, generator=draw)
        return image.unflatten(1, (3, 3)).unflatten(3, (3, 3)).transpose(2, 3).flatten(3).flatten(1, 2), kind

    return Problem(model=net, sample=sample, loss=lambda b: F.cross_entropy(net(b[0]), b[1]), optimizer=adamw)


class LowRank(nn.Module):
    """A frozen linear layer with a trainable update of rank 2."""

    def __init__(self, frozen: nn.Linear):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, frozen.in_features) / math.sqrt(frozen.in_features))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the frozen layer and the update."""
        out: Tensor = self.frozen(x) + 4 * (x @ self.down.T) @ self.up.T
        return out


def low_rank_fine_tune() -> Problem:
    """Pretrain a classifier for 300 steps, then adapt it to changed labels with low-rank updates only."""
    teacher = mlp(10, 24, 5)
    teacher[0].weight.data.mul_(3)
    changed = copy.deepcopy(teacher)
    changed[2].weight.data.add_(0.3 * torch.randn(5, 24))
    base = mlp(10, 48, 48, 5, activation=nn.ReLU)

    def drawn(count: int, draw: Generator | None, labeller: nn.Module) -> Batch:
        x = torch.randn(count, 10, generator=draw)
        with torch.no_grad():
            return x, (3 * labeller(x) + torch.randn(count, 5, generator=draw)).argmax(-1)

    optimizer = torch.optim.Adam(base.parameters(), 3e-3)
    for _ in range(300):
        x, y = drawn(64, None, teacher)
        optimizer.zero_grad()
        F.cross_entropy(base(x), y).backward()
        optimizer.step()
    for i in (0, 2, 4):
        base[i] = LowRank(base[i])

    return Problem(
        model=base,
        sample=lambda count, draw: drawn(count, draw, changed),
        loss=lambda b: F.cross_entropy(base(b[0]), b[1]),
    )


def muon_regression() -> Problem:
    """Fit a random teacher with Muon."""
    teacher, student = mlp(8, 32, 4), mlp(8, 32, 32, 4)
    teacher[0].weight.data.mul_(4)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 8, generator=draw)
        with torch.no_grad():
            return x, 3 * teacher(x) + 0.2 * torch.randn(count, 4, generator=draw)

    return Problem(model=student, sample=sample, loss=lambda b: F.mse_loss(student(b[0]), b[1]), optimizer=Muon)


class Sine(nn.Module):
    """Multiply by 10 and take the sine, as SIREN does."""

    def forward(self, x: Tensor) -> Tensor:
        """Return sin(10 x)."""
        return torch.sin(10 * x)


def implicit_image() -> Problem:
    """Fit one image as a function of its coordinates with a sine network."""
    net = mlp(2, 32, 32, 1, activation=Sine)
    for i in (2, 4):
        nn.init.uniform_(net[i].weight, -math.sqrt(6 / 32) / 10, math.sqrt(6 / 32) / 10)
    axis = torch.linspace(-1, 1, 32)
    where = torch.cartesian_prod(axis, axis)
    image = torch.sign(torch.sin(7 * where[:, :1]) * torch.cos(5 * where[:, 1:])) * 0.5 + where[:, :1] * where[:, 1:]

    def sample(count: int, draw: Generator) -> Batch:
        index = torch.randint(len(where), (count,), generator=draw)
        return where[index], image[index]

    return Problem(model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]))


def modular_addition() -> Problem:
    """Add two numbers modulo 23 from 60 % of the table, with strong weight decay."""
    numbers = 23
    pairs = torch.cartesian_prod(torch.arange(numbers), torch.arange(numbers))
    pairs = pairs[torch.randperm(len(pairs))[: int(0.6 * len(pairs))]]
    table, top = nn.Embedding(numbers, 24), mlp(48, 64, numbers, activation=nn.ReLU)

    def sample(count: int, draw: Generator) -> Batch:
        index = torch.randint(len(pairs), (count,), generator=draw)
        return pairs[index], pairs[index].sum(-1) % numbers

    return Problem(
        model=nn.ModuleList([table, top]),
        sample=sample,
        loss=lambda b: F.cross_entropy(top(table(b[0]).flatten(1)), b[1]),
        optimizer=lambda p, lr: torch.optim.AdamW(p, lr, betas=(0.9, 0.98), weight_decay=1.0, fused=True),
    )


def graph_convolution() -> Problem:
    """Classify the nodes of a random graph of four communities from noisy features."""
    nodes, classes = 96, 4
    community = torch.arange(nodes) % classes
    same = community[:, None] == community
    edges = (torch.rand(nodes, nodes) < torch.where(same, 0.2, 0.05)).float().triu(1)
    adjacency = edges + edges.T + torch.eye(nodes)
    adjacency = adjacency / adjacency.sum(-1, keepdim=True)
    centres = torch.randn(classes, 12)
    low, high = nn.Linear(12, 24), nn.Linear(24, classes)

    def sample(count: int, draw: Generator) -> Batch:
        graphs = -(-count // nodes)
        noise = torch.randn(graphs, nodes, 12, generator=draw)
        return (0.6 * centres[community] + 2 * noise).flatten(0, 1), community.repeat(graphs)

    def loss(batch: Batch) -> Tensor:
        hidden = F.relu(adjacency @ low(batch[0].unflatten(0, (-1, nodes))))
        return F.cross_entropy((adjacency @ high(hidden)).flatten(0, 1), batch[1])

    return Problem(model=nn.ModuleList([low, high]), sample=sample, loss=loss)


def adding_problem_rnn() -> Problem:
    """Add two marked numbers of a sequence of 20 with a tanh RNN: gradients explode."""
    core, head = nn.RNN(2, 20, batch_first=True), nn.Linear(20, 1)
    nn.init.orthogonal_(core.weight_hh_l0, 1.1)

    def sample(count: int, draw: Generator) -> Batch:
        numbers = torch.rand(count, 20, generator=draw)
        marks = torch.rand(count, 20, generator=draw).argsort(-1).lt(2).float()
        return torch.stack([numbers, marks], -1), (numbers * marks).sum(-1, keepdim=True)

    return Problem(
        model=nn.ModuleList([core, head]),
        sample=sample,
        loss=lambda b: F.mse_loss(head(core(b[0])[0][:, -1]), b[1]),
        optimizer=momentum,
    )


class Quantised(nn.Linear):
    """A linear layer whose weight has 15 levels in the forward pass; the gradient passes straight through."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with its quantised weight."""
        scale = self.weight.detach().abs().max() / 7 + 1e-12
        rounded = (self.weight / scale).round() * scale
        return F.linear(x, self.weight + (rounded - self.weight).detach(), self.bias)


def quantised_bf16() -> Problem:
    """Train with four-bit weights and activations in bfloat16."""
    net = nn.Sequential(Quantised(10, 32), nn.ReLU(), Quantised(32, 32), nn.ReLU(), Quantised(32, 6))
    direction = torch.randn(10, 6)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 10, generator=draw)
        noise = 1.5 * torch.randn(count, 6, generator=draw)
        return x.bfloat16(), (torch.sin(x) @ direction + noise).argmax(-1)

    return Problem(model=net.bfloat16(), sample=sample, loss=lambda b: F.cross_entropy(net(b[0]).float(), b[1]))


def exact_solution() -> Problem:
    """Solve a consistent linear system in double precision with SGD: the loss falls to rounding errors."""
    net = nn.Linear(12, 3).double()
    truth = torch.randn(12, 3, dtype=torch.float64)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 12, generator=draw, dtype=torch.float64)
        return x, x @ truth

    return Problem(model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]), optimizer=sgd)


def sorted_classes() -> Problem:
    """Classify five classes read in blocks of one class after the other, never shuffled; some classes overlap."""
    net = mlp(6, 24, 5, activation=nn.ReLU)
    per_class = 5 * 48
    centres = torch.randn(5, 6) * torch.tensor([3.0, 2.0, 1.5, 1.0, 0.5])[:, None]
    label = torch.arange(5).repeat_interleave(per_class)
    x = centres[label] + torch.randn(len(label), 6)
    order = torch.arange(len(label)).view(5, 5, 48).transpose(0, 1).flatten()

    def sample(count: int, draw: Generator) -> Batch:
        index = torch.randint(len(label), (count,), generator=draw)
        return x[index], label[index]

    def in_order(step: int) -> Batch:
        at = step * 8 % len(order)
        index = order[at : at + 8]
        return x[index], label[index]

    return Problem(
        model=net,
        sample=sample,
        loss=lambda b: F.cross_entropy(net(b[0]), b[1]),
        optimizer=sgd,
        in_order=in_order,
        pass_steps=30,
    )


def sorted_by_difficulty() -> Problem:
    """Fit values whose noise grows from the start to the end of every unshuffled pass: a sawtooth of content."""
    net = mlp(4, 24, 1, activation=nn.ReLU)
    count_all = 16 * 180
    x = torch.randn(count_all, 4)
    noise = torch.linspace(0.1, 2.0, count_all)[:, None]
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] + noise * torch.randn(count_all, 1)

    def sample(count: int, draw: Generator) -> Batch:
        index = torch.randint(count_all, (count,), generator=draw)
        return x[index], y[index]

    def in_order(step: int) -> Batch:
        at = step * 16 % count_all
        return x[at : at + 16], y[at : at + 16]

    return Problem(
        model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]), in_order=in_order, pass_steps=180
    )


def large_batch_lamb() -> Problem:
    """Predict counts with the Poisson likelihood, in batches of 256 with LAMB."""
    net = mlp(6, 24, 1)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 6, generator=draw)
        mean = torch.exp(0.5 * torch.sin(2 * x[:, :1]) + 0.4 * x[:, 1:2] + 0.5)
        return x, torch.poisson(mean, generator=draw)

    return Problem(model=net, sample=sample, loss=lambda b: F.poisson_nll_loss(net(b[0]), b[1]), optimizer=Lamb)


def word_vectors() -> Problem:
    """Learn word vectors by negative sampling from contiguous text of changing subjects."""
    words, subjects = 120, 8
    own = torch.rand(subjects, words) ** 6
    spread = torch.linspace(0.3, 2.0, subjects)[:, None]
    chance = (own + 1e-4) ** spread
    left, right = nn.Embedding(words, 8), nn.Embedding(words, 8)
    for table in (left, right):
        nn.init.normal_(table.weight, 0, 0.3)
    drawn = Generator().manual_seed(int(torch.randint(10**6, ())))
    order = torch.randint(subjects, (200,))

    def about(subject: Tensor, draw: Generator) -> Batch:
        near = torch.multinomial(chance[subject], 2, replacement=True, generator=draw)
        far = torch.randint(words, (len(subject), 4), generator=draw)
        return near[:, 0], torch.cat([near[:, 1:], far], 1)

    def sample(count: int, draw: Generator) -> Batch:
        return about(torch.randint(subjects, (count,), generator=draw), draw)

    def in_order(step: int) -> Batch:
        return about(order[step // 20].expand(32), drawn)

    def loss(batch: Batch) -> Tensor:
        scores = (right(batch[1]) @ left(batch[0])[..., None])[..., 0]
        return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(-1)).mean()

    return Problem(model=nn.ModuleList([left, right]), sample=sample, loss=loss, in_order=in_order)


class Coupling(nn.Module):
    """An affine coupling layer of two dimensions: returns the transformed points and the log determinant."""

    def __init__(self, first: int):
        super().__init__()
        self.first = first
        self.net = mlp(1, 24, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transform one dimension by a function of the other."""
        fixed, moved = x[:, self.first : self.first + 1], x[:, 1 - self.first : 2 - self.first]
        log_scale, shift = self.net(fixed).chunk(2, -1)
        moved = moved * torch.exp(log_scale) + shift
        parts = (fixed, moved) if self.first == 0 else (moved, fixed)
        return torch.cat(parts, -1), log_scale[:, 0]


def normalising_flow() -> Problem:
    """Fit a narrow two-dimensional density by maximum likelihood: the loss becomes negative."""
    layers = nn.ModuleList(Coupling(i % 2) for i in range(4))

    def sample(count: int, draw: Generator) -> Batch:
        z = torch.randn(count, 2, generator=draw)
        return (torch.stack([z[:, 0], 0.05 * z[:, 1] + torch.sin(2 * z[:, 0]) / 2], -1),)

    def loss(batch: Batch) -> Tensor:
        z, total = batch[0], torch.zeros(len(batch[0]))
        for layer in layers:
            z, log_scale = layer(z)
            total = total + log_scale
        return (0.5 * (z**2).sum(-1) + math.log(2 * math.pi) - total).mean()

    return Problem(model=layers, sample=sample, loss=loss)


def pairwise_ranking() -> Problem:
    """Rank items of a query by a margin loss from noisy comparisons, in batches of 4."""
    net = mlp(8, 16, 1, activation=nn.ReLU)
    direction = torch.randn(8) / math.sqrt(8)

    def sample(count: int, draw: Generator) -> Batch:
        pair = torch.randn(count, 2, 8, generator=draw)
        worth = torch.tanh(pair @ direction) + 0.5 * torch.randn(count, 2, generator=draw)
        return pair, torch.sign(worth[:, 0] - worth[:, 1])

    def loss(batch: Batch) -> Tensor:
        score = net(batch[0])[..., 0]
        return F.relu(1 - batch[1] * (score[:, 0] - score[:, 1])).mean()

    return Problem(model=net, sample=sample, loss=loss, optimizer=adam)


FAMILIES = (
    Family(name="diffusion_denoiser", split="held-out", build=diffusion_denoiser, rate=1e-3),
    Family(name="contrastive_views", split="held-out", build=contrastive_views, rate=2e-3),
    Family(
        name="preference_pairs",
        split="held-out",
        build=preference_pairs,
        rate=1e-3,
        steps=480,
        slice_size=256,
        from_scratch=False,
    ),
    Family(
        name="patch_vision_transformer",
        split="held-out",
        build=patch_vision_transformer,
        rate=1e-3,
        steps=480,
        slice_size=256,
        clip=1.0,
    ),
    Family(name="low_rank_fine_tune", split="held-out", build=low_rank_fine_tune, rate=5e-4, from_scratch=False),
    Family(name="muon_regression", split="held-out", build=muon_regression, rate=2e-3),
    Family(name="implicit_image", split="held-out", build=implicit_image, rate=5e-4, batch=64),
    Family(
        name="modular_addition",
        split="held-out",
        build=modular_addition,
        rate=2e-3,
        batch=64,
        steps=1200,
        slice_size=256,
    ),
    Family(name="graph_convolution", split="held-out", build=graph_convolution, rate=3e-3, slice_size=480, batch=96),
    Family(name="adding_problem_rnn", split="held-out", build=adding_problem_rnn, rate=0.003, steps=700, clip=1.0),
    Family(name="quantised_bf16", split="held-out", build=quantised_bf16, rate=2e-3),
    Family(
        name="exact_solution",
        split="held-out",
        build=exact_solution,
        rate=0.03,
        multiples=(0.3, 1, 3, 10, 25, 40, 60, 90),
    ),
    Family(name="sorted_classes", split="held-out", build=sorted_classes, rate=0.02, ordered=True),
    Family(name="sorted_by_difficulty", split="held-out", build=sorted_by_difficulty, rate=2e-3, ordered=True),
    Family(name="large_batch_lamb", split="held-out", build=large_batch_lamb, rate=3e-3, batch=256, slice_size=1024),
    Family(name="word_vectors", split="held-out", build=word_vectors, rate=3e-3, ordered=True, log_mean=2, steps=2000),
    Family(name="normalising_flow", split="held-out", build=normalising_flow, rate=2e-3, clip=1.0),
    Family(name="pairwise_ranking", split="held-out", build=pairwise_ranking, rate=2e-3, batch=4, slice_size=1024),
)

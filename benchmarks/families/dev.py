"""Families of the dev split: their curves may be used to choose the constants of a judge."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from families.layers import Lion, Transformer, mlp
from families.training import Batch, Family, Problem, adamw, momentum, sgd


def variational_autoencoder() -> Problem:
    """Encode 8 x 8 images of a blob into four Gaussian latents."""
    encoder, decoder = mlp(64, 32, 8), mlp(4, 32, 64)
    grid = torch.linspace(-1, 1, 8)

    def sample(count: int, draw: Generator) -> Batch:
        x, y, width = torch.rand(3, count, 1, 1, generator=draw)
        distance = (grid[None, :, None] - 2 * x + 1) ** 2 + (grid[None, None, :] - 2 * y + 1) ** 2
        image = torch.exp(-distance / (0.1 + 0.5 * width)).flatten(1)
        return torch.randn(count, 4, generator=draw), image + 0.05 * torch.randn(count, 64, generator=draw)

    def loss(batch: Batch) -> Tensor:
        noise, image = batch
        mean, log_var = encoder(image).chunk(2, -1)
        shown = decoder(mean + noise * torch.exp(0.5 * log_var))
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(-1).mean()
        return ((shown - image) ** 2).sum(-1).mean() / 0.1 + kl

    return Problem(model=nn.ModuleList([encoder, decoder]), sample=sample, loss=loss)


def sorted_recommender() -> Problem:
    """Factorise a matrix of ratings that is read user by user, never shuffled; some users rate more noisily."""
    users, items, rank = 200, 100, 4
    truth = torch.randn(users, rank) @ torch.randn(rank, items) / math.sqrt(rank)
    noise = torch.linspace(0.2, 2.5, users)[torch.argsort(torch.arange(users) % 50, stable=True)].roll(37)
    user = torch.arange(users).repeat_interleave(16)
    item = torch.randint(items, (len(user),))
    rating = truth[user, item] + noise[user] * torch.randn(len(user))
    factors = nn.ModuleList(
        [nn.Embedding(users, 8), nn.Embedding(items, 8), nn.Embedding(users, 1), nn.Embedding(items, 1)]
    )
    for table in factors:
        nn.init.normal_(table.weight, 0, 0.1)

    def sample(count: int, draw: Generator) -> Batch:
        index = torch.randint(len(user), (count,), generator=draw)
        return user[index], item[index], rating[index]

    def in_order(step: int) -> Batch:
        at = step * 16 % len(user)
        return user[at : at + 16], item[at : at + 16], rating[at : at + 16]

    def loss(batch: Batch) -> Tensor:
        u, i, r = batch
        left, right, left_bias, right_bias = factors
        shown = (left(u) * right(i)).sum(-1) + left_bias(u)[:, 0] + right_bias(i)[:, 0]
        return ((shown - r) ** 2).mean()

    return Problem(
        model=factors, sample=sample, loss=loss, optimizer=sgd, in_order=in_order, pass_steps=len(user) // 16
    )


def lstm_forecast() -> Problem:
    """Forecast the next value of a noisy sum of two sines with an LSTM."""
    core, head = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 1)

    def sample(count: int, draw: Generator) -> Batch:
        time = torch.arange(17.0)
        slow, fast, phase, lag = torch.rand(4, count, 1, generator=draw)
        wave = torch.sin((0.2 + 0.3 * slow) * time + 6 * phase) + 0.5 * torch.sin((0.8 + 0.5 * fast) * time + 6 * lag)
        wave = wave + 0.1 * torch.randn(count, 17, generator=draw)
        return wave[:, :-1, None], wave[:, 1:]

    def loss(batch: Batch) -> Tensor:
        return F.mse_loss(head(core(batch[0])[0])[..., 0], batch[1])

    return Problem(model=nn.ModuleList([core, head]), sample=sample, loss=loss, optimizer=momentum)


def poisson_pinn() -> Problem:
    """Solve u'' = f on [0, 1] in double precision on a fixed grid: the loss falls by many decades."""
    net = mlp(1, 20, 20, 1).double()
    grid = torch.linspace(0, 1, 32, dtype=torch.float64)[:, None]

    def sample(count: int, draw: Generator) -> Batch:
        return (torch.rand(count, 1, generator=draw, dtype=torch.float64),)

    def loss(batch: Batch) -> Tensor:
        with torch.enable_grad():
            x = batch[0].detach().requires_grad_()
            u = net(x)
            (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            (curve,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
            ends = net(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
        return ((curve + (math.pi**2) * torch.sin(math.pi * x)) ** 2).mean() / 100 + (ends**2).mean()

    return Problem(model=net, sample=sample, loss=loss, in_order=lambda step: (grid,))


def mixture_of_experts() -> Problem:
    """Fit a piecewise function with four experts, top-1 routing and a load-balancing term."""
    router, experts = nn.Linear(8, 4), nn.ModuleList(mlp(8, 16, 1, activation=nn.ReLU) for _ in range(4))
    weight = 2 * torch.randn(4, 8)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 8, generator=draw)
        part = (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()
        y = (x * weight[part]).sum(-1, keepdim=True) / 3
        return x, y + 0.2 * torch.randn(count, 1, generator=draw)

    def loss(batch: Batch) -> Tensor:
        x, y = batch
        gate = router(x).softmax(-1)
        top, chosen = gate.max(-1)
        out = torch.stack([expert(x) for expert in experts], 1)[torch.arange(len(x)), chosen]
        share = F.one_hot(chosen, 4).float().mean(0)
        return ((out * top[:, None] - y) ** 2).mean() + 0.05 * 4 * (share * gate.mean(0)).sum()

    return Problem(model=nn.ModuleList([router, experts]), sample=sample, loss=loss)


def lion_teacher() -> Problem:
    """Classify the outputs of a random teacher into six classes, with Lion."""
    teacher, student = mlp(12, 24, 6), mlp(12, 48, 6, activation=nn.GELU)
    for layer in (teacher[0], teacher[2]):
        layer.weight.data.mul_(3)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 12, generator=draw)
        with torch.no_grad():
            target = (teacher(x) + torch.randn(count, 6, generator=draw)).argmax(-1)
        return x, target

    return Problem(model=student, sample=sample, loss=lambda b: F.cross_entropy(student(b[0]), b[1]), optimizer=Lion)


def edge_of_stability() -> Problem:
    """Fit 64 fixed points by full-batch gradient descent: the loss oscillates with period two."""
    net = mlp(2, 32, 32, 1)
    x = torch.randn(64, 2)
    y = torch.sin(3 * x[:, :1]) * x[:, 1:]

    def sample(count: int, draw: Generator) -> Batch:
        index = torch.randint(64, (count,), generator=draw)
        return x[index], y[index]

    return Problem(
        model=net,
        sample=sample,
        loss=lambda b: F.mse_loss(net(b[0]), b[1]),
        optimizer=sgd,
        in_order=lambda step: (x, y),
    )


def heavy_tailed_regression() -> Problem:
    """Fit a function with noise from Student's t with 2.5 degrees of freedom, in small batches."""
    net = mlp(6, 24, 1)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 6, generator=draw)
        normal, chi = (
            torch.randn(count, 1, generator=draw),
            torch.randn(count, 5, generator=draw).square().mean(-1, keepdim=True),
        )
        return x, 2 * torch.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.5 * normal / chi.sqrt()

    return Problem(model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]), optimizer=momentum)


def grammar_stream() -> Problem:
    """Model contiguous text of a grammar whose topic lasts for hundreds of tokens; losses are logged as means."""
    vocabulary, topics, time = 48, 6, 12
    sharpness = torch.linspace(0.5, 3.0, topics)[:, None, None]
    table = (sharpness * torch.randn(topics, vocabulary, vocabulary)).softmax(-1)
    net = Transformer(vocabulary, time, vocabulary)

    def text(rows: int, length: int, draw: Generator | None, topic: Tensor) -> Tensor:
        ids = [torch.randint(vocabulary, (rows,), generator=draw)]
        for _ in range(length):
            ids.append(torch.multinomial(table[topic, ids[-1]], 1, generator=draw)[:, 0])
        return torch.stack(ids, 1)

    def sample(count: int, draw: Generator) -> Batch:
        ids = text(count, time, draw, torch.randint(topics, (count,), generator=draw))
        return ids[:, :-1], ids[:, 1:]

    lasting = 20
    order = torch.randint(topics, (4, 60))
    stream = torch.cat([text(4, lasting * time, None, order[:, i])[:, 1:] for i in range(60)], 1)

    def in_order(step: int) -> Batch:
        at = step * time % (stream.shape[1] - 1 - time)
        return stream[:, at : at + time], stream[:, at + 1 : at + time + 1]

    def loss(batch: Batch) -> Tensor:
        return F.cross_entropy(net(batch[0]).flatten(0, 1), batch[1].flatten())

    return Problem(model=net, sample=sample, loss=loss, optimizer=adamw, in_order=in_order)


def bandit_policy() -> Problem:
    """Learn a policy for a contextual bandit of five arms with REINFORCE; the logged loss is minus the mean reward."""
    net = mlp(4, 16, 5)
    best = torch.randn(5, 4)

    def sample(count: int, draw: Generator) -> Batch:
        context = torch.randn(count, 4, generator=draw)
        chance = torch.sigmoid(2 * context @ best.T)
        won = (torch.rand(count, 5, generator=draw) < chance).float()
        return context, torch.rand(count, 1, generator=draw), won

    def act(batch: Batch) -> tuple[Tensor, Tensor]:
        log_policy = net(batch[0]).log_softmax(-1)
        arm = (log_policy.exp().cumsum(-1) < batch[1]).sum(-1, keepdim=True).clamp(max=4)
        return log_policy.gather(-1, arm)[:, 0], batch[2].gather(-1, arm)[:, 0]

    def objective(batch: Batch) -> Tensor:
        log_chosen, reward = act(batch)
        return -((reward - 0.5) * log_chosen).mean()

    return Problem(
        model=net, sample=sample, loss=lambda b: -act(b)[1].mean() + 0 * net[0].bias.sum(), objective=objective
    )


def focal_imbalance() -> Problem:
    """Detect a rare class (5 %) with the focal loss."""
    net = mlp(8, 24, 1, activation=nn.ReLU)
    direction = torch.randn(8) / math.sqrt(8)

    def sample(count: int, draw: Generator) -> Batch:
        rare = (torch.rand(count, generator=draw) < 0.05).float()
        x = torch.randn(count, 8, generator=draw) + 2.5 * rare[:, None] * direction
        return x, rare

    def loss(batch: Batch) -> Tensor:
        raw = F.binary_cross_entropy_with_logits(net(batch[0])[:, 0], batch[1], reduction="none")
        return ((1 - torch.exp(-raw)) ** 2 * raw).mean()

    return Problem(model=net, sample=sample, loss=loss)


def harder_curriculum() -> Problem:
    """Fit a function on a range that widens in four stages: the data get harder."""
    net = mlp(2, 32, 32, 1, activation=nn.ReLU)
    drawn = Generator().manual_seed(int(torch.randint(10**6, ())))

    def stage(count: int, draw: Generator, reach: float) -> Batch:
        x = (2 * torch.rand(count, 2, generator=draw) - 1) * reach
        y = torch.sin(2 * x[:, :1]) + x[:, 1:] * x[:, :1] / 2
        return x, y + 0.05 * reach**2 * torch.randn(count, 1, generator=draw)

    def sample(count: int, draw: Generator) -> Batch:
        parts = [stage(-(-count // 4), draw, reach) for reach in (0.6, 1.2, 1.8, 2.4)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def in_order(step: int) -> Batch:
        hardest = (0.6, 1.2, 1.8, 2.4)[min(3, step // 250)]
        x, y = stage(12, drawn, hardest)
        rest = sample(4, drawn)
        return torch.cat([x, rest[0]]), torch.cat([y, rest[1]])

    return Problem(model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]), in_order=in_order)


class Reverser(nn.Module):
    """A GRU encoder and a teacher-forced GRU decoder with dot-product attention."""

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary + 1, width)
        self.encoder, self.decoder = nn.GRU(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(2 * width, vocabulary)

    def forward(self, source: Tensor, shifted: Tensor) -> Tensor:
        """Return logits at each target position."""
        memory, last = self.encoder(self.tokens(source))
        states, _ = self.decoder(self.tokens(shifted), last)
        context = (states @ memory.transpose(1, 2)).softmax(-1) @ memory
        out: Tensor = self.head(torch.cat([states, context], -1))
        return out


def reversing_seq2seq() -> Problem:
    """Reverse sequences of six tokens."""
    net = Reverser(12, 24)

    def sample(count: int, draw: Generator) -> Batch:
        source = torch.randint(12, (count, 6), generator=draw)
        return source, source.flip(1)

    def loss(batch: Batch) -> Tensor:
        shifted = F.pad(batch[1][:, :-1], (1, 0), value=12)
        return F.cross_entropy(net(batch[0], shifted).flatten(0, 1), batch[1].flatten())

    return Problem(model=net, sample=sample, loss=loss)


def distilled_student() -> Problem:
    """Distil a random teacher into a smaller student at temperature 2."""
    teacher, student = mlp(16, 64, 10, activation=nn.ReLU), mlp(16, 20, 10, activation=nn.ReLU)
    for layer in (teacher[0], teacher[2]):
        layer.weight.data.mul_(3)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 16, generator=draw)
        with torch.no_grad():
            return x, teacher(x).div(2).log_softmax(-1)

    def loss(batch: Batch) -> Tensor:
        own = student(batch[0]).div(2).log_softmax(-1)
        return 4 * F.kl_div(own, batch[1], reduction="batchmean", log_target=True)

    return Problem(model=student, sample=sample, loss=loss, optimizer=momentum)


def click_through() -> Problem:
    """Predict clicks from four categories: binary labels, so the batch losses are mostly noise."""
    sizes = (50, 30, 20, 10)
    tables = nn.ModuleList(nn.Embedding(size, 6) for size in sizes)
    top = mlp(24, 16, 1, activation=nn.ReLU)
    effects = [0.8 * torch.randn(size) for size in sizes]
    cross = torch.randn(20, 10)

    def sample(count: int, draw: Generator) -> Batch:
        ids = [torch.randint(size, (count,), generator=draw) for size in sizes]
        logit = torch.stack([e[i] for e, i in zip(effects, ids, strict=True)]).sum(0) + cross[ids[2], ids[3]] - 1
        return torch.stack(ids, 1), (torch.rand(count, generator=draw) < torch.sigmoid(logit)).float()

    def loss(batch: Batch) -> Tensor:
        x = torch.cat([table(batch[0][:, i]) for i, table in enumerate(tables)], -1)
        return F.binary_cross_entropy_with_logits(top(x)[:, 0], batch[1])

    return Problem(model=nn.ModuleList([tables, top]), sample=sample, loss=loss)


def associative_recall() -> Problem:
    """Recall the value that followed a key earlier in the sequence, with a two-layer transformer."""
    net = Transformer(16, 9, 8, depth=2)

    def sample(count: int, draw: Generator) -> Batch:
        keys = torch.rand(count, 8, generator=draw).argsort(-1)[:, :4]
        values = torch.randint(8, (count, 4), generator=draw)
        asked = torch.randint(4, (count, 1), generator=draw)
        pairs = torch.stack([keys, 8 + values], -1).flatten(1)
        return torch.cat([pairs, keys.gather(1, asked)], 1), values.gather(1, asked)[:, 0]

    return Problem(model=net, sample=sample, loss=lambda b: F.cross_entropy(net(b[0])[:, -1], b[1]), optimizer=adamw)


def deep_plain_network() -> Problem:
    """Fit a smooth function with eight plain layers: small steps stall, large ones explode."""
    net = mlp(4, *[20] * 6, 1, activation=nn.ReLU)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 4, generator=draw)
        return x, torch.cos(2 * x[:, :1]) + x[:, 1:2] + 0.3 * torch.randn(count, 1, generator=draw)

    return Problem(model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]), optimizer=momentum)


def ill_conditioned() -> Problem:
    """Solve an ill-conditioned linear regression with SGD and averaged logging: the loss decays for the whole run."""
    net = nn.Linear(20, 1)
    scales = torch.logspace(0, -1.5, 20)
    truth = torch.randn(20, 1) / scales[:, None]

    def sample(count: int, draw: Generator) -> Batch:
        x = torch.randn(count, 20, generator=draw) * scales
        return x, x @ truth + 0.5 * torch.randn(count, 1, generator=draw)

    return Problem(model=net, sample=sample, loss=lambda b: F.mse_loss(net(b[0]), b[1]), optimizer=sgd)


FAMILIES = (
    Family(name="vae", split="dev", build=variational_autoencoder, rate=2e-3),
    Family(
        name="sorted_recommender",
        split="dev",
        build=sorted_recommender,
        rate=0.3,
        ordered=True,
        steps=1600,
        multiples=(0.1, 0.3, 0.6, 1, 1.4, 1.9, 2.5, 4),
    ),
    Family(name="lstm_forecast", split="dev", build=lstm_forecast, rate=0.05, steps=700, clip=1.0),
    Family(name="poisson_pinn", split="dev", build=poisson_pinn, rate=2e-3, steps=1200, slice_size=256),
    Family(name="mixture_of_experts", split="dev", build=mixture_of_experts, rate=3e-3, steps=800),
    Family(name="lion_teacher", split="dev", build=lion_teacher, rate=5e-4, batch=8),
    Family(
        name="edge_of_stability",
        split="dev",
        build=edge_of_stability,
        rate=0.05,
        steps=1600,
        pair_slice=True,
        multiples=(0.5, 1, 2, 2.5, 3, 3.5, 4, 6),
    ),
    Family(
        name="heavy_tailed_regression", split="dev", build=heavy_tailed_regression, rate=3e-3, clip=2.0, slice_size=1024
    ),
    Family(
        name="grammar_stream",
        split="dev",
        build=grammar_stream,
        rate=2e-3,
        steps=1200,
        log_mean=3,
        ordered=True,
        slice_size=256,
    ),
    Family(name="bandit_policy", split="dev", build=bandit_policy, rate=3e-3, slice_size=1024),
    Family(name="focal_imbalance", split="dev", build=focal_imbalance, rate=2e-3, batch=32, slice_size=1024),
    Family(name="harder_curriculum", split="dev", build=harder_curriculum, rate=2e-3, ordered=True),
    Family(
        name="reversing_seq2seq", split="dev", build=reversing_seq2seq, rate=3e-3, steps=600, slice_size=256, clip=1.0
    ),
    Family(name="distilled_student", split="dev", build=distilled_student, rate=3e-3),
    Family(name="click_through", split="dev", build=click_through, rate=2e-3, batch=8, slice_size=1024),
    Family(
        name="associative_recall", split="dev", build=associative_recall, rate=2e-3, steps=600, slice_size=256, clip=1.0
    ),
    Family(name="deep_plain_network", split="dev", build=deep_plain_network, rate=1e-3, clip=1.0),
    Family(name="ill_conditioned", split="dev", build=ill_conditioned, rate=0.02, batch=4, log_mean=2, steps=2000),
)

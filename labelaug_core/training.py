"""Training: its settings, the classifier (encoder, trunk, head), and the loop around the loss of a head."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from labelaug_core.cache import progress
from labelaug_core.data import Split, Task


class TrainingError(RuntimeError):
    """Training cannot go on (a value is NaN or infinite); the message names the step and the samples."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained. The same settings serve every arm of a comparison, but for what was tuned."""

    steps: int = 300  # steps of the optimiser
    batch: int = 64  # fine samples a step
    coarse_batch: int = 64  # coarse samples a step, beside the fine ones
    coarse_weight: float = 1.0  # weight of the coarse loss beside the fine loss
    lr: float = 1e-3  # highest learning rate of trunk and head
    lr_encoder: float | None = None  # the same of the encoder; None: lr
    weight_decay: float = 0.05  # of weight matrices; biases and norms do not decay
    warmup: float = 0.1  # share of the steps in which the learning rate rises
    eval_every: int = 50  # steps between two evaluations on the validation part
    val_fraction: float = 0.2  # share of the fine training data held out for validation
    trunk: int = 512  # width of the hidden layer between encoder and head
    dropout: float = 0.2  # after the trunk
    mixed_precision: str = "no"  # or bf16, on a GPU that has it
    cpu: bool = False  # stay on the CPU even where there is a GPU


class Head(Protocol):
    """What every method of the tables is: a loss on features, and predictions from features."""

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Features [B, d] and labels [B] (or, several a sample, bool [B, K]) -> the training loss, a scalar."""

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """Features [B, d] -> at least `log_probs` [B, n_fine], log p(label | x)."""


class Classifier(nn.Module):
    """Encoder, trunk and head. The trunk (LayerNorm, one hidden layer, ReLU, dropout) is the same for every method."""

    def __init__(self, encoder: nn.Module, make_head: Callable[[int], nn.Module], settings: TrainingSettings):
        """encoder: with `dim`, the size of its features; make_head: from the width of the trunk to a Head."""
        super().__init__()
        self.encoder, self.coarse_weight = encoder, settings.coarse_weight
        self.trunk = nn.Sequential(
            nn.LayerNorm(encoder.dim),
            nn.Linear(encoder.dim, settings.trunk),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
        )
        self.head = make_head(settings.trunk)

    def features(self, x: Tensor) -> Tensor:
        """Inputs [B, ...] -> features [B, trunk]."""
        return self.trunk(self.encoder(x))

    def forward(self, x: Tensor, y: Tensor, x_coarse: Tensor | None = None, y_coarse: Tensor | None = None) -> Tensor:
        """The training loss of a fine batch and, if given, of a coarse batch beside it. -> scalar."""
        if x_coarse is None:
            return self.head.loss(self.features(x), y)
        f, f_coarse = self.features(torch.cat([x, x_coarse])).split([len(x), len(x_coarse)])
        return self.head.loss(f, y) + self.coarse_weight * self.head.loss(f_coarse, y_coarse, is_coarse=True)


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Training part and validation part of the training data, drawn with the seed.

    With one label a sample each class gives its share, where every class has at least two samples and the part has
    room for all classes; else the rows are drawn from all samples alike.
    """
    rng, n = np.random.default_rng([seed, 3]), len(train)
    order, size = rng.permutation(n), min(max(1, round(fraction * n)), n - 1)
    counts = np.bincount(train.y) if train.y.ndim == 1 else np.zeros(1, dtype=int)
    present = counts[counts > 0]
    if len(present) and present.min() >= 2 and size >= len(present):
        y = train.y[order]
        turn = np.empty(n)  # how far into its class each sample stands, in 0..1
        for k in np.flatnonzero(counts):
            turn[y == k] = (np.arange(counts[k]) + rng.random()) / counts[k]
        order = order[np.argsort(turn, kind="stable")]
    return train.take(np.sort(order[size:])), train.take(np.sort(order[:size]))


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of row numbers [size]: one shuffled pass after another, short ends carried over."""
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(n)])
        yield queue[:size]
        queue = queue[size:]


def to_tensor(split: Split, rows: np.ndarray, device: torch.device | str) -> Tensor:
    """The inputs of these rows on the device, [B, ...]."""
    return torch.from_numpy(np.ascontiguousarray(split.inputs[rows])).to(device)


def sample_names(split: Split, rows: np.ndarray) -> str:
    """The first three names of these samples, for a message."""
    return ", ".join(str(split.ids[i]) for i in rows[:3]) + (", ..." if len(rows) > 3 else "")


@torch.no_grad()
def predict(model: Classifier, split: Split, batch: int = 256) -> dict[str, np.ndarray]:
    """What the head predicts of every sample, stacked: `log_probs` [N, n_fine] and all else that the head gives.

    Raises TrainingError naming samples whose log-probability is NaN.
    """
    model.eval()
    device, out = next(model.parameters()).device, {}
    for first in range(0, len(split), batch):
        rows = np.arange(first, min(first + batch, len(split)))
        found = model.head.predictions(model.features(to_tensor(split, rows, device)))
        if wrong := found["log_probs"].isnan().any(1).nonzero()[:, 0].tolist():
            raise TrainingError(f"the prediction is not a number for {sample_names(split, rows[wrong])}")
        for name, value in found.items():
            out.setdefault(name, []).append((value.float() if value.is_floating_point() else value).cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in out.items()}


def make_optimizer(model: Classifier, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW: a rate for the encoder, one for trunk and head; weight decay on matrices alone."""
    inside = {id(p) for p in model.encoder.parameters()}
    groups: dict[tuple, list] = {}
    for p in (p for p in model.parameters() if p.requires_grad):
        lr = settings.lr if id(p) not in inside or settings.lr_encoder is None else settings.lr_encoder
        groups.setdefault((lr, settings.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    return torch.optim.AdamW(
        [{"params": ps, "lr": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()], fused=True
    )


def warmup_cosine(optimizer: torch.optim.Optimizer, settings: TrainingSettings) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate rises in a line over the warm-up and then falls along a cosine to zero."""
    warmup = max(1, int(settings.warmup * settings.steps))
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, t / settings.steps))))
    )


def within_one_standard_error(value: float, best: float, n: int) -> bool:
    """Is a share within one standard error of the best one, both measured on n samples?"""
    return value >= best - math.sqrt(best * (1 - best) / n)


def train(
    model: Classifier,
    task: Task,
    val: Split,
    settings: TrainingSettings,
    seed: int,
    score: Callable[[dict[str, np.ndarray], np.ndarray], dict[str, float]],
    criterion: str,
) -> tuple[Classifier, list[dict]]:
    """Train; return the chosen model and the history, a row an evaluation, whose chosen row says `chosen: True`.

    The coarse batch comes beside the fine one, so a fusion takes as many fine steps as the fine data alone. score:
    (predictions, y) -> {name: value} on the validation part. The model is the latest whose criterion, one of these
    names and a share in 0..1, is within one standard error of the best: a small validation part cannot tell such models
    apart, and the best of many noisy values would be an early, lucky one. With several processes each takes its part of
    the same global batch and draws its own dropout.
    Raises TrainingError naming the step and the samples when an input or the loss is not finite, and ValueError for a
    batch that the processes cannot share evenly.
    """
    accelerator = Accelerator(mixed_precision=settings.mixed_precision, cpu=settings.cpu)
    check_shares(settings, task, accelerator.num_processes)
    rng = np.random.default_rng([seed, 1])
    if accelerator.process_index:
        torch.manual_seed(seed + accelerator.process_index)
    optimizer = make_optimizer(model, settings)
    schedule = warmup_cosine(optimizer, settings)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    sources = [(task.train, batches(len(task.train), settings.batch, rng))]
    if task.coarse is not None:
        sources.append((task.coarse, batches(len(task.coarse), settings.coarse_batch, rng)))
    best, chosen, weights, history = -1.0, {}, None, []
    for step in progress(range(1, settings.steps + 1), "training"):
        wrapped.train()
        drawn = [(split, next(rows)[mine]) for split, rows in sources]
        loss = wrapped(*(t for split, rows in drawn for t in load_batch(split, rows, accelerator.device, step)))
        if not torch.isfinite(loss):
            names = " and ".join(sample_names(split, rows) for split, rows in drawn)
            raise TrainingError(f"step {step}: the loss is {loss.item()}; the batch holds {names}")
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        if step % settings.eval_every and step != settings.steps:
            continue
        scores = score(predict(model, val), val.y)
        history.append({"step": step, "loss": accelerator.reduce(loss.detach(), reduction="mean").item()} | scores)
        best = max(best, scores[criterion])
        if within_one_standard_error(scores[criterion], best, len(val)):
            chosen, weights = history[-1], copy.deepcopy(model.state_dict())
    chosen["chosen"] = True
    model.load_state_dict(weights)
    return model, history


def check_shares(settings: TrainingSettings, task: Task, processes: int) -> None:
    """Raises ValueError where the processes cannot share a batch evenly."""
    sizes = {"batch": settings.batch} | ({"coarse_batch": settings.coarse_batch} if task.coarse is not None else {})
    if odd := [f"{name}: {size}" for name, size in sizes.items() if size % processes]:
        raise ValueError(f"{', '.join(odd)} samples cannot be shared by {processes} processes")


def load_batch(split: Split, rows: np.ndarray, device: torch.device, step: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels of these rows on the device. Raises TrainingError naming samples that are not finite."""
    x = to_tensor(split, rows, device)
    if x.is_floating_point() and not x.isfinite().all():
        wrong = rows[(~x.isfinite()).flatten(1).any(1).cpu().numpy()]
        raise TrainingError(f"step {step}: an input is not a finite number in {sample_names(split, wrong)}")
    return x, torch.from_numpy(split.y[rows]).to(device)

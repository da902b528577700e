"""Training: its settings, the classifier (encoder, trunk, head), and the loop around the loss of a head."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from labelaug_core.data import Split, Task
from labelaug_core.encoders import Augment
from labelaug_core.files.cache import progress
from labelaug_core.files.checkpoint import Checkpoint
from labelaug_core.files.checks import TRAINING, check_values
from labelaug_core.files.loading import Loader, TrainingError, are_files, batches, on_device, sample_names
from labelaug_core.files.loading import hold_out as hold_out  # whoever trains wants these two, too
from labelaug_core.files.loading import to_tensor as to_tensor


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained, in every arm of a comparison, but for what was tuned. ValueError names wrong values."""

    steps: int = 300  # steps of the optimiser
    batch: int = 64  # fine samples a step
    coarse_batch: int = 64  # coarse samples a step, beside the fine ones
    coarse_weight: float = 1.0  # weight of the coarse loss beside the fine loss
    lr: float = 1e-3  # highest learning rate of trunk and head
    lr_encoder: float | None = None  # the same of the encoder, whose weights are good already; None: lr
    weight_decay: float = 0.05  # of weight matrices; biases and norms do not decay
    warmup: float = 0.1  # share of the steps in which the learning rate rises
    eval_every: int = 50  # steps between two evaluations on the validation part
    val_fraction: float = 0.2  # share of the fine training data held out for validation
    trunk: int = 512  # width of the hidden layer between encoder and head
    dropout: float = 0.2  # after the trunk
    crop: float = 1.0  # least share of an image that a random crop keeps: small data are learned by heart; 1: no crop
    colour: float = 0.0  # how far brightness, contrast and saturation vary: light rarely depends on the class; 0: not
    mixed_precision: str = "no"  # or bf16, of encoder and trunk on a GPU: about twice as fast; heads stay in float32
    channels_last: bool = False  # the layout of images in which a GPU's convolutions are quickest
    compile: bool = False  # torch.compile of the encoder: fewer, larger kernels after minutes at the start
    accumulate: int = 1  # parts of a step's batch: the same gradient in less memory (but for batch norm, sampling)
    workers: int | None = None  # processes that read image files; None: one a core, at most 8
    checkpoint: bool = False  # keep the run's state at each evaluation, so that a killed run goes on from there
    cpu: bool = False  # stay on the CPU even where there is a GPU

    def __post_init__(self):
        """Check the values."""
        check_values(self, TRAINING)


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
        self.encoder, self.coarse_weight, self.precision = encoder, settings.coarse_weight, settings.mixed_precision
        self.workers = settings.workers
        self.augment = Augment(settings.crop, settings.colour)
        self.trunk = nn.Sequential(
            nn.LayerNorm(encoder.dim),
            nn.Linear(encoder.dim, settings.trunk),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
        )
        self.head = make_head(settings.trunk)

    def features(self, x: Tensor) -> Tensor:
        """Inputs [B, ...] -> features [B, trunk], float32."""
        if self.precision == "no":
            return self.trunk(self.encoder(x))
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.trunk(self.encoder(x)).float()

    def forward(self, x: Tensor, y: Tensor, x_coarse: Tensor | None = None, y_coarse: Tensor | None = None) -> Tensor:
        """The training loss of a fine batch and, if given, of a coarse batch beside it. -> scalar."""
        if x_coarse is None:
            return self.head.loss(self.features(self.augment(x)), y)
        f, f_coarse = self.features(self.augment(torch.cat([x, x_coarse]))).split([len(x), len(x_coarse)])
        return self.head.loss(f, y) + self.coarse_weight * self.head.loss(f_coarse, y_coarse, is_coarse=True)


@torch.no_grad()
def predict(model: Classifier, split: Split, batch: int = 256) -> dict[str, np.ndarray]:
    """What the head predicts of every sample, stacked: `log_probs` [N, n_fine] and all else that the head gives.

    Raises TrainingError naming samples whose log-probability is NaN.
    """
    model.eval()
    device, out = next(model.parameters()).device, {}
    batch = min(batch, 64) if are_files(split.inputs) else batch  # what workers hold ready is kept in memory
    steps = [(np.arange(first, min(first + batch, len(split))),) for first in range(0, len(split), batch)]
    with Loader([split.inputs], steps, model.workers if len(steps) > 1 else 0, device.type == "cuda") as loader:
        for (rows,), (x,) in loader:
            found = model.head.predictions(model.features(x.to(device, non_blocking=True)))
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
    checkpoint: Path | None = None,
    clock: list[tuple[float, float]] | None = None,
) -> tuple[Classifier, list[dict]]:
    """Train; return the chosen model and the history, a row an evaluation, whose chosen row says `chosen: True`.

    The coarse batch comes beside the fine one, so a fusion takes as many fine steps as the fine data alone. score:
    (predictions, y) -> {name: value} on the validation part. The model is the latest whose criterion, one of these
    names and a share in 0..1, is within one standard error of the best: a small validation part cannot tell such models
    apart, and the best of many noisy values would be an early, lucky one. With several processes each takes its part of
    the same global batch and draws its own dropout; all return the first one's model. checkpoint: a file for the state
    of the run at each evaluation, from which the same call goes on; the caller deletes it. clock: gets the seconds of
    each step, first those in which it waited for its inputs, then all of them.
    Raises TrainingError naming the step and the samples when an input or the loss is not finite, or the setting to
    lower when a GPU's memory is full; ValueError for a batch that the processes cannot share evenly.
    """
    accelerator = Accelerator(mixed_precision="no", device_placement=False)  # Classifier.features sees to precision
    device = torch.device("cpu") if settings.cpu else accelerator.device
    check_shares(settings, task, accelerator.num_processes)
    rng = np.random.default_rng([seed, 1])
    if accelerator.process_index:
        torch.manual_seed(seed + accelerator.process_index)
    model.to(device)
    if settings.channels_last:
        model.encoder.to(memory_format=torch.channels_last)
    if settings.compile:
        model.encoder.compile()
    optimizer = make_optimizer(model, settings)
    schedule = warmup_cosine(optimizer, settings)
    state = Checkpoint(checkpoint, model, optimizer, schedule, accelerator)
    said, weights = state.load() or ({"step": 0, "best": -1.0, "history": []}, None)
    history = said["history"]
    wrapped, prepared = accelerator.prepare(model, optimizer)
    splits = [split for split in (task.train, task.coarse) if split is not None]
    sizes = [settings.batch, settings.coarse_batch][: len(splits)]
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    drawn = zip(*(batches(len(split), size, rng) for split, size in zip(splits, sizes, strict=True)), strict=True)
    drawn = (tuple(rows[mine] for rows in step) for step in islice(drawn, said["step"], settings.steps))
    with (
        Loader([s.inputs for s in splits], drawn, settings.workers, device.type == "cuda") as loader,
        memory_explained(settings),
    ):
        loaded, begin = iter(loader), time.perf_counter()
        for step in progress(range(said["step"] + 1, settings.steps + 1), "training"):
            wrapped.train()
            rows, read_ahead = next(loaded)
            ready = time.perf_counter()
            given = on_device(read_ahead, rows, splits, device, step)
            prepared.zero_grad()
            loss = torch.zeros((), device=device)
            for i in range(settings.accumulate):
                part = wrapped(*(t[i :: settings.accumulate] for t in given)) / settings.accumulate
                if not torch.isfinite(part):
                    names = " and ".join(sample_names(split, r) for r, split in zip(rows, splits, strict=True))
                    raise TrainingError(f"step {step}: the loss is {part.item()}; the batch holds {names}")
                accelerator.backward(part)
                loss += part.detach()
            prepared.step()
            schedule.step()
            if clock is not None:
                clock.append((ready - begin, time.perf_counter() - begin))
            if step % settings.eval_every == 0 or step == settings.steps:
                scores = score(predict(model, val), val.y)
                history.append({"step": step, "loss": accelerator.reduce(loss, reduction="mean").item()} | scores)
                said["best"] = max(said["best"], scores[criterion])
                if within_one_standard_error(scores[criterion], said["best"], len(val)):
                    said["chosen"], weights = len(history) - 1, copy.deepcopy(model.state_dict())
                said["step"] = step
                state.save(said, weights)
            begin = time.perf_counter()
    history[said["chosen"]]["chosen"] = True
    model.load_state_dict(broadcast(weights))  # batch norm counts in each process for itself: the first one's model
    return model, history


def check_shares(settings: TrainingSettings, task: Task, processes: int) -> None:
    """Raises ValueError where the processes, or the parts of `accumulate`, cannot share a batch evenly."""
    sizes = {"batch": settings.batch} | ({"coarse_batch": settings.coarse_batch} if task.coarse is not None else {})
    if odd := [f"{name}: {size}" for name, size in sizes.items() if size % (processes * settings.accumulate)]:
        raise ValueError(
            f"{', '.join(odd)} samples cannot be shared by {processes} processes, in {settings.accumulate} parts each"
        )


@contextmanager
def memory_explained(settings: TrainingSettings) -> Iterator[None]:
    """Turns a full memory of the GPU into a TrainingError that says which setting to change."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"the GPU's memory is full with {settings.batch} + {settings.coarse_batch} a step: raise accumulate "
            f"(it is {settings.accumulate}; the batch stays as it is), or lower batch, coarse_batch or image_size"
        ) from None

"""Training (Algorithm 1's outer loop) on HF Accelerate: one readable function that every notebook uses."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from labelaug_core.cache import progress
from labelaug_core.data import Split, Task


class TrainingError(RuntimeError):
    """Training cannot go on (a number that is none); the message names the step and the samples."""


class Classifier(nn.Module):
    """Encoder, trunk and head. The trunk (LayerNorm, one hidden layer, ReLU, dropout) is the same for every method."""

    def __init__(self, encoder: nn.Module, head, trunk: int = 512, dropout: float = 0.2, coarse_weight: float = 1.0):
        """head: a function from the trunk's width to a head module."""
        super().__init__()
        self.encoder, self.coarse_weight = encoder, coarse_weight
        self.trunk = nn.Sequential(
            nn.LayerNorm(encoder.dim), nn.Linear(encoder.dim, trunk), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = head(trunk)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(self.encoder(x))

    def forward(self, x: Tensor, y: Tensor, x_coarse: Tensor | None = None, y_coarse: Tensor | None = None) -> Tensor:
        """The training loss of a fine batch and, if given, a coarse one beside it."""
        if x_coarse is None:
            return self.head.loss(self.features(x), y)
        f, f_coarse = self.features(torch.cat([x, x_coarse])).split([len(x), len(x_coarse)])
        return self.head.loss(f, y) + self.coarse_weight * self.head.loss(f_coarse, y_coarse, is_coarse=True)


def seed_everything(seed: int) -> np.random.Generator:
    """Seed torch, and give the generator that draws splits and batches."""
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Training and validation part of the training data, stratified where classes allow it."""
    counts = np.bincount(train.y) if train.y.ndim == 1 else np.zeros(1)  # several labels a sample: no strata
    enough = counts.any() and counts[counts > 0].min() >= 2 and fraction * len(train) >= (counts > 0).sum()
    stratify = train.y if enough else None
    fit, val = train_test_split(np.arange(len(train)), test_size=fraction, random_state=seed, stratify=stratify)
    return train.take(np.sort(fit)), train.take(np.sort(val))


def batches(n: int, size: int, rng: np.random.Generator):
    """Endless batches of row numbers: one shuffled pass after another, short ends carried over."""
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(n)])
        yield queue[:size]
        queue = queue[size:]


def to_tensor(split: Split, rows: np.ndarray, device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(split.inputs[rows])).to(device)


def named(split: Split, rows: np.ndarray) -> str:
    """The first of these samples' names, for a message."""
    return ", ".join(str(split.ids[i]) for i in rows[:3]) + (", ..." if len(rows) > 3 else "")


@torch.no_grad()
def predict(model: Classifier, split: Split, device="cpu", batch: int = 256) -> dict[str, np.ndarray]:
    """Every sample's log p(label | x) [N, K] and, where the head decodes paths, all that PathHead.predictions gives.

    Raises TrainingError naming samples of which a probability is not a number.
    """
    model.eval()
    out: dict[str, list] = {}
    for first in range(0, len(split), batch):
        rows = np.arange(first, min(first + batch, len(split)))
        f = model.features(to_tensor(split, rows, device))
        found = model.head.predictions(f)
        if wrong := found["log_probs"].isnan().any(1).nonzero()[:, 0].tolist():
            raise TrainingError(f"the prediction is not a number for {named(split, rows[wrong])}")
        for name, value in found.items():
            out.setdefault(name, []).append((value.float() if value.is_floating_point() else value).cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in out.items()}


def train(model: Classifier, task: Task, val: Split, settings: dict, seed: int, score) -> tuple[Classifier, list[dict]]:
    """Train, and return the chosen model and the history, whose chosen row says `chosen: True`.

    The choice is made on validation data by the one-standard-error rule: the latest evaluation whose score is
    within one standard error of the best. (A small validation set cannot tell such models apart, and the best of
    many noisy values would be an early, lucky one.)

    settings: steps, batch (fine images a step), coarse_batch, lr, lr_encoder (of the encoder's parameters, default
    lr), weight_decay, warmup (share of the steps), eval_every. AdamW under a cosine schedule. The coarse batch comes
    beside the fine one, so a fusion takes as many fine steps as the fine data alone. With several processes each
    takes its part of the same global batch, and draws its own dropout. score: (predictions, y) -> {name: value}, the
    first of which, a share in 0..1, the choice goes by. Raises TrainingError naming the step and the samples when an
    input or the loss is not finite, and ValueError for a batch that the processes cannot share evenly.
    """
    rng = np.random.default_rng([seed, 1])
    accelerator = Accelerator(mixed_precision=settings.get("mixed_precision", "no"), cpu=settings.get("cpu", False))
    for size in ("batch", "coarse_batch") if task.coarse is not None else ("batch",):
        if settings[size] % accelerator.num_processes:
            raise ValueError(
                f"{size}: {settings[size]} samples cannot be shared by {accelerator.num_processes} processes"
            )
    if accelerator.process_index:
        torch.manual_seed(seed + accelerator.process_index)
    steps, warmup = settings["steps"], max(1, int(settings.get("warmup", 0.1) * settings["steps"]))
    inside = [p for p in model.encoder.parameters() if p.requires_grad]
    outside = [p for part in (model.trunk, model.head) for p in part.parameters()]
    rates = [(inside, settings.get("lr_encoder", settings["lr"])), (outside, settings["lr"])]
    optimizer = torch.optim.AdamW(
        [{"params": p, "lr": lr} for p, lr in rates if p], weight_decay=settings["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, t / steps))))
    )
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    draws = batches(len(task.train), settings["batch"], rng)
    coarse_draws = batches(len(task.coarse), settings["coarse_batch"], rng) if task.coarse is not None else None
    best, chosen, state, history = -1.0, {}, None, []
    for step in progress(range(1, steps + 1), "training"):
        wrapped.train()
        parts, holds = [], []
        for split, draw in ((task.train, draws), (task.coarse, coarse_draws)):
            if draw is not None:
                rows = next(draw)[mine]
                x = to_tensor(split, rows, accelerator.device)
                if x.is_floating_point() and not x.isfinite().all():
                    wrong = rows[(~x.isfinite()).flatten(1).any(1).cpu().numpy()]
                    raise TrainingError(f"step {step}: an input is not a finite number in {named(split, wrong)}")
                parts += [x, torch.from_numpy(split.y[rows]).to(accelerator.device)]
                holds.append(named(split, rows))
        try:
            loss = wrapped(*parts)
        except RuntimeError as error:
            if "probability tensor contains" not in str(error):
                raise
            loss = torch.tensor(torch.nan)  # weights that ran away: Algorithm 1 has nothing to sample from
        if not torch.isfinite(loss):
            raise TrainingError(f"step {step}: the loss is {loss.item()}; the batch holds {' and '.join(holds)}")
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        if step % settings["eval_every"] == 0 or step == steps:
            found = predict(model, val, accelerator.device)
            scores = score(found, val.y)
            row = {"step": step, "loss": accelerator.reduce(loss.detach(), reduction="mean").item()} | scores
            history.append(row)
            value = next(iter(scores.values()))
            best = max(best, value)
            if value >= best - math.sqrt(best * (1 - best) / len(val)):
                chosen, state = row, copy.deepcopy(model.state_dict())
    chosen["chosen"] = True
    model.load_state_dict(state)
    return model, history

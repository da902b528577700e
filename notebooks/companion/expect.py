"""What can a join give? Asked of the fine data alone, before anything is joined (notebook 43)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from companion.heads.baselines import allowed
from companion.runs import fit_method
from labelaug_core.data import DataError, Task
from labelaug_core.training import predict


@dataclass(frozen=True)
class Expectation:
    """How much a fine classifier would gain if it knew what the coarse labels say. All shares in percent."""

    accuracy: float  # of FFN, trained on the fine data, on images held out of them
    given: dict[str, float]  # question of the coarse labels -> FFN's accuracy if it were told the answer
    per_class: float  # fine training images a class
    coarse: int  # coarse images; `shared` of them have a label that the fine data have, too
    shared: int
    n: int  # held-out images, over all seeds

    @property
    def headroom(self) -> float:
        """Points that FFN would gain by the most useful answer."""
        return max(self.given.values(), default=self.accuracy) - self.accuracy

    def __str__(self) -> str:
        """What to expect, and why."""
        lines = [f"FFN has {self.accuracy:.1f} % on {self.n:,} held-out images ({self.per_class:.0f} images a class)."]
        lines += [f"If it knew the {q}, it would have {p:.1f} %." for q, p in self.given.items()]
        changed = self.headroom / 100  # the share of images that the answer would put right
        error = 100 * np.sqrt(changed * (1 - changed) / self.n)
        if self.shared:
            lines.append(f"{self.shared:,} of the {self.coarse:,} coarse images have a fine label: more fine data.")
        if not self.given:
            lines.append("The coarse labels answer no question of the graph.")
        elif self.headroom < max(1.0, 2 * error):
            lines.append("Expect little from the coarse answers: FFN knows almost all of them already.")
        else:
            what = f"up to about {self.headroom:.0f} points, if they teach the answer"
            lines.append(f"The {self.coarse:,} coarse images can give {what}.")
        return "\n".join(lines)


def told(task: Task, log_probs: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy in percent of the most probable label among those that the true coarse answer allows, by question.

    log_probs [N, K], y [N]: of held-out fine images. A label that no coarse label covers keeps all K labels.
    """
    below = allowed(task.graph, task.labels, task.n_fine).numpy()  # [L, K]
    questions: dict[str, list[int]] = {}
    for k in np.unique(task.coarse.y):
        if k >= task.n_fine:
            questions.setdefault(task.graph.group[task.labels[k]], []).append(k)
    out = {}
    for question, answers in questions.items():
        both = below[answers].T.astype(int) @ below[answers].astype(int) > 0  # [K, K]: do they share an answer?
        open_ = both | ~below[answers].any(0)[:, None]
        out[question] = 100 * float((np.where(open_[y], log_probs, -np.inf).argmax(1) == y).mean())
    return out


def expect(settings: dict, task: Task, seeds=(0, 1, 2)) -> Expectation:
    """Train FFN on the fine data alone and ask what the coarse answers would add. settings: those of a cell.

    Test images are not looked at. Nothing is said of attributes that only the graph knows. The accuracy is that of the
    part on which the model was chosen, so it is slightly too high. Raises DataError for a task without a coarse part or
    with several labels a sample.
    """
    if task.coarse is None or task.train.y.ndim > 1:
        raise DataError("what a join can give is asked of a task with a coarse part and one label a sample")
    found, right = [], []
    for seed in seeds:
        fitted = fit_method(settings | {"method": "ffn"}, task.fine_only(), seed)
        log_probs = predict(fitted.model, fitted.val)["log_probs"]
        found.append(told(task, log_probs, fitted.val.y))
        right.append(log_probs.argmax(1) == fitted.val.y)
    return Expectation(
        accuracy=100 * float(np.concatenate(right).mean()),
        given={q: float(np.mean([f[q] for f in found])) for q in found[0]},
        per_class=len(task.train) / task.n_fine,
        coarse=len(task.coarse),
        shared=int((task.coarse.y < task.n_fine).sum()),
        n=sum(map(len, right)),
    )

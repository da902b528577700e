"""A BERT whose last layer is trained with the head (`tune: last` for texts); what lies below is computed once.

cell.py knows the last stage of an image encoder; this is the same way of training for a BERT: trunk and head first, on
frozen features, then all together.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from labelaug_core import cell
from labelaug_core.datasets.base import Task
from labelaug_core.encoders import build_encoder
from labelaug_core.text_encoders import PAD, BertEncoder
from labelaug_core.training import Classifier


class BeforeLastLayer(nn.Module):
    """A frozen BERT up to its last layer: int64 [B, T] word pieces (0 pads) -> states [B, T, d], 0 at padding.

    whole: it loses its last layer here.
    """

    def __init__(self, whole: BertEncoder, tokens: int):
        super().__init__()
        self.body, self.key, self.dim = whole.body, f"{whole.key}-before-last", (tokens, whole.dim)
        self.body.encoder.layer = self.body.encoder.layer[:-1]

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        real = x != PAD
        x = x[:, : real.sum(1).max()]
        states = self.body(input_ids=x, attention_mask=(x != PAD).long()).last_hidden_state.float()
        return nn.functional.pad(states, (0, 0, 0, real.shape[1] - x.shape[1])) * real[..., None]


class LastLayer(nn.Module):
    """The rest of it, to be trained: states [B, T, d] -> features [B, d], the mean over the real tokens. No dropout.

    Its products are taken in bfloat16 where that is how the BERT below was run.
    """

    def __init__(self, whole: BertEncoder):
        super().__init__()
        self.dim, self.key, self.dtype = whole.dim, f"{whole.key}-last", whole.body.dtype
        self.layer = whole.body.encoder.layer[-1].float().requires_grad_(True)

    def train(self, mode: bool = True) -> LastLayer:
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        real = x.any(2)
        longest = int(real.sum(1).max())
        x, real = x[:, :longest].float(), real[:, :longest]
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            states = self.layer(x, attention_mask=real[:, None, None].expand(-1, 1, longest, -1))
        return (states.float() * real[..., None]).sum(1) / real.sum(1, keepdim=True)


def load_task(settings: dict) -> Task:
    """The cell's data: texts as the states before the last layer, and Task.head_first as frozen features."""
    frozen, raw = ({**settings, "encoder": settings["encoder"] | {"tune": t}} for t in ("frozen", "all"))
    front = BeforeLastLayer(build_encoder(frozen["encoder"]), settings["data"]["tokens"])
    return replace(cell.encoded(cell.load_task(raw), front, np.float16), head_first=cell.load_task(frozen))


def run_seed(settings: dict, task: Task, seed: int):
    """cell.run_seed with the last layer for an encoder: -> (record, predictions, model)."""
    inside = cell.build

    def build(given: dict, used: Task, head) -> Classifier:
        if given["encoder"]["tune"] == "frozen":
            return inside(given, used, head)
        encoder = LastLayer(build_encoder(given["encoder"] | {"tune": "frozen"}))
        t = given["training"]
        return Classifier(encoder, head, t["trunk"], t["dropout"], t["coarse_weight"])

    # cell.py decides every record: a branch there would age them all
    with patch.object(cell, "build", build):
        return cell.run_seed(settings, task, seed)

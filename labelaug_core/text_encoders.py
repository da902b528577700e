"""The encoders of texts: an LSTM trained from scratch, and BERT."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from labelaug_core.encoders import Still, weights_of
from labelaug_core.files.tokens import MINILM, PAD, UNKNOWN, folder


class LSTMEncoder(nn.Module):
    """Embeddings and a bidirectional LSTM, both from scratch; the largest value over time of each state.

    int64 [B, T] word numbers (0 pads) -> [B, 2 hidden]. In training a word is unknown with probability `forget`, so
    that the unknown word of a test text is one that the network has met.
    """

    def __init__(self, vocabulary: int, embedding: int = 64, hidden: int = 64, forget: float = 0.1):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.from_start, self.from_end = (nn.LSTM(embedding, hidden, batch_first=True) for _ in range(2))
        self.dim, self.key, self.forget = 2 * hidden, f"lstm-{vocabulary}-{embedding}-{hidden}", forget

    def forward(self, x: Tensor) -> Tensor:
        """Word numbers int64 [B, T] -> [B, 2 hidden].

        Padding stands behind the words of both directions and is left out of the maximum. (A packed sequence gives the
        same; its gradient fills zeros of all steps at each step.)
        """
        length = (x != PAD).sum(1, keepdim=True).clamp(min=1)  # an empty text is one padding token
        x, t = x[:, : length.max()], torch.arange(int(length.max()), device=x.device)
        if self.training:
            x = torch.where((torch.rand(x.shape, device=x.device) < self.forget) & (x != PAD), UNKNOWN, x)
        reverse = x.gather(1, torch.where(t < length, length - 1 - t, t))  # the words from last to first, then padding
        states = torch.cat([self.from_start(self.embedding(x))[0], self.from_end(self.embedding(reverse))[0]], 2)
        return states.masked_fill((t >= length)[:, :, None], -torch.inf).amax(1)


class BertEncoder(Still):
    """A BERT: int64 [B, T] word pieces (0 pads) -> [B, d], the mean over the real tokens of the last layer.

    weights: MINILM or a model that transformers can load. pretrained=False: random weights in MiniLM's shape, to try
    things out. frozen: no gradient. A batch is sorted by length and run in parts of about `budget` tokens. dtype:
    `bfloat16` is for processors that have it: 48 texts a second and core against 25 (128 tokens, an AMD EPYC), the
    features' cosine to those of float32 above 0.9998; torch's dynamic int8 was as quick, but its cosine fell to 0.89.
    """

    def __init__(
        self,
        weights: str = MINILM,
        pretrained: bool = True,
        frozen: bool = True,
        dtype: str = "float32",
        budget: int = 4096,
    ):
        super().__init__()
        from transformers import BertConfig, BertModel, logging

        logging.set_verbosity_error()  # it would list the pooling layer, which we leave out
        tag = "random"
        if pretrained:
            with weights_of(weights):
                self.body = BertModel.from_pretrained(folder(weights), add_pooling_layer=False)
            files = sorted(Path(folder(weights)).glob("*.safetensors"))
            tag = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12] if files else "hub"
        else:
            self.body = BertModel(BertConfig.from_pretrained(folder(MINILM)), add_pooling_layer=False)
        self.body.to(getattr(torch, dtype))
        self.dim, self.key = self.body.config.hidden_size, f"{weights}-{tag}-mean-{dtype}"
        self.still, self.budget = frozen, budget
        if frozen:
            self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Word pieces int64 [B, T] -> [B, d]."""
        length = (x != PAD).sum(1)
        out, order = x.new_zeros((len(x), self.dim), dtype=torch.float32), length.argsort()
        while len(order):
            longest = int(length[order[-1]])
            rows, order = order[-max(1, self.budget // longest) :], order[: -max(1, self.budget // longest)]
            out[rows] = self._read(x[rows, :longest])
        return out

    def before_last(self, data: dict) -> BeforeLastLayer:
        """The frozen part of this encoder; data: with `tokens`."""
        return BeforeLastLayer(self, data["tokens"])

    def last(self) -> LastLayer:
        """The part of this encoder that is trained."""
        return LastLayer(self)

    def _read(self, x: Tensor) -> Tensor:
        real = (x != PAD).long()
        states = self.body(input_ids=x, attention_mask=real).last_hidden_state.float()
        return (states * real[..., None]).sum(1) / real.sum(1, keepdim=True)


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
        """Word pieces int64 [B, T] -> states [B, T, d]."""
        real = x != PAD
        x = x[:, : real.sum(1).max()]
        states = self.body(input_ids=x, attention_mask=(x != PAD).long()).last_hidden_state.float()
        return nn.functional.pad(states, (0, 0, 0, real.shape[1] - x.shape[1])) * real[..., None]


class LastLayer(Still):
    """The rest of it, to be trained: states [B, T, d] -> features [B, d], the mean over the real tokens. No dropout.

    Its products are taken in bfloat16 where that is how the BERT below was run.
    """

    def __init__(self, whole: BertEncoder):
        super().__init__()
        self.dim, self.key, self.dtype = whole.dim, f"{whole.key}-last", whole.body.dtype
        self.layer = whole.body.encoder.layer[-1].float().requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        """States [B, T, d] -> [B, d]."""
        real = x.any(2)
        longest = int(real.sum(1).max())
        x, real = x[:, :longest].float(), real[:, :longest]
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            states = self.layer(x, attention_mask=real[:, None, None].expand(-1, 1, longest, -1))
        return (states.float() * real[..., None]).sum(1) / real.sum(1, keepdim=True)

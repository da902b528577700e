"""Block softmax (Sec. 3.2.4): a softmax inside each block of competing answers, none across blocks.

Everything here works on *slots*: a slot is one possible answer u at one place v, and `block` says which slots
compete. One call normalises all blocks of a graph at once, however unequal their sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _widened(z: Tensor) -> Tensor:
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def _top_and_log_total(z: Tensor, block: Tensor, n_blocks: int) -> tuple[Tensor, Tensor]:
    """Of each block [..., n_blocks] its largest score (no gradient) and the log of its sum of exp(z - largest)."""
    index = block.expand(z.shape)
    shape = (*z.shape[:-1], n_blocks)
    top = z.detach().new_full(shape, -torch.inf).scatter_reduce(-1, index, z.detach(), "amax")
    top = top.clamp(min=torch.finfo(z.dtype).min)  # an all-masked block must not give -inf - -inf
    total = z.new_zeros(shape).scatter_add(-1, index, (z - top.gather(-1, index)).exp())
    empty = total == 0
    return top, total.masked_fill(empty, 1.0).log().masked_fill(empty, -torch.inf)


def block_logsumexp(z: Tensor, block: Tensor, n_blocks: int) -> Tensor:
    """log of the sum of exp(z) inside each block.

    z: [..., E] scores, -inf for a masked slot; block: [E] ids in 0..n_blocks-1. Returns [..., n_blocks]; a block
    whose every slot is masked gets -inf, with gradient zero.
    """
    top, log_total = _top_and_log_total(_widened(z), block, n_blocks)
    return (top + log_total).to(z.dtype)


def block_log_softmax(z: Tensor, block: Tensor, exclusive: Tensor | None = None) -> Tensor:
    """Sec. 3.2.4: log p_u = z_u - log sum over w in S_u of exp(z_w), S_u the block of u.

    z: [..., E] scores (-inf masks a slot); block: [E] block id of each slot; exclusive: [n_blocks] bool, False
    where the members do not compete: each then is a two-way block of its own, log p_u = log sigmoid(z_u).
    Returns [..., E] log-probabilities in z's dtype; bfloat16 and float16 are summed in float32.
    Raises ValueError if block does not fit z.
    """
    if block.shape != z.shape[-1:]:
        raise ValueError(f"block_log_softmax: block has shape {tuple(block.shape)}, z's last axis is {z.shape[-1]}")
    if not z.shape[-1]:
        return z
    wide, index = _widened(z), block.expand(z.shape)
    top, log_total = _top_and_log_total(wide, block, int(block.max()) + 1 if exclusive is None else len(exclusive))
    log_total = log_total.masked_fill(log_total == -torch.inf, 0.0)  # an all-masked block stays at -inf, not nan
    out = wide - top.gather(-1, index) - log_total.gather(-1, index)  # in this order: exact for large scores too
    if exclusive is not None and not bool(exclusive.all()):
        out = torch.where(exclusive[block], out, torch.nn.functional.logsigmoid(wide))
    return out.to(z.dtype)

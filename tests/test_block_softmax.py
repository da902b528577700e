"""Block softmax (Sec. 3.2.4) against torch's softmax, against a slow loop, and where floats run out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelaug_core.block_softmax import block_log_softmax, block_logsumexp


def slow(z: list[float], block: list[int], exclusive: dict[int, bool]) -> list[float]:
    """The equation, slot by slot, in Python floats."""
    out = []
    for u, b in zip(z, block, strict=True):
        if not exclusive[b]:
            out.append(-math.log1p(math.exp(-u)))
            continue
        top = max(w for w, c in zip(z, block, strict=True) if c == b)
        out.append(u - top - math.log(sum(math.exp(w - top) for w, c in zip(z, block, strict=True) if c == b)))
    return out


def test_one_block_is_log_softmax():
    z = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.log_softmax(z, -1)
    torch.testing.assert_close(block_log_softmax(z, torch.zeros(7, dtype=torch.long)), expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_a_slow_loop(data):
    slots = data.draw(st.lists(st.tuples(st.floats(-30, 30), st.integers(0, 3)), min_size=1, max_size=9))
    exclusive = [data.draw(st.booleans()) for _ in range(4)]
    z, block = [s[0] for s in slots], [s[1] for s in slots]  # blocks of any size, in any order, some empty
    got = block_log_softmax(
        torch.tensor([z, z[::-1]], dtype=torch.float64), torch.tensor(block), torch.tensor(exclusive)
    )
    by_id = dict(enumerate(exclusive))
    expected = torch.tensor([slow(z, block, by_id), slow(z[::-1], block, by_id)], dtype=torch.float64)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-9)


def test_blocks_do_not_influence_each_other():
    block = torch.tensor([0, 1, 0, 1, 2])
    z = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    (jacobian,) = torch.autograd.functional.jacobian(lambda a: block_log_softmax(a, block), (z,))
    assert (jacobian[block[:, None] != block] == 0).all()
    assert (jacobian[:4, :4][block[:4, None] == block[:4]] != 0).all()
    assert jacobian[4, 4] == 0  # alone in its block: p = 1 whatever its score
    p = block_log_softmax(z, block).exp()
    torch.testing.assert_close(torch.zeros(3).double().index_add(0, block, p), torch.ones(3).double())


@pytest.mark.parametrize("exclusive", [None, [True, False, True]])
def test_gradcheck(exclusive):
    block = torch.tensor([2, 0, 1, 1, 2, 2, 0])
    z = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    exclusive = None if exclusive is None else torch.tensor(exclusive)
    assert torch.autograd.gradcheck(lambda a: block_log_softmax(a, block, exclusive), z)
    assert torch.autograd.gradcheck(lambda a: block_logsumexp(a, block, 3), z)


def test_members_that_do_not_compete_are_sigmoids():
    z = torch.tensor([[-200.0, -3.0, 0.0, 4.0, 200.0, 1.0, 2.0]])
    block = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    got = block_log_softmax(z, block, torch.tensor([False, True]))
    torch.testing.assert_close(got[:, :5], torch.nn.functional.logsigmoid(z[:, :5]))
    torch.testing.assert_close(got[:, 5:], torch.log_softmax(z[:, 5:], -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("exclusive", [True, False])
def test_one_member_and_masked_blocks_are_finite(dtype, exclusive):
    # block 0: one member; 1: fully masked; 2: partly masked; 3: masked but for one
    block = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3])
    mask = torch.tensor([False, True, True, False, True, False, False, True])
    for scale in (1.0, 1e4, -1e4):
        leaf = (torch.tensor([1.0, 0.5, -1.0, 1.0, 0.2, -1.0, -0.7, 0.3]) * scale).to(dtype).requires_grad_()
        out = block_log_softmax(leaf.masked_fill(mask, -torch.inf), block, torch.tensor([exclusive] * 4))
        assert out.dtype == dtype
        assert (out[mask] == -torch.inf).all() and out[~mask].isfinite().all()
        if exclusive:
            assert out[0] == 0 and out[6] == 0  # nobody competes with them
        out[~mask].sum().backward()
        assert leaf.grad.isfinite().all() and (leaf.grad[mask] == 0).all()


def test_a_loss_over_all_slots_of_a_masked_block_has_no_nan_gradient():
    leaf = torch.randn(4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    block, mask = torch.tensor([0, 0, 1, 1]), torch.tensor([True, True, False, False])
    lse = block_logsumexp(leaf.masked_fill(mask, -torch.inf), block, 2)
    assert lse[0] == -torch.inf and lse[1].isfinite()
    (lse[1] + block_log_softmax(leaf.masked_fill(mask, -torch.inf), block).exp().sum()).backward()
    assert leaf.grad.isfinite().all() and (leaf.grad[mask] == 0).all()


def test_a_masked_block_has_gradient_zero():
    leaf = torch.tensor([-torch.inf, -torch.inf, 1.0, 2.0], requires_grad=True)
    block_logsumexp(leaf, torch.tensor([0, 0, 1, 1]), 2)[1].backward()
    torch.testing.assert_close(leaf.grad, torch.tensor([0.0, 0.0, *torch.softmax(torch.tensor([1.0, 2.0]), 0)]))


def test_large_scores_in_float32_are_exact():
    z = torch.tensor([1e4, 1e4, -1e4, -1e4, -1e4, 0.0])
    got = block_log_softmax(z, torch.tensor([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(got, torch.tensor([-math.log(2), -math.log(2), -2e4 - math.log(2), -1e4, -1e4, 0.0]))


def test_bfloat16_is_summed_in_float32():
    z = torch.randn(64, 300, generator=torch.Generator().manual_seed(4)).mul(3).to(torch.bfloat16)
    block = torch.arange(300) % 3
    got, exact = block_log_softmax(z, block), block_log_softmax(z.float(), block)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, exact.to(torch.bfloat16))  # only the result is rounded, no sum on the way


@pytest.mark.parametrize("size", [4, 6, 1])
def test_blocks_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match=f"block has shape \\({size},\\).* 5"):
        block_log_softmax(torch.zeros(2, 5), torch.zeros(size, dtype=torch.long))
    with pytest.raises(ValueError, match="block has shape"):
        block_log_softmax(torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.long))


def test_no_slots_no_answers():
    assert block_log_softmax(torch.zeros(3, 0), torch.zeros(0, dtype=torch.long)).shape == (3, 0)

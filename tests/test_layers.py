"""Pointwise attention, whole and local: each way of computing it gives what its definition says."""

import math

import pytest
import torch

from benchmarks.attention import measure
from recsys.modeling.decoder.layers import GatedBlock, KeyValueCache, PointwiseAttention

B, D, H = 3, 16, 2


def some_input(length, seed=0):
    return torch.randn(B, length, D, generator=torch.Generator().manual_seed(seed))


def with_weights(part):
    """Return the module with weights large enough to matter, and a bias that differs by head and distance."""
    torch.manual_seed(1)
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return part.eval()


def by_definition(attention, x_BTD):
    """Return what ``attention`` should give, one pair of positions at a time."""
    projected = attention.to_qkv(x_BTD)
    gate, q, k, v = projected.mul(projected.sigmoid()).chunk(4, -1)
    mixed = torch.zeros_like(x_BTD)
    width = D // H
    for row in range(B):
        for head in range(H):
            part = slice(head * width, (head + 1) * width)
            for t in range(x_BTD.shape[1]):
                seen = range(0 if attention.window is None else max(t - attention.window + 1, 0), t + 1)
                logits = [q[row, t, part] @ k[row, s, part] / math.sqrt(width) for s in seen]
                buckets = [min(int(2 * math.log2(t - s + 1)), 23) for s in seen]
                logits = [one + attention.bias_HK[head, bucket] for one, bucket in zip(logits, buckets, strict=True)]
                weights = torch.stack([one * one.sigmoid() for one in logits])
                mixed[row, t, part] = weights @ v[row, list(seen), part]
    return attention.to_out(attention.norm(mixed) * gate)


@pytest.mark.parametrize("window", [None, 1, 3, 4, 11, 50])
@torch.no_grad()
def test_attention_is_its_definition_whatever_the_window(window):
    attention = with_weights(PointwiseAttention(D, H, window))
    for length in (1, 3, 4, 11, 12):
        x_BTD = some_input(length)
        torch.testing.assert_close(attention(x_BTD), by_definition(attention, x_BTD), rtol=1e-4, atol=1e-5)


def test_a_position_sees_its_last_w_positions_and_no_others_by_gradient():
    block = with_weights(GatedBlock(D, H, 0.0, 4))
    x_BTD = some_input(11).requires_grad_()
    out = block(x_BTD)
    for position in range(11):
        (gradient,) = torch.autograd.grad(out[:, position].square().sum(), x_BTD, retain_graph=True)
        seen = gradient.abs().amax((0, 2)) > 0
        assert seen.tolist() == [position - 4 < s <= position for s in range(11)]


def test_blocks_of_local_attention_have_the_gradients_of_all_pairs_under_a_mask():
    local, whole = with_weights(GatedBlock(D, H, 0.0, 3)), with_weights(GatedBlock(D, H, 0.0, 3))
    whole.attention._in_blocks = lambda q, k, v, _: whole.attention.mix(q, k, v, None)
    x_BTD = some_input(10)
    for block in (local, whole):
        block(x_BTD).square().sum().backward()
    for one, other in zip(local.parameters(), whole.parameters(), strict=True):
        assert one.grad.any()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [None, 2, 3])
@torch.no_grad()
def test_the_cache_gives_what_the_whole_sequence_gives_however_rows_are_padded(window):
    block, lengths = with_weights(GatedBlock(D, H, 0.0, window)), (5, 2, 4)
    x_BTD, later_BTD = some_input(5), some_input(4, seed=2)
    cache = KeyValueCache(1, B, H, D // H, 9, x_BTD)
    cache.add(torch.arange(5) < torch.tensor(lengths)[:, None])
    read = [block(x_BTD, cache.layers[0])]
    for step in (0, 1, 2, 3):
        cache.add(torch.ones(B, 1, dtype=torch.bool))
        read.append(block(later_BTD[:, step : step + 1], cache.layers[0]))
    for row, length in enumerate(lengths):
        whole = block(torch.cat([x_BTD[row, :length], later_BTD[row]])[None])[0]
        cached = torch.cat([read[0][row, :length], *(one[row] for one in read[1:])])
        torch.testing.assert_close(cached, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_closed_gate_lets_nothing_of_its_part_pass():
    block, x_BTD = with_weights(GatedBlock(D, H, 0.0)), some_input(6)
    block.gate_mlp.weight.zero_()
    block.gate_mlp.bias.fill_(-200)
    attended = x_BTD + block.attention(block.norm_attention(x_BTD))
    torch.testing.assert_close(block(x_BTD), attended)
    block.attention.to_qkv.weight[:D] = 0
    block.attention.to_qkv.bias[:D] = 0
    torch.testing.assert_close(block(x_BTD), x_BTD + block.attention.to_out.bias)


def test_the_memory_of_local_attention_grows_with_the_length_and_not_with_its_square():
    def largest(length):
        sizes = []

        def saved(tensor):
            sizes.append(tensor.numel())
            return tensor

        block = GatedBlock(D, H, 0.0, 8)  # its weights exist, so they can be counted
        with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
            block(some_input(length))
        return max(sizes)

    assert largest(512) <= 2.1 * largest(256)


def test_the_benchmark_of_attention_measures_whole_and_local_blocks():
    for window in (None, 8):
        measured = measure(40, window, n_steps=1)
        assert measured["ms"] > 0
        assert measured["mb"] >= 0

"""Building blocks of the decoder: causal pointwise attention, whole or local, its block and cache, day-gap buckets.

Shapes, here and in all of ``modeling``: B sequences, T positions, D width, H heads, V catalogue rows with padding,
N negatives, M positions with a target, Q queries, P pairs of query and past item, K list length.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

N_GAP_BUCKETS = 24
#: Added to what may not be seen: SiLU and its derivative are exactly 0 there.
_UNSEEN = -1e4
#: What a layer has read before, see :meth:`KeyValueCache.keep`.
LayerMemory: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Let nothing be learned or dropped while the context lasts."""
    was_training = model.training
    if was_training:  # else what is kept of a model at rest would be forgotten
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if was_training:
            model.train()


def gap_bucket(gap_days: Tensor) -> Tensor:
    """Return the bucket (int64, 0 … ``N_GAP_BUCKETS`` - 1) of a number of days: two buckets a doubling.

    >>> gap_bucket(torch.tensor([0, 1, 2, 7, 365, 100000])).tolist()
    [0, 2, 3, 6, 17, 23]
    """
    return (2 * torch.log2(gap_days.clamp(min=0).float() + 1)).long().clamp(max=N_GAP_BUCKETS - 1)


def at(x_BTD: Tensor, at_B: Tensor) -> Tensor:
    """Return what stands at one position of each row (B, 1, D)."""
    return x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), at_B].unsqueeze(1)


class PointwiseAttention(nn.Module):
    """Causal attention without a softmax: every pair of positions has a weight of its own, and a gate says what passes.

    A position sees itself and what came before, or the ``window`` last of these. Zhai et al. (2024, Actions Speak
    Louder than Words, equations 1-3): u, q, k, v = SiLU(W x), the weights are SiLU(q kᵀ + bias of the distance), and
    norm(weights · v) is multiplied by u. Here q kᵀ is divided by √(D/H), and the distance counts events: days are
    an input already. Its bias begins at 1: from near 0 the norm would divide by next to nothing.
    """

    def __init__(self, width: int, n_heads: int, window: int | None = None) -> None:
        super().__init__()
        self.n_heads, self.window = n_heads, window
        self.to_qkv = nn.Linear(width, 4 * width)
        self.to_out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias_HK = nn.Parameter(torch.ones(n_heads, N_GAP_BUCKETS))

    def forward(self, x_BTD: Tensor, memory: LayerMemory | None = None, at_B: Tensor | None = None) -> Tensor:
        """Return (B, T, D) mixed over earlier positions, also those in ``memory``; (B, 1, D) at ``at_B``, if given."""
        width = x_BTD.shape[-1]
        if at_B is None:
            u, q, k, v = functional.silu(self.to_qkv(x_BTD)).chunk(4, dim=-1)
        else:
            weight, bias = self.to_qkv.weight, self.to_qkv.bias
            asked_B1D = functional.linear(at(x_BTD, at_B), weight[: 2 * width], bias[: 2 * width])
            u, q = functional.silu(asked_B1D).chunk(2, dim=-1)
            k, v = functional.silu(functional.linear(x_BTD, weight[2 * width :], bias[2 * width :])).chunk(2, dim=-1)
        # (B, H, T, D/H)
        q, k, v = (part.view(*part.shape[:2], self.n_heads, -1).transpose(1, 2) for part in (q, k, v))
        if at_B is not None:
            mixed = self.mix(q, k, v, at_B[:, None, None] - torch.arange(x_BTD.shape[1], device=x_BTD.device))
        elif memory is not None:
            mixed = self.mix(q, *memory(k, v))
        elif self.window is None or q.shape[2] <= self.window:
            mixed = self.mix(q, k, v)
        else:
            mixed = self._in_blocks(q, k, v, self.window)
        return self.to_out(self.norm(mixed.transpose(1, 2).flatten(-2)) * u)

    def mix(self, q_BHTd: Tensor, k_BHSd: Tensor, v_BHSd: Tensor, distance: Tensor | None = None) -> Tensor:
        """Return (B, H, T, d), the sum of the values by their weights.

        ``distance`` ((B,) T, S) int64 is how many events a key lies before a query, negative where it may not be seen;
        None where queries and keys are the same T positions.
        """
        if distance is None:
            place_T = torch.arange(q_BHTd.shape[2], device=q_BHTd.device)
            distance = place_T[:, None] - place_T
        is_seen = distance >= 0 if self.window is None else (distance >= 0) & (distance < self.window)
        bias = self.bias_HK[:, gap_bucket(distance)].movedim(0, -3)  # (H, T, S) or (B, H, T, S)
        bias = bias.masked_fill(~is_seen.unsqueeze(-3), _UNSEEN)
        # A number for each pair and head of a batch: as few passes over them as can be.
        return functional.silu((q_BHTd / q_BHTd.shape[-1] ** 0.5) @ k_BHSd.mT + bias) @ v_BHSd

    def _in_blocks(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, size: int) -> Tensor:
        """Mix (B, H, T, d) in blocks of ``size``, each of which sees itself and the one before: 2 · size · T scores."""
        n_rows, n_heads, length, head_width = q_BHTd.shape
        # What fills the last block stands behind all that is read.
        q, k, v = (functional.pad(part, (0, 0, 0, -length % size)) for part in (q_BHTd, k_BHTd, v_BHTd))
        first = self.mix(q[:, :, :size], k[:, :, :size], v[:, :, :size])
        blocks = n_rows, n_heads, -1, size, head_width
        q, k, v = (part.reshape(blocks).transpose(1, 2) for part in (q, k, v))  # (B, blocks, H, size, d)
        k, v = (torch.cat([part[:, :-1], part[:, 1:]], dim=3) for part in (k, v))
        place = torch.arange(2 * size, device=q.device)
        rest = self.mix(q[:, 1:].flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), place[size:, None] - place)
        rest = rest.view(n_rows, -1, n_heads, size, head_width).transpose(1, 2).flatten(2, 3)
        return torch.cat([first, rest], dim=2)[:, :, :length]


class GatedBlock(nn.Module):
    """x + attention(norm(x)) (Xiong et al., 2020), then x + σ(W norm(x)) · mlp(norm(x)) (Borisyuk et al., 2024)."""

    def __init__(self, width: int, n_heads: int, dropout: float, window: int | None = None) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = PointwiseAttention(width, n_heads, window)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.gate_mlp = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, memory: LayerMemory | None = None, at_B: Tensor | None = None) -> Tensor:
        """Return (B, T, D), or (B, 1, D) at the positions ``at_B`` (B,) int64 alone.

        With ``memory``, the positions go on from those that it holds.
        """
        mixed_BTD = self.attention(self.norm_attention(x_BTD), memory, at_B)
        x_BTD = (x_BTD if at_B is None else at(x_BTD, at_B)) + self.dropout(mixed_BTD)
        h_BTD = self.norm_mlp(x_BTD)
        return x_BTD + self.dropout(self.gate_mlp(h_BTD).sigmoid() * self.mlp(h_BTD))


class KeyValueCache:
    """Keys and values of the positions already read, so that one more costs one pass over them; room for S at once."""

    def __init__(self, n_layers: int, n_rows: int, n_heads: int, head_width: int, n_slots: int, like: Tensor) -> None:
        shape = (n_layers, n_rows, n_heads, n_slots, head_width)
        self.key, self.value = like.new_zeros(shape), like.new_zeros(shape)
        self.real_BS = torch.zeros(n_rows, n_slots, dtype=torch.bool, device=like.device)
        self.n_read = self.n_before = 0
        self.layers: list[LayerMemory] = [partial(self.keep, layer) for layer in range(n_layers)]

    def add(self, real_BT: Tensor) -> None:
        """Take the next slots for T positions, of which ``real_BT`` (B, T) bool are not padding, if there is room."""
        n_read = self.n_read + real_BT.shape[1]
        if n_read > self.real_BS.shape[1]:
            raise ValueError(f"the cache has {self.real_BS.shape[1]} slots, {n_read} are needed")
        self.real_BS[:, self.n_read : n_read] = real_BT
        self.n_before, self.n_read = self.n_read, n_read

    def keep(self, layer: int, k_BHTd: Tensor, v_BHTd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep a layer's keys and values of the positions last added; return all held, and distances (B, T, S)."""
        key, value = self.key[layer], self.value[layer]
        key[:, :, self.n_before : self.n_read] = k_BHTd
        value[:, :, self.n_before : self.n_read] = v_BHTd
        real_BS = self.real_BS[:, : self.n_read]
        place_BS = real_BS.cumsum(1)
        distance_BTS = place_BS[:, self.n_before :, None] - place_BS[:, None]
        distance_BTS = distance_BTS.masked_fill(~real_BS[:, None], -1)
        return key[:, :, : self.n_read], value[:, :, : self.n_read], distance_BTS

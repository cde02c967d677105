"""Building blocks of the decoder: causal attention, feed-forward, pre-norm block, day-gap buckets.

Shapes, here and in all of ``modeling``: B sequences, T positions, D width, H heads, V catalogue rows with padding,
N negatives, M positions with a target, Q queries, P pairs of query and past item, K list length.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

N_GAP_BUCKETS = 24


def gap_bucket(gap_days: Tensor) -> Tensor:
    """Return the bucket (int64, 0 … ``N_GAP_BUCKETS`` - 1) of a number of days: two buckets a doubling.

    >>> gap_bucket(torch.tensor([0, 1, 2, 7, 365, 100000])).tolist()
    [0, 2, 3, 6, 17, 23]
    """
    return (2 * torch.log2(gap_days.clamp(min=0).float() + 1)).long().clamp(max=N_GAP_BUCKETS - 1)


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position sees itself and what came before.

    Without dropout inside: it would cost the fused kernel, a third of the time of a step on a processor.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, memory: "LayerMemory | None" = None) -> Tensor:
        """Return (B, T, D) mixed over earlier positions, those in ``memory`` included."""
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, D/H)
            for part in self.to_qkv(x_BTD).chunk(3, dim=-1)
        )
        if memory is None:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mixed = memory.attend(q, k, v)
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(-2))
        return out


class Block(nn.Module):
    """Pre-norm transformer block (Xiong et al., 2020): x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, n_heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, memory: "LayerMemory | None" = None) -> Tensor:
        """Return (B, T, D); with ``memory``, the positions go on from those that it holds."""
        x_BTD = x_BTD + self.dropout(self.attention(self.norm_attention(x_BTD), memory))
        out: Tensor = x_BTD + self.dropout(self.mlp(self.norm_mlp(x_BTD)))
        return out


class KeyValueCache:
    """Keys and values of the positions already read, so that one more costs one pass over them and no other work.

    Room for all positions is taken at once. Sequences of unequal length are padded on the right when they are first
    read; what is padding is never attended to, and what comes later stands behind it.

    Shapes: B sequences, S slots, T positions added, H heads.
    """

    def __init__(self, n_layers: int, n_rows: int, n_heads: int, head_width: int, n_slots: int, like: Tensor) -> None:
        shape = (n_layers, n_rows, n_heads, n_slots, head_width)
        self.key, self.value = like.new_zeros(shape), like.new_zeros(shape)
        self.real_BS = torch.zeros(n_rows, n_slots, dtype=torch.bool, device=like.device)
        self.n_read = self.n_before = 0
        self.layers = [LayerMemory(self, number) for number in range(n_layers)]

    def add(self, real_BT: Tensor) -> None:
        """Take the next slots for positions of which ``real_BT`` (B, T) bool are not padding.

        Raises:
            ValueError: there is no room for them.
        """
        n_read = self.n_read + real_BT.shape[1]
        if n_read > self.real_BS.shape[1]:
            raise ValueError(f"the cache has {self.real_BS.shape[1]} slots, {n_read} are needed")
        self.real_BS[:, self.n_read : n_read] = real_BT
        self.n_before, self.n_read = self.n_read, n_read

    def take(self, row: Tensor) -> None:
        """Go on with the sequences ``row`` (B',) int64, which may repeat and leave out."""
        self.key, self.value, self.real_BS = self.key[:, row], self.value[:, row], self.real_BS[row]


class LayerMemory:
    """One layer's part of a :class:`KeyValueCache`."""

    def __init__(self, cache: KeyValueCache, layer: int) -> None:
        self.cache, self.layer = cache, layer

    def attend(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
        """Keep keys and values of the positions last added; return what their queries attend to (B, H, T, d)."""
        cache = self.cache
        key, value = cache.key[self.layer], cache.value[self.layer]
        key[:, :, cache.n_before : cache.n_read] = k_BHTd
        value[:, :, cache.n_before : cache.n_read] = v_BHTd
        slots_S = torch.arange(cache.n_read, device=key.device)
        visible_TS = slots_S <= slots_S[cache.n_before :, None]
        mask = cache.real_BS[:, None, None, : cache.n_read] & visible_TS
        return functional.scaled_dot_product_attention(
            q_BHTd, key[:, :, : cache.n_read], value[:, :, : cache.n_read], attn_mask=mask
        )

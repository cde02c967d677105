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

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, D) mixed over earlier positions."""
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, D/H)
            for part in self.to_qkv(x_BTD).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
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

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, D)."""
        x_BTD = x_BTD + self.dropout(self.attention(self.norm_attention(x_BTD)))
        out: Tensor = x_BTD + self.dropout(self.mlp(self.norm_mlp(x_BTD)))
        return out

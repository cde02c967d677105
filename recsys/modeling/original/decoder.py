"""The original architectures: a decoder on article ids, and the same on frozen text vectors of articles.

Pre-norm blocks (Xiong et al., 2020), sinusoidal positions (Vaswani et al., 2017, section 3.5). Module names, sizes and
their order are the original ones. Shapes as in :mod:`recsys.modeling.decoder.layers`.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.modeling.decoder.layers import KeyValueCache, LayerMemory
from recsys.modeling.original.batches import PADDING, OriginalBatch


class SinusoidalPosEmb(nn.Module):
    """Sines, then cosines, of the position at D/2 wavelengths from 2 pi to 10,000 times that."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, positions: Tensor) -> Tensor:
        """Return (…, D) float32, the vector of each position (…)."""
        half = self.width // 2
        exponent = torch.arange(half, device=positions.device) / max(half - 1, 1)
        angle = positions[..., None] * torch.exp(-math.log(10_000) * exponent)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TransformerBlock(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.multihead_attn = nn.MultiheadAttention(width, n_heads, dropout=0.1, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ELU(), nn.Linear(4 * width, width))

    def forward(self, x_BTD: Tensor, hidden_TT: Tensor, padding_BT: Tensor) -> Tensor:
        """Return (B, T, D); True in ``hidden_TT`` and ``padding_BT`` marks what may not be attended to."""
        h_BTD = self.norm1(x_BTD)
        masks = {"attn_mask": hidden_TT, "key_padding_mask": padding_BT}
        mixed_BTD, _ = self.multihead_attn(h_BTD, h_BTD, h_BTD, **masks, need_weights=False)
        return self._with_mlp(x_BTD + mixed_BTD)

    def extend(self, x_BTD: Tensor, memory: LayerMemory) -> Tensor:
        """Return (B, T, D) for positions that go on from those in ``memory``; without dropout, as when asked."""
        attention = self.multihead_attn
        qkv_BTE = functional.linear(self.norm1(x_BTD), attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = (
            part.view(*part.shape[:2], attention.num_heads, -1).transpose(1, 2)  # (B, H, T, D/H)
            for part in qkv_BTE.chunk(3, dim=-1)
        )
        k, v, distance_BTS = memory(k, v)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=distance_BTS[:, None] >= 0)
        return self._with_mlp(x_BTD + attention.out_proj(mixed.transpose(1, 2).flatten(-2)))

    def _with_mlp(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.mlp(self.norm2(x_BTD))


class Transformer(nn.Module):
    """What follows each position of ``<sos> item … item <eos>``; ``vectors`` (V, D) of tokens are never learned."""

    vectors: Tensor

    def __init__(
        self, num_embeds: int, width: int, *, num_heads: int = 8, num_layers: int = 8, vectors: Tensor | None = None
    ) -> None:
        super().__init__()
        if vectors is None:
            self.embedding = nn.Embedding(num_embeds, width)
        else:
            self.register_buffer("vectors", vectors)
        self.learned_vectors = vectors is None
        self.pos_emb = SinusoidalPosEmb(width)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads) for _ in range(num_layers))
        self.fc_out = nn.Linear(width, num_embeds)
        self.num_heads = num_heads

    def forward(self, token_BT: Tensor) -> Tensor:
        """Return the state (B, T, D) after each token (B, T) int64; ``fc_out`` makes logits of it. Padding is last."""
        positions_T = torch.arange(token_BT.shape[1], device=token_BT.device)
        x_BTD: Tensor = self.token_vectors(token_BT) + self.pos_emb(positions_T)
        hidden_TT, padding_BT = positions_T[None, :] > positions_T[:, None], token_BT == PADDING
        for block in self.blocks:
            x_BTD = block(x_BTD, hidden_TT, padding_BT)
        return x_BTD

    def token_vectors(self, token_BT: Tensor) -> Tensor:
        return self.embedding(token_BT) if self.learned_vectors else self.vectors[token_BT]

    def new_cache(self, n_rows: int, n_slots: int) -> KeyValueCache:
        n_heads, weight = self.num_heads, self.fc_out.weight
        return KeyValueCache(len(self.blocks), n_rows, n_heads, weight.shape[1] // n_heads, n_slots, weight)

    def extend(self, token_BT: Tensor, position_BT: Tensor, cache: KeyValueCache) -> Tensor:
        """Return the state (B, T, D) after each token behind those in ``cache``, which then holds these as well."""
        cache.add(token_BT != PADDING)
        x_BTD: Tensor = self.token_vectors(token_BT) + self.pos_emb(position_BT)
        for block, memory in zip(self.blocks, cache.layers, strict=True):
            x_BTD = cast("TransformerBlock", block).extend(x_BTD, memory)
        return x_BTD


def next_tokens(model: Transformer, batch: OriginalBatch) -> tuple[Tensor, Tensor]:
    """Return logits (M, V) and targets (M,) of the positions that have one."""
    has_target_BT = batch.target_BT != PADDING
    return model.fc_out(model(batch.token_BT)[has_target_BT]), batch.target_BT[has_target_BT]


def loss_and_entropy(logits_MV: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p(target) (M,), and the entropy of each prediction (M,) in nats, through which no gradient flows."""
    log_p_MV = logits_MV.float().log_softmax(dim=-1)
    loss_M = functional.nll_loss(log_p_MV, target_M, reduction="none")
    with torch.no_grad():
        entropy_M = -(log_p_MV.exp() * log_p_MV).sum(dim=-1)
    return loss_M, entropy_M

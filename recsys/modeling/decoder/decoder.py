"""The two towers: item vectors, and a causal transformer over purchases that is asked at a date."""

import torch
from torch import Tensor, nn

from recsys.config import ModelConfig
from recsys.modeling.decoder.layers import N_GAP_BUCKETS, GatedBlock, KeyValueCache, gap_bucket


class ItemTower(nn.Module):
    """vector[item] = own[item] + the mean of attribute[value] over what the item table may say of it.

    A tenth of the own parts is left out at random while training, so that attributes learn to place an item that nobody
    has bought yet (Volkovs et al., 2017, DropoutNet). N rows: padding, the items, the start mark; A attributes.
    """

    def __init__(self, n_rows: int, width: int, attributes_NA: Tensor, id_dropout: float = 0.1) -> None:
        """Take N, D, the codes (N, A) int64 over all columns, 0 where nothing is known, and the share left out."""
        super().__init__()
        self.id_dropout = id_dropout
        self.own = nn.Embedding(n_rows, width, padding_idx=0)
        self.attributes_NA = nn.Buffer(attributes_NA, persistent=False)
        n_codes = int(attributes_NA.max()) + 1 if attributes_NA.numel() else 0
        self.attribute = nn.EmbeddingBag(n_codes, width, mode="sum", padding_idx=0) if n_codes else None

    def forward(self, item: Tensor) -> Tensor:
        """Return the vectors (…, D) of the rows ``item`` (…) int64."""
        vector: Tensor = self.own(item)
        if self.attribute is None:
            return vector
        if self.training and self.id_dropout:
            # One draw a row and call: an item that occurs twice in a batch must not give itself away.
            known_N = torch.rand(len(self.attributes_NA), device=vector.device) >= self.id_dropout
            vector = vector * known_N[item].unsqueeze(-1)
        described: Tensor = self.attribute(self.attributes_NA[item.flatten()])
        # Of twenty columns that learn together a sum would move twenty times as fast as the own part.
        return vector + described.view_as(vector) / self.attributes_NA.shape[1]


class Decoder(nn.Module):
    """Turn item vectors and day gaps into one state per position, which sees no later one, and states into queries."""

    def __init__(self, config: ModelConfig, *, has_dates: bool = True) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.position = nn.Embedding(config.max_length, config.width)
        reads_gaps = config.time_gaps and has_dates
        self.gap = nn.Embedding(N_GAP_BUCKETS, config.width) if reads_gaps else None
        self.until_query = nn.Embedding(N_GAP_BUCKETS, config.width) if reads_gaps else None
        self.dropout = nn.Dropout(config.dropout)
        sizes = config.width, config.n_heads, config.dropout, config.attention_window
        self.blocks = nn.Sequential(*(GatedBlock(*sizes) for _ in range(config.n_layers)))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, item_vectors_BTD: Tensor, gap_days_BT: Tensor, at_B: Tensor | None = None) -> Tensor:
        """Return the state (B, T, D) after each event, or after one of each row, ``at_B`` (B,), alone (B, 1, D).

        Gaps are int64 days since the event before, 0 at the start.
        """
        positions_T = torch.arange(item_vectors_BTD.shape[1], device=item_vectors_BTD.device)
        x_BTD: Tensor = self.blocks[:-1](self._inputs(item_vectors_BTD, gap_days_BT, positions_T))
        return self.blocks[-1](x_BTD, at_B=at_B)

    def new_cache(self, n_rows: int, n_slots: int) -> KeyValueCache:
        """Return an empty cache for ``n_rows`` sequences of ``n_slots`` positions at most."""
        weight = self.position.weight
        return KeyValueCache(len(self.blocks), n_rows, self.n_heads, weight.shape[1] // self.n_heads, n_slots, weight)

    def extend(
        self, item_vectors_BTD: Tensor, gap_days_BT: Tensor, position_BT: Tensor, real_BT: Tensor, cache: KeyValueCache
    ) -> Tensor:
        """Return the state (B, T, D) after each event behind those in ``cache``, which then holds these as well."""
        cache.add(real_BT)
        x_BTD = self._inputs(item_vectors_BTD, gap_days_BT, position_BT)
        for block, memory in zip(self.blocks, cache.layers, strict=True):
            x_BTD = block(x_BTD, memory)
        return x_BTD

    def _inputs(self, item_vectors_BTD: Tensor, gap_days_BT: Tensor, position: Tensor) -> Tensor:
        x_BTD = item_vectors_BTD + self.position(position)
        if self.gap is not None:
            x_BTD = x_BTD + self.gap(gap_bucket(gap_days_BT))
        return self.dropout(x_BTD)

    def query_at(self, state_MD: Tensor, days_until_query_M: Tensor) -> Tensor:
        """Return query vectors (M, D): each state asked ``days_until_query_M`` (M,) int64 days after its event."""
        if self.until_query is not None:
            state_MD = state_MD + self.until_query(gap_bucket(days_until_query_M))
        return self.norm(state_MD)

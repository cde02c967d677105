"""Item vectors: what was learned of each item alone, and what it shares with items that are described alike."""

from typing import Final

import torch
from torch import Tensor, nn

#: Share of items without an own part in a training step: enough for attributes to learn to place an item alone, while
#: nine in ten items still learn their own part.
ID_DROPOUT: Final = 0.1


class ItemTower(nn.Module):
    """vector[item] = own[item] + the mean of attribute[value] over what the item table may say of it.

    The own part is left out at random while training, so that attributes learn to place an item without it, and
    with them an item that nobody has bought yet (Volkovs et al., 2017, DropoutNet).

    Shapes: N rows (padding, the items, the start mark), A attributes of an item, D width.
    """

    def __init__(self, n_rows: int, width: int, attributes_NA: Tensor, id_dropout: float = ID_DROPOUT) -> None:
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

"""Item vectors: what was learned of each item alone, and what it shares with items that are described alike."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ItemTower(nn.Module):
    """vector[item] = own[item] + the mean of attribute[value] over what the item table may say of it + W text[item].

    The own part is left out at random while training, so that attributes and texts learn to place an item without it,
    and with them an item that nobody has bought yet (Volkovs et al., 2017, DropoutNet).

    Shapes: N rows (padding, the items, the start mark), A attributes of an item, E width of a text vector, D width.
    """

    text_NE: Tensor | None

    def __init__(
        self, n_rows: int, width: int, attributes_NA: Tensor, id_dropout: float, text_NE: Tensor | None = None
    ) -> None:
        """Take what is known of each row.

        Args:
            n_rows: N.
            width: D.
            attributes_NA: codes (N, A) int64 over all columns, 0 where nothing is known.
            id_dropout: share of items without an own part in a training step.
            text_NE: frozen vectors (N, E) as of :func:`scaled_texts`, kept with the weights; none by default.
        """
        super().__init__()
        self.id_dropout = id_dropout
        self.own = nn.Embedding(n_rows, width, padding_idx=0)
        self.register_buffer("attributes_NA", attributes_NA, persistent=False)
        self.attributes_NA: Tensor
        n_codes = int(attributes_NA.max()) + 1 if attributes_NA.numel() else 0
        self.attribute = nn.EmbeddingBag(n_codes, width, mode="sum", padding_idx=0) if n_codes else None
        self.register_buffer("text_NE", text_NE)
        self.from_text = None if text_NE is None else nn.Linear(text_NE.shape[1], width, bias=False)

    @torch.no_grad()
    def forget(self, item_U: Tensor) -> None:
        """Take the own part away from the rows ``item_U`` (U,) int64: their attributes and texts alone place them."""
        self.own.weight[item_U] = 0

    def forward(self, item: Tensor) -> Tensor:
        """Return the vectors (…, D) of the rows ``item`` (…) int64."""
        vector: Tensor = self.own(item)
        if self.attribute is None and self.from_text is None:
            return vector
        if self.training and self.id_dropout:
            # One draw a row and call: an item that occurs twice in a batch must not give itself away.
            known_N = torch.rand(len(self.attributes_NA), device=vector.device) >= self.id_dropout
            vector = vector * known_N[item].unsqueeze(-1)
        if self.attribute is not None:
            described: Tensor = self.attribute(self.attributes_NA[item.flatten()])
            # Of twenty columns that learn together a sum would move twenty times as fast as the own part.
            vector = vector + described.view_as(vector) / self.attributes_NA.shape[1]
        if self.from_text is not None and self.text_NE is not None:
            vector = vector + self.from_text(self.text_NE[item])
        return vector


def scaled_texts(vectors_VE: Tensor) -> Tensor:
    """Return the rows (N, E) that :class:`ItemTower` reads of the text vectors (V, E) of the items, padding first.

    Each number has mean 0 and deviation 1 over the items, then all are divided by E: the E weights of a number of an
    item's vector learn together, and would else move it E times as fast as its own part. Padding and the start mark,
    which is added last, are 0.
    """
    items_IE = vectors_VE[1:].float()
    deviation_E = items_IE.std(0, correction=0).clamp(min=1e-6)
    scaled_IE = (items_IE - items_IE.mean(0)) / deviation_E / items_IE.shape[1]
    return functional.pad(scaled_IE, (0, 0, 1, 1))

"""Score of every item from what it sold before the day, and how it is promoted then."""

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from recsys.modeling.decoder.components.base import Component, RuleAndNetwork, Sizes
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.scores import DayScores
from recsys.signals.sales import ITEM_FEATURES, OWN_FEATURES, coming_columns, own_columns


class SalesComponent(Component):
    """Begin as "what sold last week sells next week"; what never sold gets a learned share of its categories' sales."""

    name = "sales"
    position = 10
    learns_from_cold_items = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.n_promoted, self.columns = sizes.n_promoted, own_columns(sizes.n_promoted)
        names = (*OWN_FEATURES, *[""] * sizes.n_promoted)
        self.of_categories = nn.Parameter(torch.tensor(0.5)) if sizes.codes.n_category_codes else None
        self.net = RuleAndNetwork(names, {"sold_7": 1.0}, (16,))
        self._kept: tuple[tuple[Tensor, ...], Tensor] | None = None

    def init_scales(self, queries: QueryTensors, item_rows_NF: Tensor) -> None:
        self.net.scale.fit(item_rows_NF[:, self.columns])

    def train(self, mode: bool = True) -> Self:
        """Set training mode; scores that were kept of earlier weights are forgotten."""
        self._kept = None
        return super().train(mode)

    def score(self, queries: QueryTensors) -> DayScores:
        scores = DayScores(self.of_table, queries.item_features, queries.day_place_Q)
        if self.training or not torch.is_inference_mode_enabled():
            return scores
        # While nothing is learned, those who ask at the same days share the scores.
        asked = [table.data_ptr() for table in queries.item_features]
        if self._kept is None or [table.data_ptr() for table in self._kept[0]] != asked:
            self._kept = queries.item_features, scores.score_SV
        return replace(scores, kept_SV=self._kept[1])

    def of_table(self, features_VF: Tensor) -> Tensor:
        """Return the scores (V,) from the item features (V, F) of a snapshot."""
        score_V: Tensor = self.net(features_VF[:, self.columns])
        if self.of_categories is None:
            return score_V
        return score_V + self.of_categories * features_VF[:, ITEM_FEATURES.index("category_sold_7")]

    def promotion_contribution(self, features_VF: Tensor) -> Tensor:
        """Return what each score (V,) owes to promotions planned for the week asked."""
        unplanned_VF = features_VF.clone()
        unplanned_VF[:, coming_columns(self.n_promoted)] = 0
        return self.of_table(features_VF) - self.of_table(unplanned_VF)

    @torch.no_grad()
    def scale_(self, factor: float) -> None:
        super().scale_(factor)
        if self.of_categories is not None:
            self.of_categories.mul_(factor)

"""Score of every item that others bought together with a user's past items, from a summary of these."""

from torch import Tensor

from recsys.modeling.decoder.components.base import Component, RuleAndNetwork, Sizes
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.scores import PairScores
from recsys.signals.co_purchases import CO_PURCHASE_FEATURES


class CoPurchaseComponent(Component):
    """Begin with half the logarithm of how much likelier past items make an item, and learn what differs."""

    name = "co_purchases"
    position = 40
    reads_lifts = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.n_rows = len(sizes.codes.groups)
        self.net = RuleAndNetwork(CO_PURCHASE_FEATURES, {"lift": 0.5}, (16,))

    def init_scales(self, queries: QueryTensors, item_rows_NF: Tensor) -> None:
        self.net.scale.fit(queries.co_purchase_features_CF)

    def score(self, queries: QueryTensors) -> PairScores | None:
        if not len(queries.co_purchase_query_C):
            return None
        score_C = self.net(queries.co_purchase_features_CF)
        return PairScores(queries.co_purchase_query_C, queries.co_purchase_item_C, score_C, len(queries), self.n_rows)

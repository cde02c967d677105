"""Logit of a user's past item from a summary of the whole history and the item's sales."""

import math

import torch
from torch import Tensor

from recsys.modeling.decoder.components.base import Component, RuleAndNetwork, Sizes
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.signals.past_items import PAST_FEATURES
from recsys.signals.sales import OWN_FEATURES, coming_columns, own_columns


class PastItemComponent(Component):
    """Stand in the place of all other components for past items, so one softmax covers the catalogue and the own past.

    It begins as the rule "again what you bought, the more often and the later the sooner"; sales break ties.
    """

    name = "past_items"
    position = 20

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        promoted = [""] * sizes.n_promoted
        self.n_promoted, self.columns = sizes.n_promoted, own_columns(sizes.n_promoted)
        self.n_past = len(PAST_FEATURES) + sizes.n_promoted
        names = (*PAST_FEATURES, *promoted, *OWN_FEATURES, *promoted)
        rule = {"decayed_20": 1.0, "decayed_60": 0.5, "sold_7": 0.1}
        self.net = RuleAndNetwork(names, rule, (96, 96))

    def rows(self, queries: QueryTensors, item_features_PF: Tensor | None = None) -> Tensor:
        """Return what is read of each past item (P, F), with the item features of its day by default."""
        of_items_PF = queries.past_item_features() if item_features_PF is None else item_features_PF
        return torch.cat([queries.past_features_PF[:, : self.n_past], of_items_PF[:, self.columns]], dim=-1)

    def init_scales(self, queries: QueryTensors, item_rows_NF: Tensor) -> None:
        self.net.scale.fit(self.rows(queries))

    def logits(self, queries: QueryTensors, item_features_PF: Tensor | None = None) -> Tensor:
        """Return the logits (P,) of the past items."""
        return self.net(self.rows(queries, item_features_PF))

    def promotion_contribution(self, queries: QueryTensors) -> Tensor:
        """Return what each logit (P,) owes to promotions planned for the week asked."""
        unplanned_PF = queries.past_item_features()  # a copy
        unplanned_PF[:, coming_columns(self.n_promoted)] = 0
        return self.logits(queries) - self.logits(queries, unplanned_PF)

    @torch.no_grad()
    def init_even_chance(self, queries: QueryTensors, log_partition: float) -> None:
        """Let a user's past items together weigh as much as a catalogue whose log of the sum of exp(logit) is given."""
        # From 0 they would have to climb a way that a short training does not go.
        rows_PF = self.rows(queries)
        if len(rows_PF):
            n_queries = len(torch.unique(queries.past_query_P))
            shift = log_partition + math.log(n_queries) - float(self.net.rule(rows_PF).logsumexp(0))
            self.net.out.bias.fill_(shift)

    @torch.no_grad()
    def shift_(self, shift: float) -> None:
        self.net.out.bias.add_(shift)

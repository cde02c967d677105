"""Heads: an item's score by its sales at the date, or its categories', and a past item's by the customer's rhythm with it.

Scores are float32 under autocast too: they are summed, and small differences of their sums decide.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from recsys.signals.co_purchases import CO_PURCHASE_FEATURES
from recsys.signals.history import CATEGORY_FEATURES, PAST_FEATURES
from recsys.signals.sales import ITEM_FEATURES, OWN_FEATURES, own_columns

#: Rows that go through a head at a time: what its layers make of them fits into a core's cache.
_BLOCK = 8192


class Scale(nn.Module):
    """Inputs of mean 0 and deviation 1, as far as the rows that it was fitted to go, and never beyond these.

    What never varied there stays 0: a weight on it would be learned as a constant, and act as chance once it varies.
    The scales are weights of the model like any other: fitted once to the training part and stored with it.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(n_features))
        self.register_buffer("deviation_F", torch.ones(n_features))
        self.register_buffer("low_F", torch.full((n_features,), -torch.inf))
        self.register_buffer("high_F", torch.full((n_features,), torch.inf))
        self.mean_F: Tensor
        self.deviation_F: Tensor
        self.low_F: Tensor
        self.high_F: Tensor

    def fit(self, rows_PF: Tensor) -> None:
        """Take mean, deviation and range of ``rows_PF`` (P, F); of what never varies, only the mean."""
        if len(rows_PF) > 1:
            self.mean_F.copy_(rows_PF.mean(0))
            deviation_F = rows_PF.std(0)
            varies_F = deviation_F > 1e-6
            self.deviation_F.copy_(torch.where(varies_F, deviation_F, torch.ones_like(deviation_F)))
            self.low_F.copy_(torch.where(varies_F, rows_PF.amin(0), self.mean_F))
            self.high_F.copy_(torch.where(varies_F, rows_PF.amax(0), self.mean_F))

    def forward(self, rows_PF: Tensor) -> Tensor:
        """Return the rows (…, F), scaled."""
        return (rows_PF.clamp(self.low_F, self.high_F) - self.mean_F) / self.deviation_F


class SalesComponent(nn.Module):
    """Score of every item from what it sold before a date, and how it is promoted then.

    It begins as the rule of thumb that every item sells next week as it did in the last, and learns what differs. One
    that never sold gets a share of what its categories sold, which begins at a half and is learned too.
    """

    def __init__(self, hidden: int = 16, *, reads_kinds: bool = True, n_promoted: int = 0) -> None:
        """Take how many features of promotions there are beside ``features.ITEM_FEATURES``."""
        super().__init__()
        self.columns = own_columns(n_promoted)
        n_features = len(OWN_FEATURES) + n_promoted
        self.rule = _rule((*OWN_FEATURES, *[""] * n_promoted), {"sold_7": 1.0})
        self.of_kinds = nn.Parameter(torch.tensor(0.5)) if reads_kinds else None
        self.scale = Scale(n_features)
        self.mlp = nn.Sequential(nn.Linear(n_features, hidden), nn.GELU(), nn.Linear(hidden, 1))
        _begin_at_zero(self.mlp[-1])

    def begin(self, sales_NF: Tensor) -> None:
        """Scale the inputs as ``sales_NF`` (N, F) of items drawn at training dates ask for."""
        self.scale.fit(sales_NF[:, self.columns])

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply every score by ``factor``."""
        for weight in (self.rule.weight, *self.mlp[-1].parameters()):
            weight.mul_(factor)
        if self.of_kinds is not None:
            self.of_kinds.mul_(factor)

    def forward(self, sales_VF: Tensor) -> Tensor:
        """Return scores (…,) from the features (…, F) of :class:`recsys.signals.sales.ItemSales`."""
        of_kinds_V = sales_VF[..., ITEM_FEATURES.index("category_sold_7")]
        score_V = _in_blocks(self._score_own, sales_VF.flatten(0, -2)).view_as(of_kinds_V)
        return score_V if self.of_kinds is None else score_V + self.of_kinds * of_kinds_V

    def _score_own(self, sales_NF: Tensor) -> Tensor:
        own_NF = sales_NF[:, self.columns]
        score_N: Tensor = (self.rule(own_NF) + self.mlp(self.scale(own_NF))).squeeze(-1).float()
        return score_N


class PastItemComponent(nn.Module):
    """Score of a customer's past item from a summary of the whole history, the item's sales, and the decoder's query.

    It stands in the place of the catalogue's logit of that item, so one softmax covers the catalogue and the own past.
    It begins as the rule "buy again what you bought, the more often and the later the sooner", what sells more first
    where that says nothing, and learns what differs: no seed begins with the wrong order.
    """

    def __init__(self, width: int, hidden: int = 96, query_hidden: int = 32, *, n_promoted: int = 0) -> None:
        """Take the width of a query, and how many features of promotions there are beside past ones and sales each."""
        super().__init__()
        promoted = [""] * n_promoted
        names = (*PAST_FEATURES, *promoted, *OWN_FEATURES, *promoted)
        n_features = len(names)
        self.n_past = len(PAST_FEATURES) + n_promoted
        self.rule = _rule(names, {"decayed_20": 1.0, "decayed_60": 0.5, "sold_7": 0.1})
        self.scale = Scale(n_features)
        self.from_query = nn.Linear(width, query_hidden)
        self.mlp = nn.Sequential(
            nn.Linear(n_features + query_hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.out = nn.Linear(hidden, 1)
        _begin_at_zero(self.out)

    @torch.no_grad()
    def begin(self, rows_PF: Tensor, n_queries: int, log_catalogue: float) -> None:
        """Scale the inputs as ``rows_PF`` (P, F) of ``n_queries`` ask for, and give past items an even chance.

        A catalogue whose logits have ``log_catalogue`` as log of the sum of exp then weighs as much as a customer's
        past items together; from 0 they would have to climb a way that a short training does not go.
        """
        self.scale.fit(rows_PF)
        if len(rows_PF):
            self.out.bias.fill_(log_catalogue + math.log(n_queries) - float(self.rule(rows_PF).logsumexp(0)))

    @torch.no_grad()
    def multiply(self, factor: float, shift: float) -> None:
        """Multiply every logit by ``factor``, then add ``shift``."""
        for weight in (self.rule.weight, *self.out.parameters()):
            weight.mul_(factor)
        self.out.bias.add_(shift)

    def forward(self, past_PF: Tensor, sales_PF: Tensor, query_QD: Tensor, past_query_P: Tensor) -> Tensor:
        """Return the logits (P,) of past items.

        Args:
            past_PF: features of each, see :class:`recsys.signals.history.PastItems`.
            sales_PF: of each at the date the columns ``features.own_columns`` of its sales.
            query_QD: the decoder's query of each query.
            past_query_P: (P,) int64 query of each past item.
        """
        context_Q = self.from_query(query_QD)

        def score(past_PF: Tensor, sales_PF: Tensor, query_P: Tensor) -> Tensor:
            known_PF = torch.cat([past_PF[:, : self.n_past], sales_PF], dim=-1)
            learned_P1 = self.out(self.mlp(torch.cat([self.scale(known_PF), context_Q[query_P]], dim=-1)))
            logit_P: Tensor = (self.rule(known_PF) + learned_P1).squeeze(-1).float()
            return logit_P

        return _in_blocks(score, past_PF, sales_PF, past_query_P)


class CategoryComponent(nn.Module):
    """Score of every item of a kind that a customer has bought, from a summary of those purchases.

    Of the finest kind of an item it begins with half the logarithm of how much larger the kind's share of what the
    customer bought is than that of what sells; of others with nothing. It learns what differs.
    """

    def __init__(self, n_codes: int, is_finest: Tensor, hidden: int = 32, code_width: int = 8) -> None:
        """Take the number of codes of ``Purchases.categories``, 0 included, and which are of its first column."""
        super().__init__()
        self.rule = _rule(CATEGORY_FEATURES, {"lift": 0.5})
        self.register_buffer("is_finest", is_finest, persistent=False)
        self.is_finest: Tensor
        self.scale = Scale(len(CATEGORY_FEATURES))
        self.code = nn.Embedding(n_codes, code_width)
        nn.init.zeros_(self.code.weight)
        self.mlp = nn.Sequential(nn.Linear(len(CATEGORY_FEATURES) + code_width, hidden), nn.GELU())
        self.out = nn.Linear(hidden, 1)
        _begin_at_zero(self.out)

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply every score by ``factor``."""
        for weight in (self.rule.weight, *self.out.parameters()):
            weight.mul_(factor)

    def forward(self, kind_RF: Tensor, code_R: Tensor) -> Tensor:
        """Return the scores (R,) of the categories ``code_R`` (R,) int64 from ``features.CATEGORY_FEATURES`` (R, F)."""
        return _in_blocks(self._score, kind_RF, self.code(code_R), self.is_finest[code_R, None])

    def _score(self, kind_RF: Tensor, code_RE: Tensor, is_finest_R1: Tensor) -> Tensor:
        hidden_RH = self.mlp(torch.cat([self.scale(kind_RF), code_RE], dim=-1))
        score_R: Tensor = (self.rule(kind_RF) * is_finest_R1 + self.out(hidden_RH)).squeeze(-1).float()
        return score_R


class CoPurchaseComponent(nn.Module):
    """Score of every item that others bought with a customer's past items, from a summary of these.

    It begins with half the logarithm of how much likelier they make it, and learns what differs.
    """

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        n_features = len(CO_PURCHASE_FEATURES)
        self.rule = _rule(CO_PURCHASE_FEATURES, {"lift": 0.5})
        self.scale = Scale(n_features)
        self.mlp = nn.Sequential(nn.Linear(n_features, hidden), nn.GELU())
        self.out = nn.Linear(hidden, 1)
        _begin_at_zero(self.out)

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply every score by ``factor``."""
        for weight in (self.rule.weight, *self.out.parameters()):
            weight.mul_(factor)

    def forward(self, companion_CF: Tensor) -> Tensor:
        """Return the scores (C,) from ``co_purchases.CO_PURCHASE_FEATURES`` (C, F)."""
        return _in_blocks(self._score, companion_CF)

    def _score(self, companion_CF: Tensor) -> Tensor:
        score_C: Tensor = (self.rule(companion_CF) + self.out(self.mlp(self.scale(companion_CF)))).squeeze(-1).float()
        return score_C


class NeighbourComponent(nn.Module):
    """Score of every item that customers bought who bought the customer's past items too, whenever that was.

    Item-kNN (Sarwar et al., 2001; Deshpande and Karypis, 2004) beside the decoder: the logarithm of 1 + 1000 s, where s
    sums over past items, the newest first, the cosine of the sets of customers of the two. The sets are those of the
    training part, and stored with the weights. No loss reads the head: each pair that training asks for is in
    the counts itself, by the very customer asked, and would be learned as sure. Held-out purchases say what it weighs.

    Shapes: V rows of the catalogue with padding, K neighbours of each, P past items.
    """

    #: Neighbours of an item that are kept, and of all items together.
    max_neighbours, max_entries = 512, 1 << 23
    #: Past items that ask, and the number of newer ones by which a past item weighs half.
    max_past, half_life = 32, 4.0
    sharpness = 1000.0

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        n_neighbours = min(self.max_neighbours, n_rows, max(self.max_entries // n_rows, 1))
        self.register_buffer("weight", torch.ones(()))
        self.weight: Tensor
        self.register_buffer("neighbour_VK", torch.zeros(n_rows, n_neighbours, dtype=torch.int32))
        self.neighbour_VK: Tensor
        self.register_buffer("cosine_VK", torch.zeros(n_rows, n_neighbours))
        self.cosine_VK: Tensor

    def begin(self, neighbour_VK: Tensor, cosine_VK: Tensor) -> None:
        """Take the neighbours of each item, int32, and their cosines; 0 where there are fewer."""
        self.neighbour_VK.copy_(neighbour_VK)
        self.cosine_VK.copy_(cosine_VK)

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply every score by ``factor``."""
        self.weight.mul_(factor)

    def forward(self, query_P: Tensor, item_P: Tensor, age_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, item and score (C,) of all neighbours that are not past items, sorted by the first two.

        Args:
            query_P: (P,) int64 query of each past item, ascending.
            item_P: (P,) int64 its item_index.
            age_P: (P,) float how long ago it was bought last, in any unit; of the same age, the one that stands first.
        """
        n_rows = len(self.neighbour_VK)
        order_P = torch.argsort(age_P, stable=True)
        order_P = order_P[torch.argsort(query_P[order_P], stable=True)]
        rank_P = torch.arange(len(order_P), device=order_P.device) - torch.searchsorted(query_P, query_P)
        asks_P = rank_P < self.max_past
        asking_P, rank_P = order_P[asks_P], rank_P[asks_P]
        strength_PK = torch.exp2(-rank_P / self.half_life)[:, None] * self.cosine_VK[item_P[asking_P]]
        key_PK = query_P[asking_P, None] * n_rows + self.neighbour_VK[item_P[asking_P]]
        n_queries = int(query_P[-1]) + 1 if len(query_P) else 0
        key_C, strength_C = _added_up(key_PK.flatten(), strength_PK.flatten(), n_queries * n_rows)
        past_P = (query_P * n_rows + item_P).sort().values
        if len(key_C):
            is_new_C = past_P[torch.searchsorted(past_P, key_C).clamp(max=len(past_P) - 1)] != key_C
            key_C, strength_C = key_C[is_new_C], strength_C[is_new_C]
        return key_C // n_rows, key_C % n_rows, self.weight * torch.log1p(self.sharpness * strength_C)


def _added_up(key_N: Tensor, strength_N: Tensor, n_keys: int) -> tuple[Tensor, Tensor]:
    """Return the keys below ``n_keys`` with any strength, ascending, and the sums of their strengths, at least 0 each.

    In a table of all keys where it is not much larger than what goes in, which is ten times as fast as sorting.
    """
    if n_keys <= 8 * len(key_N):
        table = strength_N.new_zeros(n_keys).index_add_(0, key_N, strength_N)
        key_C = table.nonzero().squeeze(-1)
        return key_C, table[key_C]
    has_any_N = strength_N > 0
    key_C, place_n = torch.unique(key_N[has_any_N], return_inverse=True)
    return key_C, strength_N.new_zeros(len(key_C)).index_add_(0, place_n, strength_N[has_any_N])


def _in_blocks(score: Callable[..., Tensor], *tables: Tensor) -> Tensor:
    """Return ``score(*tables)``, (N,) of tables of N rows, made of ``_BLOCK`` rows at a time."""
    begins = range(0, max(len(tables[0]), 1), _BLOCK)
    return torch.cat([score(*(table[begin : begin + _BLOCK] for table in tables)) for begin in begins])


def _rule(names: tuple[str, ...], weights: dict[str, float]) -> nn.Linear:
    """Return a linear score of the features ``names``, which begins with the ``weights`` and 0 for the others."""
    rule = nn.Linear(len(names), 1, bias=False)
    with torch.no_grad():
        rule.weight.copy_(torch.tensor([[weights.get(name, 0.0) for name in names]]))
    return rule


def _begin_at_zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)

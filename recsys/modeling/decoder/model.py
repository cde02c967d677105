"""The whole model: item vectors, the decoder that reads a history, and the heads that answer at a date."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.config import ModelConfig
from recsys.modeling.decoder.components import (
    CategoryComponent,
    CoPurchaseComponent,
    NeighbourComponent,
    PastItemComponent,
    SalesComponent,
)
from recsys.modeling.decoder.decoder import Decoder
from recsys.modeling.decoder.inputs import Queries, Sequences
from recsys.modeling.decoder.item_tower import ItemTower
from recsys.signals.history import PAST_FEATURES
from recsys.signals.sales import ItemSales, coming_columns, own_columns


class PurchaseModel(nn.Module):
    """Score every item of the catalogue for a history at a date.

    logit(history, date, item) = query · vector[item] + bias[item] + sales_head(item, date) + the sum of
    kind_head(history, kind, date) over the item's categories + companion_head(history, item, date), for what is new to the
    customer; for a past item repeat_head(history, item, date, query) stands in its place. Where no date is asked,
    neighbour_head(history, item) stands for all heads.

    An item without a sale in the training part has no own vector, and the mean bias of those with one: what it shares
    with them by its attributes and categories places it.
    """

    def __init__(
        self,
        config: ModelConfig,
        attributes_VA: Tensor,
        categories_VC: Tensor,
        *,
        n_customer_codes: int = 1,
        n_promoted: int = 0,
    ) -> None:
        """Take ``Purchases.attributes`` (V, A) and ``Purchases.categories`` (V, C), int64, padding first.

        Of customers as many codes are read as are named, 0 among them, which says nothing; of promotions ``n_promoted``
        features.
        """
        super().__init__()
        self.config = config
        n_items = self.n_items = len(attributes_VA) - 1
        told_VA = attributes_VA if config.attributes else attributes_VA[:, :0]
        with_start = functional.pad(told_VA, (0, 0, 0, 1))  # the start mark has no attributes
        self.items = ItemTower(n_items + 2, config.width, with_start, config.id_dropout)
        self.item_bias = nn.Parameter(torch.zeros(n_items + 1))
        self.cold_items_U: Tensor | None = None  # item_index of what nothing but the sales head may learn from
        self.decoder = Decoder(config)
        self.user_codes = _code_vectors(n_customer_codes, config.width)
        self.register_buffer("categories_VC", categories_VC, persistent=False)
        self.categories_VC: Tensor
        self.n_codes = int(categories_VC.max()) + 1 if categories_VC.numel() else 0
        reads_kinds = config.kind_head and self.n_codes > 0
        self.n_promoted, self.own_columns = n_promoted, own_columns(n_promoted)
        self.sales_head = SalesComponent(reads_kinds=reads_kinds, n_promoted=n_promoted) if config.sales_head else None
        self.repeat_head = PastItemComponent(config.width, n_promoted=n_promoted) if config.repeat_head else None
        self.kind_head = None
        if reads_kinds:
            is_finest = torch.zeros(self.n_codes)
            is_finest[categories_VC[:, 0]] = 1
            self.kind_head = CategoryComponent(self.n_codes, is_finest)
        self.companion_head = CoPurchaseComponent() if config.companion_head else None
        self.neighbour_head = NeighbourComponent(n_items + 1) if config.neighbour_head else None
        # The heads keep PyTorch's own initialisation: so small a one would hold back two layers of 96.
        self.items.apply(_initialise)
        self.decoder.apply(_initialise)
        self._kept_vectors_VD: Tensor | None = None
        self.register_load_state_dict_post_hook(_forget_kept_vectors)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Set training mode; vectors that were kept of earlier weights are forgotten."""
        self._kept_vectors_VD = None
        return super().train(mode)

    def begin(self, counts_V: Tensor) -> None:
        """Take how often each item was sold in the training part, (V,) with 0 at padding, before any training.

        Else items that are not sold yet would be learned as what nobody ever buys: as negatives they only ever lose.
        """
        cold_items_U = (counts_V == 0).nonzero().flatten()[1:]
        self.cold_items_U = cold_items_U.to(self.item_bias.device) if len(cold_items_U) else None
        self.items.forget(cold_items_U)

    @torch.no_grad()
    def tie_cold_item_bias(self) -> None:
        """Give items without a sale the mean bias of those with one; no gradient ever reaches it."""
        if self.cold_items_U is not None:
            cold_items_U = self.cold_items_U = self.cold_items_U.to(self.item_bias.device)
            n_sold = self.n_items - len(cold_items_U)
            total = self.item_bias[1:].double().sum() - self.item_bias[cold_items_U].double().sum()
            self.item_bias[cold_items_U] = (total / max(n_sold, 1)).float()

    def is_sold(self) -> Tensor | None:
        """Return (V,) bool, whether an item may be learned from; None where all may."""
        if self.cold_items_U is None:
            return None
        sold_V = torch.ones_like(self.item_bias, dtype=torch.bool)
        sold_V[self.cold_items_U] = False
        return sold_V

    @property
    def item_vectors_VD(self) -> Tensor:
        """Vectors (V, D) of the catalogue, padding first; kept between calls while nothing is learned."""
        if self._kept_vectors_VD is not None:
            return self._kept_vectors_VD
        vectors_VD: Tensor = self.items(torch.arange(self.n_items + 1, device=self.item_bias.device))
        if torch.is_inference_mode_enabled() and not self.training:
            self._kept_vectors_VD = vectors_VD
        return vectors_VD

    def inputs(self, sequences: Sequences) -> Tensor:
        """Return what the decoder reads of each event (B, T, D): its item, at first the customer too.

        The customer stands at position 0, whether that is the start mark or the oldest event of a longer history, so
        every position sees it; a customer without history has no other.
        """
        x_BTD: Tensor = self.items(sequences.item_BT)
        if self.user_codes is not None:
            customer_BD = self.user_codes(sequences.customer_BC)
            x_BTD = torch.cat([x_BTD[:, :1] + customer_BD[:, None], x_BTD[:, 1:]], dim=1)
        return x_BTD

    def states(self, sequences: Sequences) -> Tensor:
        """Return the decoder's state (B, T, D) after each event."""
        states: Tensor = self.decoder(self.inputs(sequences), sequences.gap_days_BT)
        return states

    def query(self, states_BTD: Tensor, queries: Queries) -> Tensor:
        """Return the query vector (Q, D) of each query."""
        return self.decoder.ask(states_BTD[queries.row_Q, queries.position_Q], queries.days_until_query_Q)

    def catalogue_logits(self, query_QD: Tensor, queries: Queries, sales: ItemSales) -> Tensor:
        """Return logits (Q, V) of each query over the whole catalogue; padding is -inf."""
        logits_QV = (query_QD @ self.item_vectors_VD.T).float() + self.item_bias
        logits_QV = self.given(queries).add_to(logits_QV)
        logits_QV = _learned_where(self.is_sold(), logits_QV)
        if self.sales_head is not None:
            days, day_of_Q = torch.unique(queries.day_Q, return_inverse=True)
            tables_SVF, row_G = _tables(sales, days)
            logits_QV = logits_QV + self.sales_head(tables_SVF[row_G])[day_of_Q]
        past = queries.past_query_P, queries.past_item_P
        if self.repeat_head is not None and len(past[0]):
            logits_QV = logits_QV.index_put(past, self.past_logits(query_QD, queries, sales))
        logits_QV[:, 0] = -torch.inf
        return logits_QV

    def given(self, queries: Queries) -> "Given":
        """Return what the past items give to others: by their categories, and as what goes with them."""
        return Given(self.kind_scores(queries), self.companion_scores(queries), self.categories_VC)

    @property
    def gives_companions(self) -> bool:
        """Whether items get something for going with past ones."""
        return self.companion_head is not None or self.neighbour_head is not None

    def companion_scores(self, queries: Queries) -> "CompanionScores | None":
        """Return what items that go with the past ones get; None where nothing is given."""
        if self.neighbour_head is not None:
            age_P = queries.past_features_PF[:, PAST_FEATURES.index("age_last")]
            query_C, item_C, score_C = self.neighbour_head(queries.past_query_P, queries.past_item_P, age_P)
            return CompanionScores(query_C, item_C, score_C, self.n_items + 1) if len(query_C) else None
        if self.companion_head is None or not len(queries.co_purchase_query_C):
            return None
        score_C = self.companion_head(queries.co_purchase_features_CF)
        return CompanionScores(queries.co_purchase_query_C, queries.co_purchase_item_C, score_C, self.n_items + 1)

    def kind_scores(self, queries: Queries) -> "KindScores | None":
        """Return what the categories of the past items give to all items of these categories; None where nothing is given."""
        if self.kind_head is None or not len(queries.category_code_R):
            return None
        score_R = self.kind_head(queries.category_features_RF, queries.category_code_R)
        # Of all categories, those that somebody here has bought: a table of all would be as large as users times products.
        code_U, place_R = torch.unique(queries.category_code_R, return_inverse=True)
        score_UQ = score_R.new_zeros(len(code_U) + 1, len(queries.row_Q))
        score_UQ = score_UQ.index_put((place_R + 1, queries.category_query_R), score_R)
        row_of_code = torch.zeros(self.n_codes, dtype=torch.int64, device=score_R.device)
        row_of_code[code_U] = torch.arange(1, len(code_U) + 1, device=score_R.device)
        return KindScores(score_UQ, row_of_code)

    def pair_logits(
        self,
        query_QD: Tensor,
        queries: Queries,
        query_P: Tensor,
        item_P: Tensor,
        sales: ItemSales,
        given: "Given",
    ) -> Tensor:
        """Return logits (P,) of single (query, item) pairs, without the repeat head; ``given`` as of the queries."""
        # Far fewer items than pairs: each vector is made once.
        item_I, place_P = torch.unique(item_P, return_inverse=True)
        logit_P: Tensor = (query_QD[query_P] * self.items(item_I)[place_P]).sum(-1) + self.item_bias[item_P]
        if self.sales_head is not None:
            logit_P = logit_P + self.sales_head(sales_rows(sales, queries.day_Q[query_P], item_P))
        return logit_P + given.of_pairs(query_P, item_P)

    def shared_logits(
        self, query_QD: Tensor, queries: Queries, item_N: Tensor, sales: ItemSales, given: "Given"
    ) -> Tensor:
        """Return logits (Q, N) of the same items for every query, without the repeat head."""
        vectors_ND: Tensor = self.items(item_N)
        logits_QN = (query_QD @ vectors_ND.T).float() + self.item_bias[item_N]
        logits_QN = given.add_to(logits_QN, item_N)
        sold_V = self.is_sold()
        logits_QN = _learned_where(None if sold_V is None else sold_V[item_N], logits_QN)
        if self.sales_head is not None:
            days, day_of_Q = torch.unique(queries.day_Q, return_inverse=True)
            tables_SVF, row_G = _tables(sales, days)
            logits_QN = logits_QN + self.sales_head(tables_SVF[row_G[:, None], item_N])[day_of_Q]
        return logits_QN

    def log_catalogue(self, queries: Queries, sales: ItemSales) -> float:
        """Return the log of the sum of exp(logit) over the catalogue by the heads alone, on average over queries."""
        if not len(queries.row_Q):
            return math.log(self.n_items)
        logits_QV = self.item_bias.new_zeros(len(queries.row_Q), self.n_items + 1)
        for day in torch.unique(queries.day_Q):
            logits_QV[queries.day_Q == day] = self.sales_scores(sales, int(day))
        return float(self.given(queries).add_to(logits_QV)[:, 1:].logsumexp(-1).mean())

    def sales_scores(self, sales: ItemSales, day: int) -> Tensor:
        """Return what every item (V,) gets by its sales before ``day``; 0 without a head for them."""
        if self.sales_head is None:
            return torch.zeros_like(self.item_bias)
        tables_SVF, row = sales.tables([day])
        score_V: Tensor = self.sales_head(torch.from_numpy(tables_SVF[row[0]]).to(self.item_bias.device))
        return score_V

    def past_logits(self, query_QD: Tensor, queries: Queries, sales: ItemSales) -> Tensor:
        """Return the logits (P,) of the past items."""
        query_P, item_P = queries.past_query_P, queries.past_item_P
        if self.repeat_head is None:
            return self.pair_logits(query_QD, queries, query_P, item_P, sales, self.given(queries))
        sales_PF = self.own_sales(sales, queries)
        logit_P: Tensor = self.repeat_head(queries.past_features_PF, sales_PF, query_QD, query_P)
        return logit_P

    def promotion_contribution(self, query_QD: Tensor, queries: Queries, told_VF: Tensor) -> Tensor:
        """Return what each logit (Q, V) owes to promotions that are planned for the week asked.

        That is what it loses once nothing is planned. All queries are of one date.

        Args:
            query_QD: query of each query.
            queries: the queries.
            told_VF: features of :class:`recsys.signals.sales.ItemSales` at the date.
        """
        owed_QV = query_QD.new_zeros(len(query_QD), len(told_VF)).float()
        if not self.n_promoted:
            return owed_QV
        without_VF = told_VF.clone()
        without_VF[:, coming_columns(self.n_promoted)] = 0
        if self.sales_head is not None:
            owed_QV = owed_QV + self.sales_head(told_VF) - self.sales_head(without_VF)
        query_P, item_P = queries.past_query_P, queries.past_item_P
        if self.repeat_head is not None and len(query_P):
            logits = [
                self.repeat_head(queries.past_features_PF, one_VF[item_P][:, self.own_columns], query_QD, query_P)
                for one_VF in (told_VF, without_VF)
            ]
            owed_QV = owed_QV.index_put((query_P, item_P), logits[0] - logits[1])
        return owed_QV

    def own_sales(self, sales: ItemSales, queries: Queries) -> Tensor:
        """Return what the sales of each past item, and its promotions, say at its date (P, F) float32."""
        day_P = queries.day_Q[queries.past_query_P]
        return sales_rows(sales, day_P, queries.past_item_P)[:, self.own_columns]


def _code_vectors(n_codes: int, width: int) -> nn.EmbeddingBag | None:
    """Return vectors of codes that begin at 0, as does what they change; None where no code says anything.

    They are drawn from nothing, so a model that has them begins as one that has not.
    """
    if n_codes < 2:
        return None
    return nn.EmbeddingBag.from_pretrained(torch.zeros(n_codes, width), freeze=False, mode="mean", padding_idx=0)


def _learned_where(sold_N: Tensor | None, logits_QN: Tensor) -> Tensor:
    """Return the logits (Q, N), of which only those of items ``sold_N`` (N,) bool have a gradient; None is all."""
    return logits_QN if sold_N is None else torch.where(sold_N, logits_QN, logits_QN.detach())


def sales_rows(sales: ItemSales, day_P: Tensor, item_P: Tensor) -> Tensor:
    """Return the sales features (P, F) of each item at the start of its day."""
    days, day_of_P = torch.unique(day_P, return_inverse=True)
    tables_SVF, row_G = _tables(sales, days)
    return tables_SVF[row_G[day_of_P], item_P]


def _tables(sales: ItemSales, days: Tensor) -> tuple[Tensor, Tensor]:
    tables, row_G = sales.tables(days.tolist())
    return torch.from_numpy(tables).to(days.device), torch.from_numpy(row_G).to(days.device)


def _forget_kept_vectors(model: PurchaseModel, _: object) -> None:
    model.train(model.training)


@dataclass(frozen=True)
class KindScores:
    """What each kind that somebody has bought gives to its items, query by query.

    Shapes: U such categories, C categories of an item.
    """

    score_UQ: Tensor  # row 0 is 0: a kind that is in nobody's past
    row_of_code: Tensor  # (codes,) int64 row of each kind's code

    def of_items(self, code_NC: Tensor) -> Tensor:
        """Return what items of the categories ``code_NC`` (N, C) int64 get at every query (Q, N)."""
        return functional.embedding_bag(self.row_of_code[code_NC], self.score_UQ, mode="sum").T

    def of_pairs(self, query_P: Tensor, code_PC: Tensor) -> Tensor:
        """Return what an item of the categories ``code_PC`` (P, C) int64 gets at its query (P,)."""
        return self.score_UQ[self.row_of_code[code_PC], query_P[:, None]].sum(-1)


@dataclass(frozen=True)
class CompanionScores:
    """What items that go with the past ones get, one by one; C pairs, sorted by query, then item."""

    query_C: Tensor
    item_C: Tensor
    score_C: Tensor
    n_rows: int  # V

    def of_items(self, n_queries: int, item_N: Tensor) -> Tensor:
        """Return what the items ``item_N`` (N,) get at every query (Q, N)."""
        item_U, place_N = torch.unique(item_N, return_inverse=True)
        place_C = torch.searchsorted(item_U, self.item_C).clamp(max=len(item_U) - 1)
        met_C = item_U[place_C] == self.item_C
        table_QU = self.score_C.new_zeros(n_queries, len(item_U))
        table_QU = table_QU.index_put((self.query_C[met_C], place_C[met_C]), self.score_C[met_C])
        return table_QU[:, place_N]

    def of_pairs(self, query_P: Tensor, item_P: Tensor) -> Tensor:
        """Return what an item gets at its query (P,); 0 where it goes with nothing."""
        key_C = self.query_C * self.n_rows + self.item_C
        wanted_P = query_P * self.n_rows + item_P
        place_P = torch.searchsorted(key_C, wanted_P).clamp(max=len(key_C) - 1)
        return torch.where(key_C[place_P] == wanted_P, self.score_C[place_P], 0)


@dataclass(frozen=True)
class Given:
    """What a customer's purchases give to other items."""

    categories: KindScores | None
    co_purchases: CompanionScores | None
    categories_VC: Tensor

    def add_to(self, logits_QN: Tensor, item_N: Tensor | None = None) -> Tensor:
        """Return the logits (Q, N) of the items ``item_N`` (N,), by default the catalogue, with what is given."""
        if self.categories is not None:
            logits_QN = logits_QN + self.categories.of_items(
                self.categories_VC if item_N is None else self.categories_VC[item_N]
            )
        if self.co_purchases is None:
            return logits_QN
        if item_N is None:
            pairs = self.co_purchases.query_C, self.co_purchases.item_C
            return logits_QN.index_put(pairs, self.co_purchases.score_C, accumulate=True)
        return logits_QN + self.co_purchases.of_items(len(logits_QN), item_N)

    def of_pairs(self, query_P: Tensor, item_P: Tensor) -> Tensor:
        """Return what an item gets at its query (P,)."""
        parts = [] if self.categories is None else [self.categories.of_pairs(query_P, self.categories_VC[item_P])]
        if self.co_purchases is not None:
            parts.append(self.co_purchases.of_pairs(query_P, item_P))
        return sum(parts, start=torch.zeros((), device=query_P.device))


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding | nn.EmbeddingBag):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
        module.weight[module.padding_idx] = 0
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

"""The whole model: logit = item bias + the sum of what its components give, the transformer among them."""
# Long because: it is one class, and every form in which its sum is asked for stands beside the others.

import math
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.config import ModelConfig
from recsys.errors import UsageError
from recsys.modeling.decoder.components import SEQUENCE, Component, Sizes, chosen_components
from recsys.modeling.decoder.components.categories import CategoryComponent
from recsys.modeling.decoder.components.neighbours import NeighbourComponent
from recsys.modeling.decoder.components.past_items import PastItemComponent
from recsys.modeling.decoder.components.sales import SalesComponent
from recsys.modeling.decoder.decoder import Decoder
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.decoder.item_tower import ItemTower
from recsys.modeling.decoder.scores import ProductScores, Scores
from recsys.signals.item_codes import ItemCodes

C = TypeVar("C", bound=Component)


class PurchaseModel(nn.Module):
    """Score every item of the catalogue for a history at a day.

    logit(query, item) = bias[item] + Σ component(query, item). For a past item the component ``past_items``, where
    there is one, stands in the place of all others. The transformer is the component ``sequence``:
    query · vector[item].

    An item without a sale in the training part has no own vector, and the mean bias of those with one: what it shares
    with them by its attributes and categories places it.
    """

    def __init__(
        self, config: ModelConfig, codes: ItemCodes, *, has_dates: bool, n_user_codes: int = 1, n_promoted: int = 0
    ) -> None:
        """Build the components that ``config.components`` lists, not trained.

        Args:
            config: the settings of the model.
            codes: of the items.
            has_dates: whether the protocol asks at dates.
            n_user_codes: codes of users that are read, 0 among them, which says nothing.
            n_promoted: item features that tell of promotions; 0 where nothing is known of them.

        Raises:
            ConfigError: a component does not exist, or does not fit the protocol.
        """
        super().__init__()
        self.config, self.codes, self.has_dates, self.n_promoted = config, codes, has_dates, n_promoted
        n_items = self.n_items = len(codes.groups) - 1
        has_sequence = config.components is None or SEQUENCE in config.components
        sizes = Sizes(config.width if has_sequence else 0, codes, n_promoted)
        classes = chosen_components(config.components, sizes, has_dates=has_dates)
        self.item_tower: ItemTower | None = None
        self.decoder: Decoder | None = None
        if has_sequence:
            attributes_VA = torch.tensor(np.asarray(codes.attributes))
            attributes_VA = attributes_VA if config.attributes else attributes_VA[:, :0]
            with_start = functional.pad(attributes_VA, (0, 0, 0, 1))  # the start mark has no attributes
            self.item_tower = ItemTower(n_items + 2, config.width, with_start)
            self.decoder = Decoder(config, has_dates=has_dates)
        self.item_bias = nn.Parameter(torch.zeros(n_items + 1))
        self.user_codes: nn.EmbeddingBag | None = _code_vectors(n_user_codes, config.width) if has_sequence else None
        self.components = nn.ModuleDict({one.name: one(sizes) for one in classes})
        # Components keep PyTorch's own initialisation: so small a one would hold back two layers of 96.
        for part in (self.item_tower, self.decoder):
            if part is not None:
                part.apply(_initialise)
        self.cold_items_U: Tensor | None = None  # item_index of what was not sold in the training part
        self._kept_vectors_VD: Tensor | None = None
        self.register_load_state_dict_post_hook(_forget_kept_vectors)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Set training mode; vectors that were kept of earlier weights are forgotten."""
        self._kept_vectors_VD = None
        return super().train(mode)

    @torch.no_grad()
    def extended(self, codes: ItemCodes) -> "PurchaseModel":
        """Return a model of the same weights over more items, those of ``codes``, which begin with this one's.

        An item that came in has no own vector and the mean bias of the others: its attributes, its categories and what
        it sells place it.
        """
        n_user_codes = 1 if self.user_codes is None else self.user_codes.num_embeddings
        longer = PurchaseModel(
            self.config, codes, has_dates=self.has_dates, n_user_codes=n_user_codes, n_promoted=self.n_promoted
        )
        n_rows = self.n_items + 1
        weights = longer.state_dict()
        for name, value in self.state_dict().items():
            if value.shape == weights[name].shape:
                weights[name] = value
                continue
            # A row an item; behind the last of them the item tower has that of the start mark.
            weights[name] = torch.zeros_like(weights[name])
            weights[name][:n_rows] = value[:n_rows]
            if len(value) > n_rows:
                weights[name][-1] = value[-1]
        weights["item_bias"][n_rows:] = self.item_bias[1:].mean()
        longer.load_state_dict(weights)
        return longer.train(self.training)

    @property
    def past_items(self) -> PastItemComponent | None:
        """The component that scores past items, if it is one of the model's."""
        return self._component(PastItemComponent)

    @property
    def sales(self) -> SalesComponent | None:
        """The component that scores items by their sales, if it is one of the model's."""
        return self._component(SalesComponent)

    @property
    def categories(self) -> CategoryComponent | None:
        """The component that scores items by their categories, if it is one of the model's."""
        return self._component(CategoryComponent)

    @property
    def neighbours(self) -> NeighbourComponent | None:
        """The component that scores items by neighbours, if it is one of the model's."""
        return self._component(NeighbourComponent)

    def _component(self, wanted: type[C]) -> C | None:
        component = dict(self.components.items()).get(wanted.name)
        return component if isinstance(component, wanted) else None

    @property
    def reads_lifts(self) -> bool:
        """Whether queries must hold co-purchases."""
        return any(component.reads_lifts for component in self.added_components())

    @property
    def begins_as_rules(self) -> bool:
        """Whether a component that is learned ranks before any training."""
        return any(isinstance(one, Component) and one.begins_as_rule for one in self.components.values())

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the terms of a logit, in order: the transformer's, the bias, the components', the past items'."""
        past = () if self.past_items is None else (PastItemComponent.name,)
        own = tuple(component.name for component in self.added_components())
        return (*((SEQUENCE,) if self.decoder is not None else ()), "bias", *own, *past)

    def added_components(self) -> list[Component]:
        """Return the components whose scores are added up, those that cold items teach last."""
        added = [one for one in self.components.values() if isinstance(one, Component) and one is not self.past_items]
        return sorted(added, key=lambda one: one.learns_from_cold_items)

    def init_from_training(self, counts_V: Tensor) -> None:
        """Take how often each item was sold in the training part, (V,) with 0 at padding, before any training.

        Else items that are not sold yet would be learned as what nobody ever buys: as negatives they only ever lose.
        """
        cold_U = (counts_V == 0).nonzero().flatten()[1:]
        self.cold_items_U = cold_U.to(self.item_bias.device) if len(cold_U) else None
        if self.item_tower is not None:
            self.item_tower.zero_own_(cold_U)

    @torch.no_grad()
    def init_scales(self, queries: QueryTensors, item_rows_NF: Tensor, n_weighed: int) -> None:
        """Scale what components read as the first queries ask for, and give past items an even chance.

        The chance is taken over the catalogues of the first ``n_weighed`` queries.
        """
        for component in self.components.values():
            if isinstance(component, Component):
                component.init_scales(queries, item_rows_NF)
        if self.past_items is not None:
            few = queries.take(torch.arange(min(len(queries), n_weighed)))
            self.past_items.init_even_chance(queries, self.log_partition(few))

    @torch.no_grad()
    def tie_cold_item_bias(self) -> None:
        """Give items without a sale the mean bias of those with one; no gradient ever reaches it."""
        if self.cold_items_U is not None:
            cold_U = self.cold_items_U = self.cold_items_U.to(self.item_bias.device)
            n_sold = self.n_items - len(cold_U)
            total = self.item_bias[1:].double().sum() - self.item_bias[cold_U].double().sum()
            self.item_bias[cold_U] = (total / max(n_sold, 1)).float()

    def is_sold(self) -> Tensor | None:
        """Return (V,) bool, whether an item may be learned from; None where all may."""
        if self.cold_items_U is None:
            return None
        sold_V = torch.ones_like(self.item_bias, dtype=torch.bool)
        sold_V[self.cold_items_U] = False
        return sold_V

    def item_vectors(self) -> Tensor:
        """Return the vectors (V, D) of the catalogue, padding first; kept between calls while nothing is learned."""
        if self._kept_vectors_VD is not None:
            return self._kept_vectors_VD
        vectors_VD: Tensor = self.transformer()[0](torch.arange(self.n_items + 1, device=self.item_bias.device))
        if torch.is_inference_mode_enabled() and not self.training:
            self._kept_vectors_VD = vectors_VD
        return vectors_VD

    def transformer(self) -> tuple[ItemTower, Decoder]:
        """Return what makes item vectors, and what reads sequences of them.

        Raises:
            UsageError: the model has no component ``sequence``.
        """
        if self.item_tower is None or self.decoder is None:
            raise UsageError(
                "the model has no component sequence: it reads no sequences, and its items have no vectors"
            )
        return self.item_tower, self.decoder

    def inputs(self, sequences: SequenceTensors) -> Tensor:
        """Return what the decoder reads of each event (B, T, D): its item, and at first the user.

        The user stands at position 0, whether that is the start mark or the oldest event of a longer history, so every
        position sees it; a user without history has no other.
        """
        x_BTD: Tensor = self.transformer()[0](sequences.item_BT)
        if self.user_codes is not None and sequences.user_codes_BK.shape[1]:  # of histories that are given, no codes
            user_BD = self.user_codes(sequences.user_codes_BK)
            x_BTD = torch.cat([x_BTD[:, :1] + user_BD[:, None], x_BTD[:, 1:]], dim=1)
        return x_BTD

    def states(self, sequences: SequenceTensors) -> Tensor:
        """Return the decoder's state (B, T, D) after each event."""
        states_BTD: Tensor = self.transformer()[1](self.inputs(sequences), sequences.gap_days_BT)
        return states_BTD

    def query(self, states_BTD: Tensor | None, queries: QueryTensors) -> Tensor | None:
        """Return the query vector (Q, D) of each query; None without a transformer."""
        if self.decoder is None or states_BTD is None:
            return None
        query_QD: Tensor = self.decoder.query_at(
            states_BTD[queries.row_Q, queries.position_Q], queries.days_until_query_Q
        )
        return query_QD

    def read(self, sequences: SequenceTensors, queries: QueryTensors) -> Tensor | None:
        """Return the query vector (Q, D) of each query about ``sequences``; None without a transformer."""
        return None if self.decoder is None else self.query(self.states(sequences), queries)

    def terms(self, query_QD: Tensor | None, queries: QueryTensors) -> dict[str, Scores]:
        """Return what each component gives at ``queries``, without the past items' own logits and the bias."""
        terms: dict[str, Scores] = {}
        if query_QD is not None and self.item_tower is not None:
            terms[SEQUENCE] = ProductScores(query_QD, self.item_tower, self.item_vectors)
        for component in self.added_components():
            scores = component.score(queries, query_QD)
            if scores is not None:
                terms[component.name] = scores
        return terms

    def catalogue_logits(self, query_QD: Tensor | None, queries: QueryTensors) -> Tensor:
        """Return logits (Q, V) of each query over the whole catalogue; padding is -inf."""
        logits_QV = self.item_bias.expand(len(queries), -1)
        terms = self.terms(query_QD, queries)
        if not terms:
            logits_QV = logits_QV.clone()
        for name, scores in terms.items():
            if self._teaches_cold(name):
                logits_QV = _learned_where(self.is_sold(), logits_QV)
            logits_QV = scores.add_to(logits_QV)
        if not any(self._teaches_cold(name) for name in terms):
            logits_QV = _learned_where(self.is_sold(), logits_QV)
        if self.past_items is not None and len(queries.past_query_P):
            past = queries.past_query_P, queries.past_item_P
            logits_QV = logits_QV.index_put(past, self.past_items.logits(queries, query_QD))
        logits_QV[:, 0] = -torch.inf
        return logits_QV

    def _teaches_cold(self, name: str) -> bool:
        component = dict(self.components.items()).get(name)
        return isinstance(component, Component) and component.learns_from_cold_items

    def pair_logits(self, terms: dict[str, Scores], query_P: Tensor, item_P: Tensor) -> Tensor:
        """Return logits (P,) of single (query, item) pairs by ``terms``, without the past items' own."""
        logit_P = self.item_bias[item_P]
        for scores in terms.values():
            logit_P = scores.of_pairs(query_P, item_P) + logit_P
        return logit_P

    def shared_logits(self, terms: dict[str, Scores], item_N: Tensor) -> Tensor:
        """Return logits (Q, N) of the same items for every query by ``terms``, without the past items' own."""
        sold_V = self.is_sold()
        sold_N = None if sold_V is None else sold_V[item_N]
        logits_QN = self.item_bias[item_N][None]
        for name, scores in terms.items():
            if self._teaches_cold(name):
                logits_QN = _learned_where(sold_N, logits_QN)
            logits_QN = scores.of_items(item_N) + logits_QN
        return logits_QN if any(self._teaches_cold(name) for name in terms) else _learned_where(sold_N, logits_QN)

    def past_logits(self, query_QD: Tensor | None, queries: QueryTensors, terms: dict[str, Scores]) -> Tensor:
        """Return the logits (P,) of the past items."""
        if self.past_items is None:
            return self.pair_logits(terms, queries.past_query_P, queries.past_item_P)
        return self.past_items.logits(queries, query_QD)

    def log_partition(self, queries: QueryTensors) -> float:
        """Return the log of the sum of exp(logit) over the catalogue, the mean over queries.

        By the components alone, without transformer and bias, which begin near 0.
        """
        if not len(queries):
            return math.log(self.n_items)
        logits_QV = self.item_bias.new_zeros(len(queries), self.n_items + 1)
        terms = self.terms(None, queries)
        for name in sorted(terms, key=self._teaches_cold, reverse=True):
            logits_QV = terms[name].add_to(logits_QV)
        return float(logits_QV[:, 1:].logsumexp(-1).mean())

    def promotion_contribution(self, query_QD: Tensor | None, queries: QueryTensors) -> Tensor:
        """Return what each logit (Q, V) owes to promotions that are planned for the week asked.

        That is what it loses once nothing is planned.
        """
        owed_QV = self.item_bias.new_zeros(len(queries), self.n_items + 1).detach()
        if not self.n_promoted:
            return owed_QV
        if self.sales is not None:
            by_day = torch.stack([self.sales.promotion_contribution(table) for table in queries.item_features])
            owed_QV = owed_QV + by_day[queries.day_place_Q]
        if self.past_items is not None and len(queries.past_query_P):
            past = queries.past_query_P, queries.past_item_P
            owed_QV = owed_QV.index_put(past, self.past_items.promotion_contribution(queries, query_QD))
        return owed_QV


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


def _forget_kept_vectors(model: PurchaseModel, _: object) -> None:
    model.train(model.training)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding | nn.EmbeddingBag):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
        module.weight[module.padding_idx] = 0
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

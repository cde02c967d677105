"""The whole model: logit = item bias + the sum of what its components give, the transformer among them."""
# Long because: it is one class, and every form in which its sum is asked for stands beside the others.

from collections.abc import Callable, Mapping
from typing import Final, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.config import ModelConfig
from recsys.errors import UsageError
from recsys.modeling.decoder.components import SEQUENCE, Component, Sizes, chosen_components
from recsys.modeling.decoder.components.past_items import PastItemComponent
from recsys.modeling.decoder.components.sales import SalesComponent
from recsys.modeling.decoder.decoder import Decoder, ItemTower
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.decoder.scores import DayScores, ProductScores, Scores, among
from recsys.signals.item_codes import ItemCodes

C = TypeVar("C", bound=Component)
#: Sets of items whose vectors are kept: the catalogue, and those that are on sale.
MAX_KEPT_VECTORS: Final = 3


class PurchaseModel(nn.Module):
    """Score every item of the catalogue for a history at a day.

    logit(query, item) = bias[item] + Σ component(query, item). For a past item the component ``past_items``, where
    there is one, stands in the place of all others. ``sequence`` is the transformer: query · vector[item].
    An item without a sale in the training part has no own vector, and the mean bias of those with one.
    """

    def __init__(
        self, config: ModelConfig, codes: ItemCodes, *, has_dates: bool, n_user_codes: int = 1, n_promoted: int = 0
    ) -> None:
        """Build what ``config.components`` lists; of the ``n_user_codes`` codes of users 0 says nothing."""
        super().__init__()
        self.config, self.codes, self.has_dates, self.n_promoted = config, codes, has_dates, n_promoted
        n_items = self.n_items = len(codes.groups) - 1
        has_sequence = config.components is None or SEQUENCE in config.components
        sizes = Sizes(codes, n_promoted)
        classes = chosen_components(config.components, sizes, has_dates=has_dates)
        self.item_tower: ItemTower | None = None
        self.decoder: Decoder | None = None
        self.user_codes: nn.EmbeddingBag | None = None
        if has_sequence:
            attributes_VA = torch.tensor(np.asarray(codes.attributes))
            attributes_VA = attributes_VA if config.attributes else attributes_VA[:, :0]
            with_start = functional.pad(attributes_VA, (0, 0, 0, 1))  # the start mark has no attributes
            self.item_tower = ItemTower(n_items + 2, config.width, with_start)
            self.decoder = Decoder(config, has_dates=has_dates)
        self.item_bias = nn.Parameter(torch.zeros(n_items + 1))
        if has_sequence and n_user_codes > 1:
            # They begin at 0, and are drawn from nothing: a model that has them begins as one that has not.
            zeros = torch.zeros(n_user_codes, config.width)
            self.user_codes = nn.EmbeddingBag.from_pretrained(zeros, freeze=False, mode="mean", padding_idx=0)
        # The values of a ModuleDict are any modules to mypy.
        self.components = cast("Mapping[str, Component]", nn.ModuleDict({one.name: one(sizes) for one in classes}))
        # Components keep PyTorch's own initialisation: so small a one would hold back two layers of 96.
        for part in (self.item_tower, self.decoder):
            if part is not None:
                part.apply(_initialise)
        self.cold_items_U: Tensor | None  # item_index of what was not sold in the training part
        self.register_buffer("cold_items_U", None, persistent=False)
        self._kept_vectors: list[tuple[Tensor | None, Tensor]] = []
        self.register_load_state_dict_post_hook(_forget_kept_vectors)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Set training mode; vectors that were kept of earlier weights are forgotten."""
        self._kept_vectors = []
        return super().train(mode)

    @torch.no_grad()
    def extended(self, codes: ItemCodes) -> "PurchaseModel":
        """Return the same weights over the items of ``codes``; new ones have no own vector, and the mean bias."""
        n_user_codes = 1 if self.user_codes is None else self.user_codes.num_embeddings
        longer = PurchaseModel(
            self.config, codes, has_dates=self.has_dates, n_user_codes=n_user_codes, n_promoted=self.n_promoted
        )
        n_rows, weights = self.n_items + 1, longer.state_dict()
        for name, value in self.state_dict().items():
            if value.shape == weights[name].shape:
                weights[name].copy_(value)
            else:  # a row an item, of as many columns; behind the last the item tower has that of the start mark
                columns = tuple(
                    slice(min(sizes)) for sizes in zip(value.shape[1:], weights[name].shape[1:], strict=True)
                )
                weights[name].zero_()[:n_rows][:, *columns] = value[:n_rows][:, *columns]
                weights[name][longer.n_items + 1 :][:, *columns] = value[n_rows:][:, *columns]
        longer.item_bias[n_rows:] = self.item_bias[1:].mean()
        return longer.train(self.training)

    def component(self, wanted: type[C]) -> C | None:
        """Return the component of the class ``wanted``, if it is one of the model's."""
        return next((one for one in self.components.values() if isinstance(one, wanted)), None)

    @property
    def past_items(self) -> PastItemComponent | None:
        return self.component(PastItemComponent)

    @property
    def reads_lifts(self) -> bool:
        """Whether queries must hold co-purchases."""
        return any(one.reads_lifts for one in self.components.values())

    @property
    def reads_sequences(self) -> bool:
        """Whether lists depend on a transformer: there is one, and it was not left out of them (a factor of 0)."""
        return self.decoder is not None and bool(self.decoder.norm.weight.any())

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the terms of a logit, in order: the transformer's, the bias, the components', the past items'."""
        past = () if self.past_items is None else (PastItemComponent.name,)
        own = tuple(component.name for component in self.added_components())
        return (*((SEQUENCE,) if self.decoder is not None else ()), "bias", *own, *past)

    def added_components(self) -> list[Component]:
        """Return the components whose scores are added up, those that cold items teach last."""
        added = [one for one in self.components.values() if one is not self.past_items]
        return sorted(added, key=lambda one: one.learns_from_cold_items)

    @torch.no_grad()
    def init_from_training(self, counts_V: Tensor) -> None:
        """Take how often each item was sold in the training part, (V,) with 0 at padding, before any training."""
        # Items not sold yet would be learned as what nobody ever buys: as negatives they only ever lose.
        cold_U = (counts_V == 0).nonzero().flatten()[1:]
        self.cold_items_U = cold_U if len(cold_U) else None
        if self.item_tower is not None:
            self.item_tower.own.weight[cold_U] = 0  # their attributes alone place them

    @torch.no_grad()
    def init_scales(self, queries: QueryTensors, few: QueryTensors, item_rows_NF: Tensor) -> None:
        """Scale what components read as ``queries`` ask for; over a ``few``, give past items an even chance."""
        for component in self.components.values():
            component.init_scales(queries, item_rows_NF)
        if self.past_items is not None:
            # By the components alone: bias and transformer begin near 0.
            logits_QV = self.item_bias.new_zeros(len(few), self.n_items + 1)
            terms = self.terms(None, few)
            for name in sorted(terms, key=self._learns_from_cold, reverse=True):
                logits_QV = terms[name].add_to(logits_QV)
            self.past_items.init_even_chance(queries, float(logits_QV[:, 1:].logsumexp(-1).mean()))

    @torch.no_grad()
    def tie_cold_item_bias(self) -> None:
        """Give items without a sale the mean bias of those with one; no gradient ever reaches it."""
        if self.cold_items_U is not None:
            n_sold = self.n_items - len(self.cold_items_U)
            total = self.item_bias[1:].double().sum() - self.item_bias[self.cold_items_U].double().sum()
            self.item_bias[self.cold_items_U] = (total / max(n_sold, 1)).float()

    def is_sold(self) -> Tensor | None:
        """Return (V,) bool, whether an item may be learned from; None where all may."""
        if self.cold_items_U is None:
            return None
        return torch.ones_like(self.item_bias, dtype=torch.bool).index_fill(0, self.cold_items_U, False)

    def item_vectors(self, item_N: Tensor | None = None) -> Tensor:
        """Return the vectors (N, D) of items, or (V, D) of the catalogue, padding first.

        They are kept for the next calls about the same items while nothing is learned.
        """
        for kept_N, kept_ND in self._kept_vectors:
            if kept_N is item_N:
                return kept_ND
        every_V = torch.arange(self.n_items + 1, device=self.item_bias.device)
        vectors_ND: Tensor = self.transformer()[0](every_V if item_N is None else item_N)
        if torch.is_inference_mode_enabled() and not self.training:
            self._kept_vectors = [(item_N, vectors_ND), *self._kept_vectors[: MAX_KEPT_VECTORS - 1]]
        return vectors_ND

    def transformer(self) -> tuple[ItemTower, Decoder]:
        """Return what makes item vectors, and what reads sequences; a UsageError where there is no ``sequence``."""
        if self.item_tower is None or self.decoder is None:
            raise UsageError(
                "the model has no component sequence: it reads no sequences, and its items have no vectors"
            )
        return self.item_tower, self.decoder

    def inputs(self, sequences: SequenceTensors) -> Tensor:
        """Return what the decoder reads of each event (B, T, D): its item; the user at position 0, which all see."""
        x_BTD: Tensor = self.transformer()[0](sequences.item_BT)
        if self.user_codes is not None and sequences.user_codes_BK.shape[1]:  # of histories that are given, no codes
            user_BD = self.user_codes(sequences.user_codes_BK)
            x_BTD = torch.cat([x_BTD[:, :1] + user_BD[:, None], x_BTD[:, 1:]], dim=1)
        return x_BTD

    def states(self, sequences: SequenceTensors) -> Tensor:
        return self.transformer()[1](self.inputs(sequences), sequences.gap_days_BT)

    def read(self, sequences: SequenceTensors, queries: QueryTensors) -> Tensor | None:
        """Return the query vector (Q, D) of each of ``sequences``, which ``queries`` ask about in order.

        None where the model :attr:`reads_sequences` not.
        """
        if self.decoder is None or not self.reads_sequences:
            return None
        state_Q1D = self.decoder(self.inputs(sequences), sequences.gap_days_BT, queries.position_Q)
        return self.decoder.query_at(state_Q1D.squeeze(1), queries.days_until_query_Q)

    def terms(self, query_QD: Tensor | None, queries: QueryTensors) -> dict[str, Scores]:
        """Return what each component gives at ``queries``, without the past items' own logits and the bias."""
        terms: dict[str, Scores] = {}
        if query_QD is not None and self.item_tower is not None:
            terms[SEQUENCE] = ProductScores(query_QD, self.item_tower, self.item_vectors)
        for component in self.added_components():
            scores = component.score(queries)
            if scores is not None:
                terms[component.name] = scores
        return terms

    def listed_logits(self, query_QD: Tensor | None, queries: QueryTensors, item_N: Tensor) -> Tensor:
        """Return logits (Q, N) of each query over distinct items (N,) int64 alone; nothing is learned by them."""
        row_N, terms = self.item_bias[item_N], self.terms(query_QD, queries)
        # What is the same for all queries is added up first: each pass over all scores takes its time.
        of_all = [name for name, one in terms.items() if isinstance(one, DayScores) and len(one.item_features) == 1]
        for name in of_all:
            row_N = row_N + cast("DayScores", terms.pop(name)).score_SV[0, item_N]
        logits_QN = row_N.repeat(len(queries), 1)
        for scores in terms.values():
            scores.add_items_(logits_QN, item_N)
        if self.past_items is not None and len(queries.past_query_P):
            query_p, column_p, place_p = among(item_N, queries.past_query_P, queries.past_item_P, self.n_items + 1)
            logits_QN[query_p, column_p] = self.past_items.logits(queries)[place_p]
        return logits_QN

    def catalogue_logits(self, query_QD: Tensor | None, queries: QueryTensors) -> Tensor:
        """Return logits (Q, V) of each query over the whole catalogue; padding is -inf."""
        terms, bias_QV = self.terms(query_QD, queries), self.item_bias.expand(len(queries), -1)
        logits_QV = self._added_up(terms, bias_QV, self.is_sold(), lambda scores, logits: scores.add_to(logits))
        if self.past_items is not None and len(queries.past_query_P):
            past = queries.past_query_P, queries.past_item_P
            logits_QV = logits_QV.index_put(past, self.past_items.logits(queries))
        elif not terms:
            logits_QV = logits_QV.clone()
        logits_QV[:, 0] = -torch.inf
        return logits_QV

    def _added_up(
        self, terms: dict[str, Scores], bias_QN: Tensor, sold_N: Tensor | None, add: Callable[[Scores, Tensor], Tensor]
    ) -> Tensor:
        """Return bias and terms added up (Q, N); where ``sold_N`` is False, only what learns from cold items learns."""
        logits_QN = bias_QN
        for learns_from_cold in (False, True):
            for name, scores in terms.items():
                if self._learns_from_cold(name) == learns_from_cold:
                    logits_QN = add(scores, logits_QN)
            if not learns_from_cold and sold_N is not None:
                logits_QN = torch.where(sold_N, logits_QN, logits_QN.detach())
        return logits_QN

    def _learns_from_cold(self, name: str) -> bool:
        return name in self.components and self.components[name].learns_from_cold_items

    def pair_logits(self, terms: dict[str, Scores], query_P: Tensor, item_P: Tensor) -> Tensor:
        """Return logits (P,) of single (query, item) pairs by ``terms``, without the past items' own."""
        logit_P = self.item_bias[item_P]
        for scores in terms.values():
            logit_P = scores.of_pairs(query_P, item_P) + logit_P
        return logit_P

    def shared_logits(self, terms: dict[str, Scores], item_N: Tensor) -> Tensor:
        """Return logits (Q, N) of the same items for every query by ``terms``, without the past items' own."""
        sold_V, bias_1N = self.is_sold(), self.item_bias[item_N][None]
        sold_N = None if sold_V is None else sold_V[item_N]
        return self._added_up(terms, bias_1N, sold_N, lambda scores, logits: scores.of_items(item_N) + logits)

    def promotion_contribution(self, queries: QueryTensors) -> Tensor:
        """Return what each logit (Q, V) owes to promotions planned for the week asked: loses once there are none."""
        owed_QV = self.item_bias.new_zeros(len(queries), self.n_items + 1).detach()
        if not self.n_promoted:
            return owed_QV
        sales = self.component(SalesComponent)
        if sales is not None:
            by_day = torch.stack([sales.promotion_contribution(table) for table in queries.item_features])
            owed_QV = owed_QV + by_day[queries.day_place_Q]
        if self.past_items is not None and len(queries.past_query_P):
            past = queries.past_query_P, queries.past_item_P
            owed_QV = owed_QV.index_put(past, self.past_items.promotion_contribution(queries))
        return owed_QV


def _forget_kept_vectors(model: PurchaseModel, _: object) -> None:
    model.train(model.training)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding | nn.EmbeddingBag):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
        module.weight[module.padding_idx] = 0
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)

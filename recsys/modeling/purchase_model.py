"""The whole model: item vectors, the decoder that reads a history, and the heads that answer at a date."""

import torch
from torch import Tensor, nn

from recsys.config import ModelConfig
from recsys.features import ItemSales
from recsys.modeling.batches import Questions, Sequences
from recsys.modeling.decoder import Decoder
from recsys.modeling.heads import RepeatHead, SalesHead


class PurchaseModel(nn.Module):
    """Score every item of the catalogue for a history at a date.

    logit(history, date, item) = query · vector[item] + bias[item] + sales_head(item, date)
    + [item in history] repeat_head(history, item, date)
    """

    def __init__(self, config: ModelConfig, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 2, config.width, padding_idx=0)  # + padding, + start mark
        self.item_bias = nn.Parameter(torch.zeros(n_items + 1))
        self.decoder = Decoder(config)
        self.sales_head = SalesHead() if config.sales_head else None
        self.repeat_head = RepeatHead(config.width) if config.repeat_head else None
        # The heads keep PyTorch's own initialisation: so small a one would hold back two layers of 96.
        self.items.apply(_initialise)
        self.decoder.apply(_initialise)
        with torch.no_grad():
            self.items.weight[0] = 0

    @property
    def item_vectors_VD(self) -> Tensor:
        """Vectors (V, D) of the catalogue, padding first."""
        return self.items.weight[: self.n_items + 1]

    def states(self, sequences: Sequences) -> Tensor:
        """Return the decoder's state (B, T, D) after each event."""
        states: Tensor = self.decoder(self.items(sequences.item_BT), sequences.gap_days_BT)
        return states

    def query(self, states_BTD: Tensor, questions: Questions) -> Tensor:
        """Return the query vector (Q, D) of each question."""
        return self.decoder.ask(states_BTD[questions.row_Q, questions.position_Q], questions.wait_days_Q)

    def catalogue_logits(self, query_QD: Tensor, questions: Questions, sales: ItemSales) -> Tensor:
        """Return logits (Q, V) of each question over the whole catalogue; padding is -inf."""
        days, day_of_Q = torch.unique(questions.day_Q, return_inverse=True)
        bias_GV = self.item_bias.expand(len(days), -1)
        if self.sales_head is not None:
            tables_SVF, row_G = _tables(sales, days)
            bias_GV = bias_GV + self.sales_head(tables_SVF[row_G])
        logits_QV = query_QD @ self.item_vectors_VD.T + bias_GV[day_of_Q]
        past = questions.past_query_P, questions.past_item_P
        if self.repeat_head is not None and len(past[0]):
            score_P = self.repeat_scores(query_QD, questions, sales, logits_QV[past])
            logits_QV = logits_QV.index_put(past, score_P, accumulate=True)
        logits_QV[:, 0] = -torch.inf
        return logits_QV

    def pair_logits(self, query_QD: Tensor, day_Q: Tensor, query_P: Tensor, item_P: Tensor, sales: ItemSales) -> Tensor:
        """Return logits (P,) of single (query, item) pairs, without the repeat head."""
        logit_P: Tensor = (query_QD[query_P] * self.items(item_P)).sum(-1) + self.item_bias[item_P]
        if self.sales_head is not None:
            logit_P = logit_P + self.sales_head(sales_rows(sales, day_Q[query_P], item_P))
        return logit_P

    def shared_logits(self, query_QD: Tensor, day_Q: Tensor, item_N: Tensor, sales: ItemSales) -> Tensor:
        """Return logits (Q, N) of the same items for every question, without the repeat head."""
        days, day_of_Q = torch.unique(day_Q, return_inverse=True)
        bias_GN = self.item_bias[item_N].expand(len(days), -1)
        if self.sales_head is not None:
            tables_SVF, row_G = _tables(sales, days)
            bias_GN = bias_GN + self.sales_head(tables_SVF[row_G[:, None], item_N])
        vectors_ND: Tensor = self.items(item_N)
        return query_QD @ vectors_ND.T + bias_GN[day_of_Q]

    def repeat_scores(self, query_QD: Tensor, questions: Questions, sales: ItemSales, logit_P: Tensor) -> Tensor:
        """Return what the repeat head adds (P,) to ``logit_P``, the logit of each past item without it."""
        if self.repeat_head is None:
            return torch.zeros_like(logit_P)
        query_P, item_P = questions.past_query_P, questions.past_item_P
        sales_PF = sales_rows(sales, questions.day_Q[query_P], item_P)
        score_P: Tensor = self.repeat_head(questions.past_features_PF, sales_PF, query_QD, query_P, logit_P)
        return score_P


def sales_rows(sales: ItemSales, day_P: Tensor, item_P: Tensor) -> Tensor:
    """Return the sales features (P, F) of each item at the start of its day."""
    days, day_of_P = torch.unique(day_P, return_inverse=True)
    tables_SVF, row_G = _tables(sales, days)
    return tables_SVF[row_G[day_of_P], item_P]


def _tables(sales: ItemSales, days: Tensor) -> tuple[Tensor, Tensor]:
    tables, row_G = sales.tables(days.tolist())
    return torch.from_numpy(tables).to(days.device), torch.from_numpy(row_G).to(days.device)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

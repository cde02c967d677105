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
        self.apply(_initialise)
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

    def answer(self, states_BTD: Tensor, questions: Questions, sales: ItemSales) -> Tensor:
        """Return logits (Q, V) of each question over the catalogue; padding is -inf."""
        state_QD = states_BTD[questions.row_Q, questions.position_Q]
        query_QD = self.decoder.ask(state_QD, questions.wait_days_Q)
        days, day_of_Q = torch.unique(questions.day_Q, return_inverse=True)
        bias_GV = self.item_bias.expand(len(days), -1)
        sales_GVF = None
        if self.sales_head is not None or self.repeat_head is not None:
            tables = [torch.from_numpy(sales.at(day)) for day in days.tolist()]
            sales_GVF = torch.stack(tables).to(query_QD.device)
        if self.sales_head is not None and sales_GVF is not None:
            bias_GV = bias_GV + self.sales_head(sales_GVF)
        logits_QV = query_QD @ self.item_vectors_VD.T + bias_GV[day_of_Q]
        if self.repeat_head is not None and sales_GVF is not None:
            query_P, item_P = questions.past_query_P, questions.past_item_P
            sales_PF = sales_GVF[day_of_Q[query_P], item_P]
            logit_P = logits_QV[query_P, item_P]
            score_P = self.repeat_head(questions.past_features_PF, sales_PF, query_QD, query_P, logit_P)
            logits_QV = logits_QV.index_put((query_P, item_P), score_P, accumulate=True)
        logits_QV[:, 0] = -torch.inf
        return logits_QV


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

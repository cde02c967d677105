"""Histories continued item by item, by any decoder of ours, at a cost that grows linearly with the length.

Both kinds of decoder are asked through the same small interface: logits of what comes first, then logits of what comes
after the item just taken. Column ``END`` stands for the end of the history; padding and start marks have no column.

Shapes: Q customers, R rows (customers read together), V = n_items + 1 columns, L items at most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from recsys.errors import UsageError
from recsys.features import ItemSales
from recsys.modeling.batches import newest_events
from recsys.modeling.purchase_model import PurchaseModel
from recsys.modeling.recommend import DecoderRecommender, History
from recsys.modeling.sampling import END, Choice, choose
from recsys.modeling.seed_batches import end_token, tokens
from recsys.modeling.seed_models import Transformer
from recsys.modeling.seed_recommend import SeedRecommender


@dataclass(frozen=True)
class Continuations:
    """What follows each history.

    Attributes:
        user_index: (Q,) int32.
        item: (Q, L) int32 item_index in order; 0 after the last one.
        log_probability: (Q, L) float32 of each item under the decoder, before temperature and cuts; 0 after the last.
        ended: (Q,) bool: the decoder said that the history ends, before the longest length.
    """

    user_index: np.ndarray
    item: np.ndarray
    log_probability: np.ndarray
    ended: np.ndarray


class Reader(Protocol):
    """A decoder that has read some histories and goes on from them."""

    #: (R, V) of what comes next; V = n_items + 1.
    logits_RV: Tensor

    def extend(self, item_R: Tensor) -> None:
        """Read one more item (R,) int64 of each row; ``END`` keeps the row's place and means nothing."""
        ...


class SeedReader:
    """A published architecture: it knows the end of a history, and no dates."""

    def __init__(self, model: Transformer, history: History, users: np.ndarray, *, n_context: int, n_new: int) -> None:
        self.model, self.n_items = model, history.data.n_items
        end = history.end[users]
        begin = np.maximum(history.data.offsets[users], end - n_context)
        token_BT = torch.from_numpy(tokens(history.data, begin, end)).to(model.fc_out.weight.device)
        self.newest_R = torch.from_numpy(end - begin).to(token_BT.device)
        self.cache = model.new_cache(len(users), token_BT.shape[1] + n_new)
        position_BT = torch.arange(token_BT.shape[1], device=token_BT.device).expand_as(token_BT)
        state_BTD = model.extend(token_BT, position_BT, self.cache)
        self.logits_RV = self._logits(state_BTD[torch.arange(len(users)), self.newest_R])

    def extend(self, item_R: Tensor) -> None:
        """Read one more item of each row."""
        self.newest_R = self.newest_R + 1
        self.logits_RV = self._logits(self.model.extend(item_R[:, None], self.newest_R[:, None], self.cache)[:, 0])

    def _logits(self, state_RD: Tensor) -> Tensor:
        logits_RV: Tensor = self.model.fc_out(state_RD)
        stop = end_token(self.n_items)
        return torch.cat([logits_RV[:, stop : stop + 1], logits_RV[:, 1 : self.n_items + 1]], dim=1)


class PurchaseReader:
    """Our decoder, asked at a date: what is bought in the window that begins then, item by item.

    Each item that was taken is read as bought on that date, after the same wait as the first, in the same basket; its
    price, channel and quantity are not known. What every item sold and
    what the customer had bought before are those known at the date. The decoder was not taught where a basket ends, so
    ``END`` never comes.
    """

    def __init__(
        self, model: PurchaseModel, sales: ItemSales, history: History, users: np.ndarray, *, n_context: int, n_new: int
    ) -> None:
        self.model, self.sales = model, sales
        day = np.full(len(users), history.day)
        sequences, questions = newest_events(history.data, users, history.end[users], day, model.config, n_context)
        item_BT = sequences.item_BT
        self.questions = questions
        self.newest_R, self.gap_R = questions.position_Q, questions.wait_days_Q
        self.cache = model.decoder.new_cache(len(users), item_BT.shape[1] + n_new)
        position_BT = torch.arange(item_BT.shape[1]).expand_as(item_BT)
        state_BTD = model.decoder.extend(
            model.inputs(sequences), sequences.gap_days_BT, position_BT, item_BT > 0, self.cache
        )
        self.logits_RV = self._logits(state_BTD[questions.row_Q, self.newest_R], self.gap_R)

    def extend(self, item_R: Tensor) -> None:
        """Read one more item of each row."""
        self.newest_R = self.newest_R + 1
        state_RTD = self.model.decoder.extend(
            self.model.items(item_R[:, None]),
            self.gap_R[:, None],
            self.newest_R[:, None],
            (item_R > 0)[:, None],
            self.cache,
        )
        self.gap_R = torch.zeros_like(self.gap_R)
        self.logits_RV = self._logits(state_RTD[:, 0], self.gap_R)

    def _logits(self, state_RD: Tensor, wait_days_R: Tensor) -> Tensor:
        query_RD = self.model.decoder.ask(state_RD, wait_days_R)
        return self.model.catalogue_logits(query_RD, self.questions, self.sales)  # END, as padding, is -inf


def longest_history(decoder: DecoderRecommender | SeedRecommender, n_new: int) -> int:
    """Return how many positions of a history a decoder may read so that ``n_new`` items still fit behind it.

    Raises:
        UsageError: they do not fit behind even one.
    """
    if isinstance(decoder, SeedRecommender):
        longest, name = decoder.seq_max_len, "seed_model.seq_max_len"
    else:
        longest, name = decoder.model.config.max_length, "model.max_length"
    if not 1 <= n_new < longest:
        raise UsageError(
            f"--max-items is {n_new}; the decoder was trained on {longest} positions ({name}), so expected 1 to "
            f"{longest - 1}"
        )
    return longest - n_new


def continue_histories(
    decoder: DecoderRecommender | SeedRecommender,
    history: History,
    user_index: np.ndarray,
    max_items: int,
    choice: Choice,
    allowed: np.ndarray,
    *,
    seed: int = 0,
    chunk: int = 64,
    advance: Callable[[int], None] = lambda n: None,
) -> Continuations:
    """Return the continuations of the histories of ``user_index`` (Q,), each of 1 to ``max_items`` items.

    Args:
        decoder: the system of a run, as :func:`recsys.modeling.factory.load_decoder` returns it.
        history: what is known, and the date asked.
        user_index: (Q,) customers.
        max_items: the longest continuation L.
        choice: how an item is chosen.
        allowed: (V,) bool over item_index: what may be generated.
        seed: of the draws; a customer's depend on the seed and the customer alone.
        chunk: customers continued together.
        advance: called with the number of customers done.

    Raises:
        UsageError: ``max_items`` does not fit behind a history, or is more than there are items where none may repeat.
    """
    n_context = longest_history(decoder, max_items)
    if choice.no_repeat and max_items > allowed.sum():
        raise UsageError(f"--max-items is {max_items}, but without repeats only {allowed.sum()} items can be generated")
    model = decoder.model
    blocked_V = torch.from_numpy(~allowed)
    blocked_V[END] = False
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(user_index), chunk):
            users = np.asarray(user_index[begin : begin + chunk])
            if isinstance(decoder, SeedRecommender):
                reader: Reader = SeedReader(decoder.model, history, users, n_context=n_context, n_new=max_items)
            else:
                reader = PurchaseReader(
                    decoder.model, decoder.sales, history, users, n_context=n_context, n_new=max_items
                )
            uniform = np.stack([np.random.default_rng((seed, int(user))).random(max_items) for user in users])
            item, log_probability = _go_on(reader, max_items, choice, blocked_V, torch.from_numpy(uniform))
            parts.append((item.int().cpu().numpy(), log_probability.float().cpu().numpy()))
            advance(len(users))
    model.train(was_training)
    items, log_probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Continuations(np.asarray(user_index, dtype=np.int32), items, log_probabilities, items[:, -1] == END)


def _go_on(
    reader: Reader, max_items: int, choice: Choice, blocked_V: Tensor, uniform_QL: Tensor
) -> tuple[Tensor, Tensor]:
    """Return items and their log-probabilities (Q, L) of one sequence a row."""
    n_rows = len(reader.logits_RV)
    item_QL = torch.zeros(n_rows, max_items, dtype=torch.int64)
    log_probability_QL = torch.zeros(n_rows, max_items)
    ended_Q = torch.zeros(n_rows, dtype=torch.bool)
    for step in range(max_items):
        if step:
            reader.extend(item_QL[:, step - 1])
        logits_QV = _permitted(reader.logits_RV, blocked_V, item_QL[:, :step], choice)
        chosen_Q = choose(logits_QV, choice, uniform_QL[:, step]).masked_fill(ended_Q, END)
        found_Q = logits_QV.log_softmax(-1).gather(1, chosen_Q[:, None])[:, 0]
        ended_Q |= chosen_Q == END
        item_QL[:, step] = chosen_Q
        log_probability_QL[:, step] = found_Q.masked_fill(ended_Q, 0)
        if bool(ended_Q.all()):
            break
    return item_QL, log_probability_QL


def _permitted(logits_RV: Tensor, blocked_V: Tensor, taken_RS: Tensor, choice: Choice) -> Tensor:
    """Return the logits with -inf for what may not come: blocked items, repeats if unwanted, an end before any item."""
    logits_RV = logits_RV.masked_fill(blocked_V, -torch.inf)
    if choice.no_repeat and taken_RS.shape[1]:
        # END stands where a row has ended, and may always come again there.
        end_R = logits_RV[:, END].clone()
        logits_RV = logits_RV.scatter(1, taken_RS, -torch.inf)
        logits_RV[:, END] = end_R
    if not taken_RS.shape[1]:
        logits_RV[:, END] = -torch.inf
    return logits_RV

"""Histories continued item by item, by any decoder of ours, at a cost that grows linearly with the length.

Shapes: Q users, R rows (users read together), V = n_items + 1 columns, L items at most.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from recsys.console import Advance, unheard
from recsys.data.purchases import Histories
from recsys.errors import UsageError
from recsys.modeling.generation import SamplingConfig

#: item_index of padding: no item, so in logits and in what is generated it means that nothing follows.
END = 0


class Continuations(NamedTuple):
    """What follows each history."""

    item: np.ndarray  # (Q, L) int32 item_index in order; 0 after the last one
    log_probability: np.ndarray  # (Q, L) float32 under the decoder, before temperature and cuts; 0 after the last
    ended: np.ndarray  # (Q,) bool: the decoder said that the history ends, before the longest length


class Reader(Protocol):
    """A decoder that has read some histories and goes on from them."""

    logits_RV: Tensor  # of what comes next

    def extend(self, item_R: Tensor) -> None:
        """Read one more item (R,) int64 of each row; ``END`` keeps the row's place and means nothing."""


class Continues(Protocol):
    """A decoder that can be asked to go on from histories."""

    model: Any  # the nn.Module that it asks
    longest: tuple[int, str]  # positions it was trained on, and the setting that says so

    def reader(self, histories: Histories, *, n_context: int, n_new: int) -> Reader:
        """Return what has read the newest ``n_context`` events of each history; ``n_new`` items follow at most."""


def continue_histories(
    decoder: Continues,
    histories: Histories,
    sampling: SamplingConfig,
    allowed: np.ndarray,
    advance: Advance = unheard,
    *,
    chunk: int = 64,
) -> Continuations:
    """Return the continuations of ``histories``, each of 1 to L items, at most ``sampling.max_items``.

    ``allowed`` (V,) bool over item_index says what may be generated. A user's draws depend on ``sampling.seed`` and the
    user alone. A UsageError where so many items do not fit behind a history, or are more than there are items where
    none may repeat.
    """
    max_items = sampling.max_items
    longest, name = decoder.longest
    if not 1 <= max_items < longest:
        raise UsageError(
            f"{max_items} items were asked for (--max-items, n=); the decoder was trained on {longest} positions "
            f"({name}), so expected 1 to {longest - 1}"
        )
    if sampling.no_repeat and max_items > allowed.sum():
        found = f"without repeats there are {allowed.sum()}"
        raise UsageError(f"{max_items} items were asked for (--max-items, n=), but {found}")
    model = decoder.model
    blocked_V = torch.from_numpy(~allowed)
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(histories), chunk):
            some = histories.of(slice(begin, begin + chunk))
            reader = decoder.reader(some, n_context=longest - max_items, n_new=max_items)
            draws = (np.random.default_rng((sampling.seed, int(user))) for user in some.user_index)
            uniform = np.stack([of_user.random(max_items) for of_user in draws])
            item, log_probability = _sample(reader, sampling, blocked_V, torch.from_numpy(uniform))
            parts.append((item.int().cpu().numpy(), log_probability.float().cpu().numpy()))
            advance(begin + len(some), len(histories))
    model.train(was_training)
    items, log_probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Continuations(items, log_probabilities, items[:, -1] == END)


def _sample(reader: Reader, sampling: SamplingConfig, blocked_V: Tensor, uniform_QL: Tensor) -> tuple[Tensor, Tensor]:
    """Return items and their log-probabilities (Q, L) of one sequence a row."""
    item_QL = torch.zeros(uniform_QL.shape, dtype=torch.int64)
    log_probability_QL = torch.zeros(uniform_QL.shape)
    ended_Q = torch.zeros(len(uniform_QL), dtype=torch.bool)
    for step in range(uniform_QL.shape[1]):
        if step:
            reader.extend(item_QL[:, step - 1])
        logits_QV = reader.logits_RV.masked_fill(blocked_V, -torch.inf)
        if sampling.no_repeat:
            logits_QV = logits_QV.scatter(1, item_QL[:, :step], -torch.inf)
        # An end comes behind an item only, and may come again where a row has ended: no repeat rules it out.
        logits_QV[:, END] = reader.logits_RV[:, END] if step else -torch.inf
        chosen_Q = choose(logits_QV, sampling, uniform_QL[:, step]).masked_fill(ended_Q, END)
        log_p_Q = logits_QV.log_softmax(-1).gather(1, chosen_Q[:, None])[:, 0]
        ended_Q |= chosen_Q == END
        item_QL[:, step] = chosen_Q
        log_probability_QL[:, step] = log_p_Q.masked_fill(ended_Q, 0)
        if bool(ended_Q.all()):
            break
    return item_QL, log_probability_QL


def keep_likeliest(logits_QV: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Return the logits with -inf wherever ``top_k`` or ``top_p`` (Holtzman et al., 2020) rules an item out.

    The likeliest item of a row always stays; of equal ones at the edge, some.

    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> keep_likeliest(logits, 2, None).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    >>> keep_likeliest(logits, None, 0.4).exp()
    tensor([[0.5000, 0.0000, 0.0000]])
    """
    if top_k is None and top_p is None:
        return logits_QV
    n_kept = logits_QV.shape[1] if top_k is None else min(top_k, logits_QV.shape[1])
    kept = logits_QV.topk(n_kept, dim=-1)  # falling
    values = kept.values
    if top_p is not None:
        probability = values.softmax(-1) if top_k is not None else logits_QV.softmax(-1).gather(1, kept.indices)
        before = probability.double().cumsum(-1) - probability
        late = before >= top_p
        late[:, 0] = False
        values = values.masked_fill(late, -torch.inf)
    return torch.full_like(logits_QV, -torch.inf).scatter(1, kept.indices, values)


def draw(logits_QV: Tensor, uniform_Q: Tensor) -> Tensor:
    """Return a column (Q,) int64 of each row, drawn with the softmax's probabilities by its own of ``uniform_Q``.

    >>> draw(torch.tensor([[0.0, 0.0, -torch.inf]] * 2), torch.tensor([0.4, 0.6])).tolist()
    [0, 1]
    """
    cumulative_QV = logits_QV.double().softmax(-1).cumsum(-1)
    threshold_Q1 = uniform_Q.double()[:, None] * cumulative_QV[:, -1:]
    return torch.searchsorted(cumulative_QV, threshold_Q1, right=True).squeeze(1).clamp(max=logits_QV.shape[1] - 1)


def choose(logits_QV: Tensor, sampling: SamplingConfig, uniform_Q: Tensor) -> Tensor:
    """Return the next column (Q,) int64 of each row."""
    if sampling.method == "greedy":
        return logits_QV.argmax(-1)
    return draw(keep_likeliest(logits_QV / sampling.temperature, sampling.top_k, sampling.top_p), uniform_Q)

"""How the next item is chosen from logits: the likeliest, or a random draw.

Pure functions of tensors. Column ``END`` of the logits stands for the end of a history; every other column for an item.

Shapes: Q rows, V columns.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: item_index of padding: no item, so in logits and in what is generated it means that nothing follows.
END = 0


@dataclass(frozen=True)
class SamplingConfig:
    """How an item is chosen."""

    method: Literal["greedy", "sample"] = "sample"  # the likeliest item, or a draw
    temperature: float = 1.0  # above 0: logits are divided by it before a draw
    top_k: int | None = None  # draw among this many of the likeliest only
    top_p: float | None = None  # only among the likeliest that add up to this, the one that reaches it included
    no_repeat: bool = False  # an item is not generated twice for a user


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
    """Return a column (Q,) int64 of each row, drawn with the softmax's probabilities by ``uniform_Q`` in [0, 1).

    Each row's draw depends on its own logits and number only, so no draw depends on who else is asked.

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

"""What the original system was scored by: loss, entropy and Recall@k on customers that were held out.

Recall@k of the next item is the share of purchases that were among the ``k`` likeliest items, each asked with the true
purchases before it; of the whole sequence, that of customers all of whose purchases were. Special tokens are neither
asked for nor ranked. Loss and entropy are means over all positions but padding, as in training.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.config import OriginalConfig
from recsys.console import Advance, unheard
from recsys.data.purchases import Purchases
from recsys.evaluation.splits import make_split
from recsys.modeling.decoder.layers import at_rest
from recsys.modeling.original.batches import OriginalBatch, history_batches, whole_histories
from recsys.modeling.original.decoder import Transformer, loss_and_entropy, next_tokens
from recsys.modeling.original.recommender import load_transformer
from recsys.runs import Run


class HeldOutScores(NamedTuple):
    """Scores of a run on held-out customers; recalls by cutoff."""

    loss: float  # nats
    entropy: float  # nats
    recall_next_item: dict[int, float]
    recall_whole_sequence: dict[int, float]
    n_customers: int
    n_purchases: int


def target_ranks(logits_MV: Tensor, target_M: Tensor, n_items: int) -> Tensor:
    """Return the rank (M,) int64, from 1, of each target among the items, of equals the lower first; 0 of no item.

    >>> target_ranks(torch.tensor([[9.0, 2, 1, 2, 9, 9], [9.0, 2, 1, 2, 9, 9]]), torch.tensor([3, 5]), 3).tolist()
    [2, 0]
    """
    is_item_M = (target_M >= 1) & (target_M <= n_items)
    item_MV = logits_MV[:, 1 : n_items + 1]
    place_M1 = (target_M.clamp(1, n_items) - 1)[:, None]
    own_M1 = item_MV.gather(1, place_M1)
    earlier_MV = torch.arange(n_items, device=logits_MV.device) < place_M1
    ahead_M = ((item_MV > own_M1) | ((item_MV == own_M1) & earlier_MV)).sum(dim=1)
    return torch.where(is_item_M, ahead_M + 1, 0)


def recalls(rank: np.ndarray, user: np.ndarray, cutoffs: Sequence[int]) -> tuple[dict[int, float], dict[int, float]]:
    """Return Recall@k by cutoff over purchases of :func:`target_ranks`, and over customers; NaN without a purchase.

    >>> recalls(np.array([1, 3, 0, 1]), np.array([7, 7, 7, 8]), [1, 3])
    ({1: 0.6666666666666666, 3: 1.0}, {1: 0.5, 3: 1.0})
    """
    rank, user = rank[rank > 0], user[rank > 0]
    if not len(rank):
        return dict.fromkeys(cutoffs, float("nan")), dict.fromkeys(cutoffs, float("nan"))
    _, whose = np.unique(user, return_inverse=True)
    worst = np.zeros(whose.max() + 1, dtype=np.int64)
    np.maximum.at(worst, whose, rank)
    of_purchases, of_customers = ({k: float((one <= k).mean()) for k in cutoffs} for one in (rank, worst))
    return of_purchases, of_customers


def score_held_out(
    model: Transformer, data: Purchases, user_index: np.ndarray, sizes: OriginalConfig, advance: Advance = unheard
) -> HeldOutScores:
    """Return the scores of ``model`` on whole histories, read in sequences of ``sizes``."""
    device = model.fc_out.weight.device
    batches = history_batches(data, whole_histories(data, user_index), sizes)
    parts: list[tuple[Tensor, ...]] = []
    with at_rest(model):
        for batch in batches:
            moved = OriginalBatch(*(part.to(device) for part in batch))
            logits_MV, target_M = next_tokens(model, moved)
            user_M = moved.user_B[moved.target_BT.nonzero()[:, 0]]
            rank_M = target_ranks(logits_MV, target_M, data.n_items)
            parts.append((rank_M, user_M, *loss_and_entropy(logits_MV, target_M)))
            advance(len(parts), len(batches))
    rank, user, loss, entropy = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    mean_loss, mean_entropy = (float(part.mean(dtype=np.float64)) for part in (loss, entropy))
    next_item, whole_sequence = recalls(rank, user, (1, 5, 10))
    n_customers, n_purchases = len(np.unique(user)), int((rank > 0).sum())
    return HeldOutScores(mean_loss, mean_entropy, next_item, whole_sequence, n_customers, n_purchases)


def score_customers(run: Run, advance: Advance = unheard) -> HeldOutScores:
    """Return what an original decoder scores on the customers that its run neither learned from nor chose by."""
    data = run.open_data()
    users = make_split(data, run.config.split).tests[0].user_index
    return score_held_out(load_transformer(run, data), data, users, run.config.original, advance)

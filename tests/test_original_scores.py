"""Recall of the original decoders counts what it says: items, at their own position, over the whole vocabulary."""

import numpy as np
import pytest
import torch
from toy import write_prepared

from recsys.config import OriginalConfig
from recsys.modeling.original.decoder import Transformer
from recsys.modeling.original.scores import recalls, score_held_out, target_ranks

N_ITEMS = 12
PAD, SOS, EOS = 0, N_ITEMS + 1, N_ITEMS + 2

# One customer who bought 1, 2 and 3; then the history ends, then comes padding.
TARGET_T = torch.tensor([1, 2, 3, EOS, PAD, PAD])


def worked_example() -> torch.Tensor:
    """Logits (T, V): item 1 is ranked first, item 2 sixth, item 3 eleventh; the end comes first wherever it may."""
    logits_TV = torch.full((6, N_ITEMS + 3), -9.0)
    for position, (target, rank) in enumerate([(1, 1), (2, 6), (3, 11)]):
        others = [item for item in range(1, N_ITEMS + 1) if item != target]
        order = [*others[: rank - 1], target, *others[rank - 1 :]]
        for place, item in enumerate(order):
            logits_TV[position, item] = -0.1 * place
    logits_TV[3:, EOS] = 5
    logits_TV[4:, PAD] = 9
    return logits_TV


def published_recall(logits_TV: torch.Tensor, target_T: torch.Tensor, k: int) -> float:
    """The published computation: ``k`` positions with the highest logit, for each token, instead of ``k`` tokens.

    A target counts as found where its own token's logit is among the k largest over *positions*; ``<eos>`` is a target.
    """
    counted = target_T != PAD
    top = logits_TV[counted].topk(min(k, int(counted.sum())), dim=0).indices
    found = [int(position) in top[:, token].tolist() for position, token in enumerate(target_T[counted].tolist())]
    return sum(found) / len(found)


def our_recalls(logits_TV: torch.Tensor, target_T: torch.Tensor):
    kept = target_T != PAD
    rank = target_ranks(logits_TV[kept], target_T[kept], N_ITEMS).numpy()
    return recalls(rank, np.zeros(len(rank), dtype=int), (1, 5, 10, 12))


def test_recall_ranks_items_at_each_position_and_leaves_the_end_out():
    next_item, whole_sequence = our_recalls(worked_example(), TARGET_T)
    assert next_item == {1: 1 / 3, 5: 1 / 3, 10: 2 / 3, 12: 1}
    assert whole_sequence == {1: 0, 5: 0, 10: 0, 12: 1}


def test_the_published_recall_counted_along_the_wrong_axis_and_the_end_as_a_hit():
    logits_TV = worked_example()
    # Among four positions every token is within the best five: the value says nothing about the model.
    assert published_recall(logits_TV, TARGET_T, 5) == 1
    assert published_recall(-logits_TV, TARGET_T, 5) == 1
    # The right axis, but with the end of the history counted: 2 of 4 instead of 1 of 3.
    kept = TARGET_T != PAD
    first = (logits_TV[kept].argmax(1) == TARGET_T[kept]).float().mean().item()
    assert first == 2 / 4
    assert our_recalls(logits_TV, TARGET_T)[0][1] == 1 / 3


def test_special_tokens_take_no_place_in_a_ranking():
    logits_TV = worked_example()
    before = our_recalls(logits_TV, TARGET_T)
    logits_TV[:, [PAD, SOS, EOS]] = 99
    assert our_recalls(logits_TV, TARGET_T) == before


def test_ranks_agree_with_sorting():
    random = np.random.default_rng(0)
    logits_MV = torch.from_numpy(random.integers(0, 5, (40, N_ITEMS + 3)).astype(np.float32))
    target_M = torch.from_numpy(random.integers(1, N_ITEMS + 3, 40))
    ranks = target_ranks(logits_MV, target_M, N_ITEMS).tolist()
    for row, target, rank in zip(logits_MV.numpy(), target_M.tolist(), ranks, strict=True):
        order = 1 + np.argsort(-row[1 : N_ITEMS + 1], kind="stable")
        assert rank == (0 if target > N_ITEMS else 1 + order.tolist().index(target))


def test_recall_grows_with_the_list_and_a_whole_sequence_is_never_easier():
    random = np.random.default_rng(1)
    rank, customer = random.integers(0, 20, 500), random.integers(0, 90, 500)
    next_item, whole_sequence = recalls(rank, customer, (1, 5, 10, 19))
    for values in (next_item, whole_sequence):
        assert list(values.values()) == sorted(values.values())
        assert values[19] == 1
    assert all(whole_sequence[k] <= next_item[k] for k in (1, 5, 10))


def test_without_purchases_there_is_no_recall():
    next_item, whole_sequence = recalls(np.zeros(3, dtype=int), np.arange(3), (1,))
    assert np.isnan(next_item[1])
    assert np.isnan(whole_sequence[1])


@pytest.fixture
def data(tmp_path):
    events = [(user, 18_000 + step, (user + step) % 12 + 1) for user in range(9) for step in range(2 + user % 4)]
    return write_prepared(tmp_path / "toy", events, n_items=N_ITEMS)


def scored(data, batch_size, max_items=4):
    torch.manual_seed(0)
    model = Transformer(N_ITEMS + 3, 16, num_heads=2, num_layers=1)
    users = np.array([1, 2, 3, 7])
    return score_held_out(model, data, users, OriginalConfig(seq_max_len=max_items, batch_size=batch_size))


def test_scores_do_not_depend_on_how_customers_are_batched(data):
    one, all_at_once = scored(data, 1), scored(data, 64)
    assert one.loss == pytest.approx(all_at_once.loss, rel=1e-5)
    assert one.entropy == pytest.approx(all_at_once.entropy, rel=1e-5)
    assert one.recall_next_item == all_at_once.recall_next_item
    assert (one.n_customers, one.n_purchases) == (4, 3 + 4 + 5 + 5)


def test_a_customer_with_several_sequences_is_one_customer(data):
    assert scored(data, 2, max_items=2).n_customers == 4


def test_an_untrained_model_is_as_unsure_as_its_vocabulary_is_wide(data):
    scores = scored(data, 4)
    assert scores.entropy <= np.log(N_ITEMS + 3)
    assert scores.loss == pytest.approx(np.log(N_ITEMS + 3), abs=1)

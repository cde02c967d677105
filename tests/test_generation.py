"""Continued histories: the cache changes no logit, choices keep their laws."""

import numpy as np
import pytest
import torch
from toy import toy_data, write_prepared

from recsys.config import ModelConfig
from recsys.errors import UsageError
from recsys.modeling.decoder.layers import KeyValueCache
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.generation import SamplingConfig
from recsys.modeling.generation.generate import END, continue_histories, draw, keep_likeliest
from recsys.modeling.original.batches import N_SPECIAL, end_token, tokens
from recsys.modeling.original.decoder import Transformer
from recsys.modeling.original.recommender import OriginalRecommender
from recsys.modeling.recommenders.base import all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.signals.snapshot import Snapshots

DAY = 18_040
LONGEST = 12


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=20, n_items=25, n_days=70, seed=5)


def purchase_decoder(data, **model):
    torch.manual_seed(0)
    config = ModelConfig(width=16, n_layers=2, n_heads=2, max_length=LONGEST, **model)
    snapshots = Snapshots(data)
    decoder = PurchaseModel(config, snapshots.codes, has_dates=True)
    with torch.no_grad():  # far from even, so that an error shows
        decoder.item_tower.own.weight[1:].normal_()
        decoder.decoder.position.weight.normal_()
        decoder.past_items.net.out.weight.normal_()
    return DecoderRecommender(decoder.eval(), snapshots)


def original_decoder(data, *, kind="id"):
    torch.manual_seed(0)
    n_tokens = data.n_items + N_SPECIAL
    vectors = None if kind == "id" else torch.randn(n_tokens, 16)
    model = Transformer(n_tokens, 16, num_heads=2, num_layers=2, vectors=vectors).eval()
    with torch.no_grad():
        model.fc_out.weight.mul_(4)
    return OriginalRecommender(model, LONGEST)


def any_decoder(kind, data):
    return purchase_decoder(data) if kind == "purchase" else original_decoder(data, kind=kind)


def go_on(decoder, data, sampling, *, users=slice(None), max_items=4, seed=0, allowed=None, **options):
    allowed = all_items(data.n_items) if allowed is None else allowed
    sampling = sampling._replace(max_items=max_items, seed=seed)
    return continue_histories(decoder, data.histories(DAY).of(users), sampling, allowed, **options)


KINDS = ("purchase", "id", "bert")


@pytest.mark.parametrize("kind", ["id", "bert"])
def test_the_cache_gives_the_logits_of_the_whole_sequence_for_the_original_decoders(data, kind):
    decoder, histories = original_decoder(data, kind=kind), data.histories(DAY)
    reader = decoder.reader(histories, n_context=8, n_new=4)
    begin = np.maximum(histories.begin, histories.end - 8)
    rows = [row[row > 0] for row in torch.from_numpy(tokens(data, begin, histories.end))]
    assert len({len(row) for row in rows}) > 1
    for step in range(4):
        whole = torch.stack([decoder.model.fc_out(decoder.model(row[None])[0, -1]) for row in rows])
        expected = torch.cat([whole[:, end_token(data.n_items), None], whole[:, 1 : data.n_items + 1]], dim=1)
        torch.testing.assert_close(reader.logits_RV, expected, rtol=1e-4, atol=1e-5)
        item = torch.full((len(rows),), 3 + step)
        rows = [torch.cat([row, item[:1]]) for row in rows]
        reader.extend(item)


@pytest.mark.parametrize("window", [None, 3])
def test_the_cache_gives_the_states_of_the_whole_sequence_for_our_decoder(data, window):
    decoder = purchase_decoder(data, attention_window=window)
    model, histories = decoder.model, data.histories(DAY)
    reader = decoder.reader(histories, n_context=8, n_new=4)
    reading = decoder.read(histories, 8)
    sequences, queries = reading.sequences, reading.queries
    lengths = queries.position_Q + 1
    assert len(lengths.unique()) > 1
    items = [row[:n] for row, n in zip(sequences.item_BT, lengths, strict=True)]
    gaps = [row[:n] for row, n in zip(sequences.gap_days_BT, lengths, strict=True)]
    wait = queries.days_until_query_Q
    for step in range(4):
        states = [
            model.decoder(model.item_tower(item[None]), gap[None])[:, -1] for item, gap in zip(items, gaps, strict=True)
        ]
        query = model.decoder.query_at(torch.cat(states), wait)
        torch.testing.assert_close(reader.logits_RV, model.catalogue_logits(query, queries), rtol=1e-4, atol=1e-5)
        item = torch.full((data.n_users,), 3 + step)
        items = [torch.cat([row, item[:1]]) for row in items]
        gaps = [torch.cat([row, one[None]]) for row, one in zip(gaps, wait, strict=True)]
        wait = torch.zeros_like(wait)
        reader.extend(item)


def test_a_full_cache_says_so():
    cache = KeyValueCache(1, 2, 1, 4, 3, torch.zeros(1))
    cache.add(torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="3 slots, 4 are needed"):
        cache.add(torch.ones(2, 2, dtype=torch.bool))


def test_draws_follow_the_softmax():
    logits = torch.tensor([[0.1, 2.0, -1.0, 0.5]])
    uniform = torch.linspace(0, 1, 20_001)[:-1]
    share = torch.bincount(draw(logits.expand(20_000, -1), uniform), minlength=4) / 20_000
    torch.testing.assert_close(share, logits[0].softmax(-1), atol=1e-3, rtol=0)


def test_the_likeliest_are_kept_and_no_others():
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(50, 30, generator=random)
    for top_k, top_p in [(5, None), (None, 0.6), (5, 0.6), (1, None), (None, 1e-9), (99, 1.0)]:
        kept = keep_likeliest(logits, top_k, top_p).isfinite()
        assert (kept.sum(-1) >= 1).all()
        assert kept.gather(1, logits.argmax(-1, keepdim=True)).all()
        lowest_kept = logits.masked_fill(~kept, torch.inf).amin(-1)
        highest_left = logits.masked_fill(kept, -torch.inf).amax(-1)
        assert (lowest_kept > highest_left).all()
        if top_k is not None:
            assert (kept.sum(-1) <= top_k).all()
        if top_k is None and top_p == 0.6:
            probability = logits.softmax(-1)
            total = probability.masked_fill(~kept, 0).sum(-1)
            without_last = total - probability.masked_fill(~kept, 1).amin(-1)
            assert (total >= 0.6).all()
            assert (without_last < 0.6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_narrowest_choices_are_greedy(data, kind):
    decoder = any_decoder(kind, data)
    greedy = go_on(decoder, data, SamplingConfig("greedy"))
    for sampling in (SamplingConfig(top_k=1), SamplingConfig(top_p=1e-9), SamplingConfig(temperature=1e-4)):
        np.testing.assert_array_equal(go_on(decoder, data, sampling).item, greedy.item)


@pytest.mark.parametrize("kind", KINDS)
def test_a_customer_goes_on_alike_alone_and_in_company(data, kind):
    decoder, sampling = any_decoder(kind, data), SamplingConfig()
    together = go_on(decoder, data, sampling, seed=4)
    alone = go_on(decoder, data, sampling, seed=4, users=np.array([7]))
    np.testing.assert_array_equal(together.item[7], alone.item[0])
    np.testing.assert_allclose(together.log_probability[7], alone.log_probability[0], atol=1e-4)
    in_chunks = go_on(decoder, data, sampling, seed=4, chunk=3)
    np.testing.assert_array_equal(together.item, in_chunks.item)
    assert (go_on(decoder, data, sampling, seed=5).item != together.item).any()


@pytest.mark.parametrize("kind", KINDS)
def test_only_allowed_items_come_and_none_twice_where_that_is_asked(data, kind):
    decoder = any_decoder(kind, data)
    allowed = all_items(data.n_items)
    allowed[1:13] = False
    for method in ("greedy", "sample"):
        found = go_on(decoder, data, SamplingConfig(method, no_repeat=True), max_items=5, allowed=allowed)
        for row in found.item:
            items = row[row != END].tolist()
            assert len(items) >= 1
            assert len(set(items)) == len(items)
            assert min(items) >= 13
            assert max(items) <= data.n_items
            assert (row[len(items) :] == END).all()


def test_only_the_original_decoders_end_a_history(data):
    ended = go_on(original_decoder(data), data, SamplingConfig(temperature=2.0), max_items=8)
    assert 0 < ended.ended.sum() < len(ended.ended)
    np.testing.assert_array_equal(ended.ended, (ended.item == END).any(1))
    assert (ended.log_probability[ended.item == END] == 0).all()
    assert not go_on(purchase_decoder(data), data, SamplingConfig(), max_items=8).ended.any()


def test_more_distinct_items_than_there_are_cannot_be_asked_for(data):
    few = all_items(data.n_items)
    few[6:] = False
    with pytest.raises(UsageError, match="without repeats there are 5"):
        go_on(purchase_decoder(data), data, SamplingConfig(no_repeat=True), max_items=6, allowed=few)


def test_a_decoder_without_a_transformer_has_nothing_to_go_on_with(data):
    snapshots = Snapshots(data)
    config = ModelConfig(max_length=LONGEST, components=("sales", "past_items"))
    decoder = DecoderRecommender(PurchaseModel(config, snapshots.codes, has_dates=True), snapshots)
    with pytest.raises(UsageError, match="no component sequence"):
        go_on(decoder, data, SamplingConfig())


def _log_probability(decoder, data, user, items, length=3, n_context=9):
    """Log-probability of a sequence, and of its end where it is shorter than the longest."""
    reader = decoder.reader(data.histories(DAY).of([user]), n_context=n_context, n_new=4)
    total = 0.0
    for step, item in enumerate([*items, END][:length]):
        logits = reader.logits_RV[0].detach().clone()
        if step == 0:
            logits[END] = -torch.inf
        total += float(logits.log_softmax(-1)[item])
        reader.extend(torch.tensor([item]))
    return total


def test_the_log_probability_is_that_of_the_items_taken(data):
    for decoder in (purchase_decoder(data), original_decoder(data)):
        found = go_on(decoder, data, SamplingConfig(temperature=0.5, top_k=9), max_items=3, users=np.array([5]))
        items = [int(item) for item in found.item[0] if item]
        expected = _log_probability(decoder, data, 5, items, length=len(items))
        assert float(found.log_probability.sum()) == pytest.approx(expected, abs=1e-4)


def test_nothing_after_the_date_changes_a_continuation(data, tmp_path):
    events = [
        (u, int(data.day[p]), int(data.item[p]) if data.day[p] < DAY else 1)
        for u in range(data.n_users)
        for p in range(data.offsets[u], data.offsets[u + 1])
    ]
    other = write_prepared(tmp_path / "other", events, n_items=data.n_items)
    for kind in KINDS:
        mine = go_on(any_decoder(kind, data), data, SamplingConfig())
        np.testing.assert_array_equal(mine.item, go_on(any_decoder(kind, other), other, SamplingConfig()).item)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_that_do_not_fit_are_refused(data, kind):
    for max_items in (0, LONGEST, 99):
        with pytest.raises(UsageError, match=f"expected 1 to {LONGEST - 1}"):
            go_on(any_decoder(kind, data), data, SamplingConfig(), max_items=max_items)
    assert go_on(any_decoder(kind, data), data, SamplingConfig(), max_items=LONGEST - 1).item.shape[1] == LONGEST - 1

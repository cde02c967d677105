"""The yardstick of ``benchmarks.generation``: what reads everything anew must say what the cache says."""

import numpy as np
from toy import toy_data

from benchmarks.generation import anew, kept, own_decoder, published_decoder
from recsys.modeling.original.recommender import OriginalRecommender
from recsys.modeling.recommenders.base import History


def test_reading_everything_anew_gives_the_items_that_kept_keys_and_values_give(tmp_path):
    data = toy_data(tmp_path, n_users=20, n_items=25, n_days=70, seed=5)
    history = History(data, data.ends_before(18_070), 18_070)
    users = np.flatnonzero(np.diff(data.offsets) >= 8)[:3]
    model = published_decoder(data)
    items = anew(model, history, users, 5)
    assert items.shape == (3, 5)
    assert (items > 0).all()
    np.testing.assert_array_equal(items, kept(OriginalRecommender(model, 13), history, users, 5))
    assert (kept(own_decoder(data, 13), history, users, 5) > 0).all()

"""The yardstick of ``benchmarks.generation``: what reads everything anew must say what the cache says."""

import numpy as np
from toy import toy_data

from benchmarks.generation import anew, kept, original_decoder, own_decoder
from recsys.modeling.original.recommender import OriginalRecommender


def test_reading_everything_anew_gives_the_items_that_kept_keys_and_values_give(tmp_path):
    data = toy_data(tmp_path, n_users=20, n_items=25, n_days=70, seed=5)
    known = data.histories(18_070)
    histories = known.of(np.flatnonzero(known.n_events >= 8)[:3])
    model = original_decoder(data)
    items = anew(model, histories, 5)
    assert items.shape == (3, 5)
    assert (items > 0).all()
    np.testing.assert_array_equal(items, kept(OriginalRecommender(model, 13), histories, 5))
    assert (kept(own_decoder(data, 13), histories, 5) > 0).all()

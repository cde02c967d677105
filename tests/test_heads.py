"""Heads begin as the rules of thumb, and read nothing beyond what they were fitted to."""

import numpy as np
import pytest
import torch

from recsys.companions import COMPANION_FEATURES
from recsys.features import ITEM_FEATURES, KIND_FEATURES, PAST_FEATURES
from recsys.modeling.heads import CompanionHead, KindHead, RepeatHead, SalesHead, Scale

PAST, SALES = len(PAST_FEATURES), len(ITEM_FEATURES)


def test_a_scale_gives_mean_0_and_deviation_1_to_the_rows_it_was_fitted_to():
    rows = torch.randn(500, 3) * torch.tensor([1.0, 20.0, 0.1]) + 5
    scale = Scale(3)
    scale.fit(rows)
    torch.testing.assert_close(scale(rows).mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(scale(rows).std(0), torch.ones(3))


def test_a_scale_never_gives_more_than_it_was_fitted_to_and_nothing_of_what_never_varied():
    rows = torch.stack([torch.linspace(0, 1, 11), torch.full((11,), 3.0)], dim=1)
    scale = Scale(2)
    scale.fit(rows)
    far = scale(torch.tensor([[100.0, 100.0], [-100.0, -100.0]]))
    torch.testing.assert_close(far[:, 0], torch.stack([scale(rows)[:, 0].max(), scale(rows)[:, 0].min()]))
    assert not far[:, 1].any()


def test_the_sales_head_begins_in_the_order_of_last_week_s_sales():
    sales = torch.rand(50, SALES)
    score = SalesHead()(sales)
    torch.testing.assert_close(score, sales[:, ITEM_FEATURES.index("sold_7")])


@pytest.mark.parametrize("better", ["decayed_20", "decayed_60", "sold_7"])
def test_the_repeat_head_begins_with_what_was_bought_more_often_or_later_or_sells_more(better):
    known, head = torch.zeros(2, PAST + SALES), RepeatHead(8)
    known[1, (*PAST_FEATURES, *ITEM_FEATURES).index(better)] = 1
    logits = head(known[:, :PAST], known[:, PAST:], torch.randn(1, 8), torch.zeros(2, dtype=torch.int64))
    assert logits[1] > logits[0]


def test_the_kind_head_begins_with_the_finest_kind_that_is_bought_more_than_it_sells():
    kinds, is_finest = torch.zeros(3, len(KIND_FEATURES)), torch.zeros(9)
    kinds[1:, KIND_FEATURES.index("lift")] = 0.8
    is_finest[[3, 4]] = 1
    score = KindHead(9, is_finest)(kinds, torch.tensor([3, 4, 5]))
    torch.testing.assert_close(score, torch.tensor([0.0, 0.4, 0.0]))


def test_the_companion_head_begins_with_what_is_made_likelier():
    companions = torch.zeros(2, len(COMPANION_FEATURES))
    companions[1, COMPANION_FEATURES.index("lift")] = 0.8
    torch.testing.assert_close(CompanionHead()(companions), torch.tensor([0.0, 0.4]))


def test_past_items_begin_at_an_even_chance_against_the_catalogue():
    past, n_questions, log_catalogue = torch.rand(300, PAST), 20, 9.0
    query = torch.from_numpy(np.repeat(np.arange(n_questions), 15))
    head, sales = RepeatHead(8), torch.rand(300, SALES)
    head.begin(torch.cat([past, sales], dim=1), n_questions, log_catalogue)
    weight = head(past, sales, torch.randn(n_questions, 8), query).exp().sum() / n_questions
    assert float(weight.log().detach()) == pytest.approx(log_catalogue, abs=1e-4)

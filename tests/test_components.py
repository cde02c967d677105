"""Heads begin as the rules of thumb, and read nothing beyond what they were fitted to."""

import numpy as np
import pytest
import torch

from recsys.modeling.decoder.components import (
    CategoryComponent,
    CoPurchaseComponent,
    NeighbourComponent,
    PastItemComponent,
    SalesComponent,
    Scale,
)
from recsys.signals.co_purchases import CO_PURCHASE_FEATURES
from recsys.signals.history import CATEGORY_FEATURES, PAST_FEATURES
from recsys.signals.sales import ITEM_FEATURES, OWN_FEATURES

PAST, SALES, OWN = len(PAST_FEATURES), len(ITEM_FEATURES), len(OWN_FEATURES)


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
    sales[:, ITEM_FEATURES.index("category_sold_7")] = 0
    score = SalesComponent()(sales)
    torch.testing.assert_close(score, sales[:, ITEM_FEATURES.index("sold_7")])


def test_what_never_sold_gets_a_share_of_what_its_kinds_sold_unless_kinds_are_not_read():
    sales = torch.zeros(3, SALES)
    sales[:, ITEM_FEATURES.index("category_sold_7")] = torch.tensor([-1.0, 0.0, 2.0])
    head = SalesComponent()
    torch.testing.assert_close(head(sales), torch.tensor([-0.5, 0.0, 1.0]))
    head.multiply(3)
    torch.testing.assert_close(head(sales), torch.tensor([-1.5, 0.0, 3.0]))
    assert not SalesComponent(reads_kinds=False)(sales).any()


@pytest.mark.parametrize("better", ["decayed_20", "decayed_60", "sold_7"])
def test_the_repeat_head_begins_with_what_was_bought_more_often_or_later_or_sells_more(better):
    known, head = torch.zeros(2, PAST + OWN), PastItemComponent(8)
    known[1, (*PAST_FEATURES, *OWN_FEATURES).index(better)] = 1
    logits = head(known[:, :PAST], known[:, PAST:], torch.randn(1, 8), torch.zeros(2, dtype=torch.int64))
    assert logits[1] > logits[0]


def test_the_kind_head_begins_with_the_finest_kind_that_is_bought_more_than_it_sells():
    categories, is_finest = torch.zeros(3, len(CATEGORY_FEATURES)), torch.zeros(9)
    categories[1:, CATEGORY_FEATURES.index("lift")] = 0.8
    is_finest[[3, 4]] = 1
    score = CategoryComponent(9, is_finest)(categories, torch.tensor([3, 4, 5]))
    torch.testing.assert_close(score, torch.tensor([0.0, 0.4, 0.0]))


def test_the_companion_head_begins_with_what_is_made_likelier():
    co_purchases = torch.zeros(2, len(CO_PURCHASE_FEATURES))
    co_purchases[1, CO_PURCHASE_FEATURES.index("lift")] = 0.8
    torch.testing.assert_close(CoPurchaseComponent()(co_purchases), torch.tensor([0.0, 0.4]))


def dense_neighbours(cosine_VV):
    """Return a head to whose items all others are neighbours, with these cosines."""
    head = NeighbourComponent(len(cosine_VV))
    head.begin(torch.arange(len(cosine_VV), dtype=torch.int32).expand(len(cosine_VV), -1), cosine_VV)
    return head


def test_the_neighbour_head_adds_cosines_of_past_items_the_newer_the_more_and_gives_past_items_nothing():
    cosine_VV = torch.rand(7, 7, generator=torch.Generator().manual_seed(0)) * (1 - torch.eye(7))
    cosine_VV[0], cosine_VV[:, 0] = 0, 0
    head = dense_neighbours(cosine_VV)
    head.multiply(0.5)
    # The first customer bought 2, then 5; the second nothing; the third 6.
    query_P, item_P, age_P = torch.tensor([0, 0, 2]), torch.tensor([2, 5, 6]), torch.tensor([0.9, 0.1, 3.0])
    query_C, item_C, score_C = head(query_P, item_P, age_P)
    strength_QV = torch.stack([cosine_VV[5] + 2**-0.25 * cosine_VV[2], torch.zeros(7), cosine_VV[6]])
    strength_QV[query_P, item_P] = 0
    expected_QV = 0.5 * torch.log1p(1000 * strength_QV)
    found_QV = torch.zeros(3, 7).index_put((query_C, item_C), score_C)
    torch.testing.assert_close(found_QV, expected_QV)
    assert len(query_C) == (expected_QV > 0).sum()
    assert (query_C * 7 + item_C).diff().gt(0).all()


def test_neighbours_are_the_same_in_a_large_catalogue():
    """Few of many items are neighbours: they are added up another way."""
    random = torch.Generator().manual_seed(1)
    small = torch.rand(20, 20, generator=random) * (1 - torch.eye(20))
    small[0], small[:, 0] = 0, 0
    large = NeighbourComponent(20_000)
    neighbour_VK, cosine_VK = torch.zeros(20_000, 419, dtype=torch.int32), torch.zeros(20_000, 419)
    neighbour_VK[:20, :20], cosine_VK[:20, :20] = torch.arange(20, dtype=torch.int32), small
    large.begin(neighbour_VK, cosine_VK)
    asked = torch.tensor([0, 0, 9]), torch.tensor([3, 17, 4]), torch.tensor([0.2, 0.1, 0.0])
    for found, expected in zip(large(*asked), dense_neighbours(small)(*asked), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_neighbour_head_asks_the_newest_items_only_and_nobody_of_a_customer_without_any():
    head = dense_neighbours(torch.ones(60, 60))
    item_P = torch.arange(1, 51)
    query_P, age_P = torch.zeros(50, dtype=torch.int64), torch.arange(50.0)
    _, item_C, score_C = head(query_P, item_P, age_P)
    assert item_C.tolist() == [0, *range(51, 60)]
    expected = torch.log1p(1000 * (2.0 ** (-torch.arange(NeighbourComponent.max_past) / 4)).sum())
    torch.testing.assert_close(score_C, expected.expand(10))
    nobody = head(query_P[:0], item_P[:0], age_P[:0])
    assert [len(part) for part in nobody] == [0, 0, 0]


def test_of_a_large_catalogue_each_item_keeps_fewer_neighbours():
    assert NeighbourComponent(1000).cosine_VK.shape == (1000, 512)
    assert NeighbourComponent(9).cosine_VK.shape == (9, 9)
    assert NeighbourComponent(100_000).cosine_VK.shape == (100_000, 83)


def test_past_items_begin_at_an_even_chance_against_the_catalogue():
    past, n_queries, log_catalogue = torch.rand(300, PAST), 20, 9.0
    query = torch.from_numpy(np.repeat(np.arange(n_queries), 15))
    head, sales = PastItemComponent(8), torch.rand(300, OWN)
    head.begin(torch.cat([past, sales], dim=1), n_queries, log_catalogue)
    weight = head(past, sales, torch.randn(n_queries, 8), query).exp().sum() / n_queries
    assert float(weight.log().detach()) == pytest.approx(log_catalogue, abs=1e-4)


def test_many_rows_score_as_each_of_them_alone():
    torch.manual_seed(0)
    n, codes, queries = 20_000, torch.randint(9, (20_000,)), torch.randint(5, (20_000,))
    asked = (
        (SalesComponent(), (torch.randn(n, SALES),)),
        (PastItemComponent(8), (torch.randn(n, PAST), torch.randn(n, OWN), torch.randn(5, 8), queries)),
        (CategoryComponent(9, torch.ones(9)), (torch.randn(n, len(CATEGORY_FEATURES)), codes)),
        (CoPurchaseComponent(), (torch.randn(n, len(CO_PURCHASE_FEATURES)),)),
    )
    some = torch.tensor([0, 8191, 8192, 16_384, n - 1])
    for head, tables in asked:
        for weight in head.parameters():
            torch.nn.init.normal_(weight, std=0.2)
        chosen = (table[some] if len(table) == n else table for table in tables)
        torch.testing.assert_close(head(*tables)[some], head(*chosen), rtol=1e-4, atol=1e-5)
        assert head(*tables).shape == (n,)

"""Components begin as rules of thumb, and read nothing beyond what they were fitted to."""

import numpy as np
import pytest
import torch
from toy import taken_of

from recsys.modeling.decoder.components import Sizes, component_classes
from recsys.modeling.decoder.components.base import Component, Scale
from recsys.modeling.decoder.components.categories import CategoryComponent
from recsys.modeling.decoder.components.co_purchases import CoPurchaseComponent
from recsys.modeling.decoder.components.past_items import PastItemComponent
from recsys.modeling.decoder.components.sales import SalesComponent
from recsys.modeling.decoder.components.transitions import TransitionComponent
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.signals.categories import CATEGORY_FEATURES
from recsys.signals.co_purchases import CO_PURCHASE_FEATURES
from recsys.signals.item_codes import ItemCodes
from recsys.signals.past_items import PAST_FEATURES
from recsys.signals.sales import ITEM_FEATURES, OWN_FEATURES

PAST, SALES, OWN = len(PAST_FEATURES), len(ITEM_FEATURES), len(OWN_FEATURES)


def sizes_of(n_rows=10, categories=()):
    """Return sizes for ``n_rows`` rows of the catalogue, of the categories (V, C) given."""
    codes = np.array(categories, dtype=np.int64).reshape(n_rows, -1)
    return Sizes(ItemCodes(codes, np.arange(n_rows), codes, {}, None, ()))


def queries_of(n_queries=1, item_features=None, past=(), categories=(), co_purchases=()):
    """Return queries at one day; each of the last three is (query, item or code, features)."""

    def columns(rows, n_features):
        query, item, features = rows or ([], [], np.zeros((0, n_features)))
        place = (torch.as_tensor(part, dtype=torch.int64) for part in (query, item))
        return *place, torch.as_tensor(features, dtype=torch.float32)

    features = torch.zeros(10, SALES) if item_features is None else item_features
    parts = columns(past, PAST), columns(categories, len(CATEGORY_FEATURES))
    nothing = torch.zeros(n_queries, dtype=torch.int64)
    together = columns(co_purchases, len(CO_PURCHASE_FEATURES))
    return QueryTensors(nothing, nothing, nothing, (features,), *parts[0], *parts[1], *together)


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


def test_sales_begin_in_the_order_of_last_week_s():
    features = torch.rand(50, SALES)
    features[:, ITEM_FEATURES.index("category_sold_7")] = 0
    score = SalesComponent(sizes_of(50)).of_table(features)
    torch.testing.assert_close(score, features[:, ITEM_FEATURES.index("sold_7")])


def test_what_never_sold_gets_a_share_of_what_its_categories_sold_where_there_are_some():
    features = torch.zeros(3, SALES)
    features[:, ITEM_FEATURES.index("category_sold_7")] = torch.tensor([-1.0, 0.0, 2.0])
    component = SalesComponent(sizes_of(3, [[0], [1], [1]]))
    torch.testing.assert_close(component.of_table(features), torch.tensor([-0.5, 0.0, 1.0]))
    component.scale_(3)
    torch.testing.assert_close(component.of_table(features), torch.tensor([-1.5, 0.0, 3.0]))
    assert not SalesComponent(sizes_of(3)).of_table(features).any()


@pytest.mark.parametrize("better", ["decayed_20", "decayed_60", "sold_7"])
def test_past_items_begin_with_what_was_bought_more_often_or_later_or_sells_more(better):
    past, features = torch.zeros(2, PAST), torch.zeros(10, SALES)
    if better in PAST_FEATURES:
        past[1, PAST_FEATURES.index(better)] = 1
    else:
        features[7, ITEM_FEATURES.index(better)] = 1
    queries = queries_of(item_features=features, past=([0, 0], [3, 7], past))
    logits = PastItemComponent(sizes_of()).logits(queries)
    assert logits[1] > logits[0]


def test_categories_begin_with_the_finest_one_that_is_bought_more_than_it_sells():
    rows = torch.zeros(3, len(CATEGORY_FEATURES))
    rows[1:, CATEGORY_FEATURES.index("lift")] = 0.8
    # Items 1 and 2 are of the fine categories 3 and 4, both of the coarse one 5.
    component = CategoryComponent(sizes_of(3, [[0, 0], [3, 5], [4, 5]]))
    scores = component.score(queries_of(categories=([0, 0, 0], [3, 4, 5], rows)))
    torch.testing.assert_close(scores.of_items(torch.arange(3)), torch.tensor([[0.0, 0.0, 0.4]]))
    assert component.score(queries_of()) is None


def test_co_purchases_begin_with_what_is_made_likelier():
    rows = torch.zeros(2, len(CO_PURCHASE_FEATURES))
    rows[1, CO_PURCHASE_FEATURES.index("lift")] = 0.8
    scores = CoPurchaseComponent(sizes_of()).score(queries_of(co_purchases=([0, 0], [4, 6], rows)))
    torch.testing.assert_close(scores.score_C, torch.tensor([0.0, 0.4]))
    assert CoPurchaseComponent(sizes_of()).score(queries_of()) is None


def dense_transitions(strength_VV):
    """Return a component in which all items follow each, so strongly."""
    component = TransitionComponent(sizes_of(len(strength_VV)))
    component.set_followers(torch.arange(len(strength_VV), dtype=torch.int32).expand(len(strength_VV), -1), strength_VV)
    return component


def test_transitions_add_up_what_followed_past_items_the_newer_the_more_and_give_past_items_nothing():
    strength_VV = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    strength_VV[0], strength_VV[:, 0] = 0, 0
    component = dense_transitions(strength_VV)
    component.scale_(0.5)
    # The first customer bought 2 and 3 on one day, then 5; the second nothing; the third 6.
    query_P, item_P = torch.tensor([0, 0, 0, 2]), torch.tensor([2, 3, 5, 6])
    query_C, item_C, score_C = component.of_past(query_P, item_P, torch.tensor([0.9, 0.9, 0.1, 3.0]))
    first = strength_VV[5] + 0.7 * (strength_VV[2] + strength_VV[3])
    strength_QV = torch.stack([first, torch.zeros(7), strength_VV[6]])
    strength_QV[query_P, item_P] = 0
    expected_QV = 0.5 * torch.log1p(10 * strength_QV)
    found_QV = torch.zeros(3, 7).index_put((query_C, item_C), score_C)
    torch.testing.assert_close(found_QV, expected_QV)
    assert len(query_C) == (expected_QV > 0).sum()
    assert (query_C * 7 + item_C).diff().gt(0).all()


def test_transitions_are_the_same_in_a_large_catalogue():
    """Few of many items follow: they are added up another way."""
    random = torch.Generator().manual_seed(1)
    small = torch.rand(20, 20, generator=random)
    small[0], small[:, 0] = 0, 0
    large = TransitionComponent(sizes_of(20_000))
    follower_VK, strength_VK = torch.zeros(20_000, 100, dtype=torch.int32), torch.zeros(20_000, 100)
    follower_VK[:20, :20], strength_VK[:20, :20] = torch.arange(20, dtype=torch.int32), small
    large.set_followers(follower_VK, strength_VK)
    past = torch.tensor([0, 0, 9]), torch.tensor([3, 17, 4]), torch.tensor([0.2, 0.1, 0.0])
    for found, expected in zip(large.of_past(*past), dense_transitions(small).of_past(*past), strict=True):
        torch.testing.assert_close(found, expected)


def test_only_the_newest_past_items_are_followed_and_who_has_none_gets_nothing():
    component = dense_transitions(torch.ones(60, 60))
    item_P = torch.arange(1, 51)
    query_P, age_P = torch.zeros(50, dtype=torch.int64), torch.arange(50.0)
    _, item_C, score_C = component.of_past(query_P, item_P, age_P)
    assert item_C.tolist() == [0, *range(51, 60)]
    expected = torch.log1p(10 * (0.7 ** torch.arange(TransitionComponent.max_past)).sum())
    torch.testing.assert_close(score_C, expected.expand(10))
    nobody = component.of_past(query_P[:0], item_P[:0], age_P[:0])
    assert [len(part) for part in nobody] == [0, 0, 0]


def test_of_a_large_catalogue_each_item_keeps_fewer_followers():
    assert TransitionComponent(sizes_of(1000)).strength_VK.shape == (1000, 100)
    assert TransitionComponent(sizes_of(9)).strength_VK.shape == (9, 9)
    assert TransitionComponent(sizes_of(100_000)).strength_VK.shape == (100_000, 83)


def test_past_items_begin_at_an_even_chance_against_the_catalogue():
    past, features, log_partition = torch.rand(300, PAST), torch.rand(10, SALES), 9.0
    query, item = np.repeat(np.arange(20), 15), np.arange(300) % 9 + 1
    queries = queries_of(20, features, (query, item, past))
    component = PastItemComponent(sizes_of())
    component.init_even_chance(queries, log_partition)
    weight = component.logits(queries).exp().sum() / 20
    assert float(weight.log().detach()) == pytest.approx(log_partition, abs=1e-4)


def all_components():
    sizes = sizes_of(10, [[0, 0], *([1 + n % 4, 5 + n % 2] for n in range(9))])
    return {name: one(sizes) for name, one in component_classes().items()}


def with_weights(component):
    torch.manual_seed(0)
    for weight in component.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    if isinstance(component, TransitionComponent):
        others = torch.arange(10, dtype=torch.int32).expand(10, -1)
        component.set_followers(others, torch.rand(10, 10) * (1 - torch.eye(10)))
    return component


def many_queries(n_queries=5000):
    random = np.random.default_rng(1)
    query = np.repeat(np.arange(n_queries), 4)
    item = np.tile(np.arange(4), n_queries) * 2 + 1 + random.integers(0, 2, 4 * n_queries)
    code = np.tile([1, 3, 5, 6], n_queries)
    past, of_code, together = (
        random.normal(size=(len(query), n)).astype(np.float32) for n in (PAST, len(CATEGORY_FEATURES), 6)
    )
    features = torch.from_numpy(random.normal(size=(10, SALES)).astype(np.float32))
    return queries_of(n_queries, features, (query, item, past), (query, code, of_code), (query, item, together))


def scored(component, queries):
    """Return what a component gives (Q, V), past items' own logits in their place."""
    table_QV = torch.zeros(len(queries), 10)
    if isinstance(component, PastItemComponent):
        place = queries.past_query_P, queries.past_item_P
        return table_QV.index_put(place, component.logits(queries))
    return component.score(queries).add_to(table_QV)


@pytest.mark.parametrize("name", list(component_classes()))
@torch.no_grad()
def test_many_queries_score_as_each_of_them_alone(name):
    component, queries = with_weights(all_components()[name]), many_queries()
    some = torch.tensor([0, 2047, 2048, 4096, 4999])  # tables go through a network in blocks
    whole = scored(component, queries)[some]
    assert whole.any()
    torch.testing.assert_close(whole, scored(component, taken_of(queries, some)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(component_classes()))
@torch.no_grad()
def test_every_component_is_scaled_in_its_weights(name):
    component, queries = with_weights(all_components()[name]), many_queries(20)
    before = scored(component, queries)
    component.scale_(1.5)
    torch.testing.assert_close(scored(component, queries), 1.5 * before)


def test_components_are_found_by_their_files_and_named_once():
    classes = component_classes()
    assert list(classes) == ["sales", "past_items", "categories", "co_purchases", "transitions"]
    assert all(issubclass(one, Component) for one in classes.values())

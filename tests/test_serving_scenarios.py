import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.serving.scenario_figures import scenario_figures, wilson
from recsys.serving.scenarios import (
    Listed,
    ListRules,
    PinnedItem,
    ScenarioSettings,
    apply_rules,
    choose_variant,
    resolve_rules,
)
from recsys.serving.store import Store
from recsys.serving.tables import EventRow, RecommendationRow

ITEMS = np.arange(1, 9)
SCORES = np.array([8, 7, 6, 5, 4, 3, 2, 1], np.float32)
PAST = np.array([1, 2, 3, 4, 99])
NOBODY = np.zeros(0, np.int64)


def shown(rules: ListRules, past: np.ndarray = PAST) -> list[int]:
    return [each.item_index for each in apply_rules(ITEMS, SCORES, past, rules)[0]]


def test_without_rules_the_list_is_the_plain_top_k() -> None:
    listed, warnings = apply_rules(ITEMS[::-1], SCORES[::-1], PAST, ListRules(k=3))
    assert listed == [Listed(1, 8.0, None), Listed(2, 7.0, None), Listed(3, 6.0, None)]
    assert warnings == []
    assert shown(ListRules(k=100)) == ITEMS.tolist()
    assert apply_rules(NOBODY, np.zeros(0, np.float32), PAST, ListRules(k=3, repeats="none")) == ([], [])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 45))
def test_the_best_come_first_and_equal_scores_keep_their_order(scores: list[int], k: int) -> None:
    score_N = np.array(scores, np.float32)
    listed, _ = apply_rules(np.arange(1, len(scores) + 1), score_N, NOBODY, ListRules(k=k))
    assert [each.item_index - 1 for each in listed] == np.argsort(-score_N, kind="stable")[:k].tolist()


def test_a_boost_is_added_to_the_score() -> None:
    boost = np.zeros(10, np.float32)
    boost[[7, 1]] = 5.5, -7.5
    listed, _ = apply_rules(ITEMS, SCORES, PAST, ListRules(k=8, boost=boost))
    assert [each.item_index for each in listed] == [7, 2, 3, 4, 5, 6, 8, 1]
    assert (listed[0].score, listed[-1].score) == (7.5, 0.5)


def test_repeats_are_kept_alone_or_left_out() -> None:
    assert shown(ListRules(k=3, repeats="only")) == [1, 2, 3]
    assert shown(ListRules(k=9, repeats="only")) == [1, 2, 3, 4]
    assert shown(ListRules(k=3, repeats="none")) == [5, 6, 7]
    assert shown(ListRules(k=3, repeats="only"), NOBODY) == []


def test_a_pin_has_its_place_and_its_score() -> None:
    pins = [PinnedItem(8, 3, "h"), PinnedItem(2, 1, "b")]
    listed, warnings = apply_rules(ITEMS, SCORES, PAST, ListRules(k=4, pins=pins))
    assert [tuple(each) for each in listed] == [(2, 7.0, "pinned"), (1, 8.0, None), (8, 1.0, "pinned"), (3, 6.0, None)]
    assert warnings == []


def test_a_pin_behind_the_end_of_the_list_is_not_shown_and_its_item_may_be() -> None:
    assert shown(ListRules(k=2, pins=[PinnedItem(1, 3, "a")])) == [1, 2]
    short = ListRules(k=9, repeats="only", pins=[PinnedItem(1, 8, "a")])
    assert shown(short) == [2, 3, 4, 1]  # there is no eighth place


def test_a_pin_that_is_no_candidate_is_left_out_with_a_warning() -> None:
    pins = [PinnedItem(50, 1, "sold out"), PinnedItem(0, 2, "unknown"), PinnedItem(1, 3, "bought")]
    listed, warnings = apply_rules(ITEMS, SCORES, PAST, ListRules(k=3, pins=pins, repeats="none"))
    assert [each.item_index for each in listed] == [5, 6, 7]
    assert warnings == [
        "'sold out', pinned to place 1, is not among the candidates; left out",
        "'unknown', pinned to place 2, is not among the candidates; left out",
        "'bought', pinned to place 3, is not among the candidates; left out",
    ]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, [1, 2, 3, 4]), (0.25, [1, 2, 3, 5]), (0.26, [1, 2, 5, 6]), (0.5, [1, 2, 5, 6]), (1.0, [5, 6, 7, 8])],
)
def test_discoveries_replace_the_worst_repeats(share: float, expected: list[int]) -> None:
    assert shown(ListRules(k=4, discoveries=share)) == expected


def test_discoveries_count_in_tenths_what_a_float_cannot() -> None:
    assert 0.07 * 100 > 7
    items, scores = np.arange(1, 201), -np.arange(200, dtype=np.float32)
    listed, _ = apply_rules(items, scores, np.arange(1, 101), ListRules(k=100, discoveries=0.07))
    assert sum(each.item_index > 100 for each in listed) == 7


def test_discoveries_that_are_there_anyway_change_nothing() -> None:
    assert shown(ListRules(k=4, discoveries=0.5), np.array([1, 3])) == [1, 2, 3, 4]
    assert shown(ListRules(k=3, discoveries=1.0), NOBODY) == [1, 2, 3]


def test_a_pinned_discovery_counts() -> None:
    assert shown(ListRules(k=4, discoveries=0.5, pins=[PinnedItem(8, 1, "h")])) == [8, 1, 2, 5]
    assert shown(ListRules(k=2, discoveries=0.5, pins=[PinnedItem(8, 1, "h"), PinnedItem(1, 2, "a")])) == [8, 1]


def test_too_few_discoveries_are_said_and_the_list_stays_full() -> None:
    listed, warnings = apply_rules(ITEMS[:5], SCORES[:5], PAST, ListRules(k=4, discoveries=0.75))
    assert [each.item_index for each in listed] == [1, 2, 3, 5]
    assert warnings == ["only 1 of 3 places for discoveries could be filled"]


@given(
    st.integers(1, 10),
    st.sampled_from(["keep", "only", "none"]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.dictionaries(st.integers(1, 12), st.integers(0, 9), max_size=4),
    st.sets(st.integers(1, 9)),
)
def test_no_rules_together_repeat_an_item_or_leave_the_candidates(k, repeats, share, pins, past) -> None:
    pinned = [
        PinnedItem(item, position, "x") for position, item in pins.items() if list(pins.values()).count(item) == 1
    ]
    rules = ListRules(k=k, pins=pinned, repeats=repeats, discoveries=share)
    listed = shown(rules, np.array(sorted(past), np.int64))
    left = [item for item in ITEMS if repeats == "keep" or (item in past) == (repeats == "only")]
    assert len(listed) == len(set(listed)) == min(k, len(left))
    assert set(listed) <= set(left)


def settings(**values) -> ScenarioSettings:
    return ScenarioSettings.model_validate(values)


def test_settings_survive_json() -> None:
    given_ = {
        "candidates": ["a", "b"],
        "where": {"colour": ["red"]},
        "boosts": [{"where": {"brand": ["x"]}, "add": 0.5}, {"item_ids": ["a"], "add": -1}],
        "pins": [{"item_id": "a", "position": 2}],
        "discoveries": 0.25,
        "variants": {"a": 1, "b": 2},
        "overrides": {"b": {"pins": []}},
    }
    read = settings(**given_)
    dumped = read.model_dump(mode="json", exclude_unset=True)
    assert dumped == given_
    assert settings(**json.loads(json.dumps(dumped))) == read
    # However it is written down, a variant without pins stays one.
    for dump in (read.model_dump(), read.model_dump(mode="json"), read.model_dump(exclude_defaults=True)):
        again = settings(**dump)
        assert again == read
        assert [len(resolve_rules(again, variant).pins) for variant in ("a", "b")] == [1, 0]
    for example in ScenarioSettings.model_json_schema()["examples"]:
        settings(**example)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"candidate": "all"}, "candidate\n.*Extra inputs"),
        ({"candidates": "sold"}, "candidates"),
        ({"exclude": ["a"] * 1001}, "at most 1000 items"),
        ({"exclude": [""]}, "at least 1 character"),
        ({"exclude": ["a\0"]}, "should match pattern"),
        ({"exclude": ["\ud800"]}, "valid string"),
        ({"discoveries": 1.5}, "less than or equal to 1"),
        ({"repeats": "some"}, "'keep', 'only' or 'none'"),
        ({"boosts": [{"add": 1}]}, "found neither where nor item_ids; expected one of them"),
        ({"boosts": [{"add": 1, "where": {"a": ["b"]}, "item_ids": ["c"]}]}, "found both where and item_ids"),
        ({"boosts": [{"add": float("inf"), "item_ids": ["c"]}]}, "finite number"),
        ({"boosts": [{"add": 1, "item_ids": ["c"]}] * 51}, "at most 50 items"),
        ({"pins": [{"item_id": f"{n}", "position": n} for n in range(1, 52)]}, "at most 50 items"),
        ({"pins": [{"item_id": "a", "position": 0}]}, "greater than or equal to 1"),
        ({"pins": [{"item_id": "a", "position": 1}, {"item_id": "b", "position": 1}]}, "two pins with position 1"),
        ({"pins": [{"item_id": "a", "position": 1}, {"item_id": "a", "position": 2}]}, "two pins with item_id a"),
        ({"repeats": "only", "discoveries": 0.5}, "found discoveries with repeats only"),
        ({"variants": {"a" * 65: 1}}, "at most 64 characters"),
        ({"variants": {"a": -1}}, "greater than or equal to 0"),
        ({"variants": {"a": 0, "b": 0}}, "found no variant with a weight above 0"),
        ({"overrides": {"b": {}}, "variants": {"a": 1}}, r"found 'b', which is no variant; expected \['a'\]"),
        ({"overrides": {"a": {"variants": {}}}, "variants": {"a": 1}}, "Extra inputs"),
        (
            {"overrides": {"a": {"pins": [{"item_id": n, "position": 1} for n in "ab"]}}, "variants": {"a": 1}},
            "two pins with position 1",
        ),
        ({"repeats": "only", "overrides": {"a": {"discoveries": 1}}, "variants": {"a": 1}}, "discoveries with repeats"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**values)


def test_a_customer_keeps_a_variant_and_the_weights_hold() -> None:
    scenario = settings(variants={"b": 1, "a": 3, "never": 0})
    chosen = [choose_variant("sale", scenario, f"customer {number}") for number in range(4000)]
    assert chosen[:6] == ["a", "a", "a", "a", "a", "b"]  # written down: they hold over restarts and machines
    counts = Counter(chosen)
    assert set(counts) == {"a", "b"}
    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.02)
    reordered = settings(variants={"never": 0, "a": 3, "b": 1})
    assert [choose_variant("sale", reordered, f"customer {number}") for number in range(100)] == chosen[:100]
    elsewhere = [choose_variant("other", scenario, f"customer {number}") for number in range(4000)]
    both = sum(first == second == "b" for first, second in zip(chosen, elsewhere, strict=True))
    assert both / 4000 == pytest.approx(1 / 16, abs=0.02)  # scenarios are drawn apart
    assert choose_variant("sale", settings(), "anna") is None


def test_more_weight_moves_customers_to_a_variant_and_none_away() -> None:
    keys = [f"customer {number}" for number in range(500)]
    before = [choose_variant("sale", settings(variants={"a": 1, "b": 1}), key) for key in keys]
    after = [choose_variant("sale", settings(variants={"a": 2, "b": 1}), key) for key in keys]
    assert set(zip(before, after, strict=True)) == {("a", "a"), ("b", "a"), ("b", "b")}


def test_a_variant_and_then_the_request_stand_over_the_scenario() -> None:
    scenario = settings(
        candidates="on_sale",
        where={"brand": ["x"], "colour": ["red"]},
        exclude=["a", "b"],
        repeats="none",
        discoveries=0.5,
        pins=[{"item_id": "p", "position": 1}],
        variants={"plain": 1, "same": 1},
        overrides={"plain": {"pins": [], "repeats": "keep"}},
    )
    same, plain = resolve_rules(scenario, "same"), resolve_rules(scenario, "plain")
    assert same.pins == scenario.pins
    assert (plain.pins, plain.repeats, plain.candidates) == ((), "keep", "on_sale")
    request = {"candidates": ["q"], "where": {"colour": ["blue"]}, "exclude": ["b", "c"], "repeats": "only"}
    asked = resolve_rules(scenario, "same", request)
    assert (asked.candidates, asked.repeats, asked.exclude) == (["q"], "only", ("a", "b", "c"))
    assert asked.where == {"brand": ("x",), "colour": ["blue"]}
    assert asked.discoveries is None  # nothing that was bought is one
    assert asked.pins == same.pins
    silent = {"candidates": None, "where": {}, "exclude": [], "repeats": None}
    assert resolve_rules(scenario, "same", silent) == same
    nothing = resolve_rules(None)
    assert (nothing.candidates, nothing.repeats, nothing.where, nothing.pins) == (None, None, {}, ())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/store.sqlite")
    yield opened
    opened.close()


def save(store: Store, n_lists: int, scenario: str | None, variant: str | None, items: str = "abcd") -> None:
    shown = json.dumps(list(items))
    store.lists.save(
        [
            RecommendationRow(
                f"{scenario}/{variant}/{n}", "2024-05-01", f"u{n}", None, scenario, variant, "m", "{}", shown
            )
            for n in range(n_lists)
        ]
    )


def buy(store: Store, list_id: str, items: str, **columns) -> None:
    n_known = sum(1 for _ in store.events())
    rows = [
        EventRow(f"{n_known + n}", "u", None, item, datetime(2024, 5, 2), recommendation_id=list_id)
        for n, item in enumerate(items)
    ]
    store.add_events([row._replace(**columns) for row in rows])


def test_figures_count_a_purchase_once_a_list_and_only_what_was_shown(store: Store) -> None:
    save(store, 4, "sale", "a")
    save(store, 2, "sale", "b")
    save(store, 1, None, None)
    buy(store, "sale/a/0", "bbz", price=2.0, quantity=3.0)  # b twice, and z that the list did not show
    buy(store, "sale/a/0", "d", price=None)
    buy(store, "sale/a/1", "a", price=1.0)
    buy(store, "sale/a/2", "a", price=9.0, quantity=-1.0)  # brought back
    buy(store, "unknown", "a", price=9.0)
    rows = {(row.scenario, row.variant): row for row in scenario_figures(store)}
    assert list(rows) == [(None, None), ("sale", "a"), ("sale", "b")]
    first, second = rows["sale", "a"], rows["sale", "b"]
    assert (first.n_recommendations, first.n_bought) == (4, 3)
    assert first.hit_rate.value == 2 / 4
    assert first.revenue.value == (3 * 2 + 1) / 4
    assert first.mean_position is not None
    assert first.mean_position.value == (2 + 4 + 1) / 3
    assert (first.mean_position.low, first.mean_position.high) == (1.0, 3.0)
    assert (second.n_bought, second.hit_rate.value, second.revenue.value, second.mean_position) == (0, 0.0, 0.0, None)
    assert (second.revenue.low, second.revenue.high) == (0.0, 0.0)


def test_intervals_hold_the_value_and_are_the_same_every_time(store: Store) -> None:
    save(store, 200, "sale", "a")
    for number in range(0, 200, 4):
        buy(store, f"sale/a/{number}", "abcd"[number % 3], price=1.0 + number % 5)
    rows = scenario_figures(store)
    assert rows == scenario_figures(store)
    for figure in (rows[0].hit_rate, rows[0].revenue, rows[0].mean_position):
        assert figure is not None
        assert figure.low < figure.value < figure.high
    # What the bootstrap over all 200 lists would say, from the spread of their revenues.
    revenue = np.zeros(200)
    revenue[::4] = 1.0 + np.arange(0, 200, 4) % 5
    spread = 1.96 * revenue.std() / np.sqrt(200)
    assert rows[0].revenue.value == pytest.approx(revenue.mean())
    assert rows[0].revenue.high - rows[0].revenue.low == pytest.approx(2 * spread, rel=0.1)


def test_wilsons_interval_is_the_published_one() -> None:
    figure = wilson(81, 263)  # Newcombe (1998), table I, method 3
    assert (round(figure.low, 4), round(figure.high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20).low == 0.0
    assert round(wilson(0, 20).high, 4) == 0.1611
    assert wilson(20, 20).high == 1.0

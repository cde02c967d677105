"""What is planned to be promoted: worked examples by hand, dirty tables, and nothing of what lies beyond the week."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from test_model import recommend, train_steps
from toy import events_of, write_prepared

from benchmarks.quality_cold import write_without
from benchmarks.rerank import feature_names, pair_features
from recsys.config import Config, DataConfig
from recsys.data.days import day_date
from recsys.data.prepare import prepare
from recsys.data.purchases import Histories, Purchases, open_purchases
from recsys.data.sources.completejourney import N_STORES
from recsys.errors import DataError
from recsys.modeling.build import build_module
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.explain.reasons import explain
from recsys.modeling.explain.sentences import LEAST_PROMOTION, ReasonTexts
from recsys.modeling.recommenders.base import Recommendations
from recsys.modeling.recommenders.decoder import DecoderRecommender, build_purchase_model
from recsys.schema import REASONS
from recsys.signals.past_items import PAST_FEATURES, PastItems, past_items
from recsys.signals.promotions import Promotions
from recsys.signals.sales import ITEM_FEATURES, OWN_FEATURES, own_columns
from recsys.signals.snapshot import Snapshots

ENGINES = ("polars", "duckdb")
N_USERS, N_ITEMS, FIRST_DAY, N_WEEKS = 30, 20, 18_000, 12
ASKED = FIRST_DAY + 7 * N_WEEKS
CONFIG = Config.model_validate(
    {
        "model": {"width": 16, "n_heads": 2, "max_length": 40, "dropout": 0.0},
        "split": {"n_folds": 1, "end": day_date(ASKED)},
        "training": {"batch_tokens": 256, "query_windows": 8, "epochs": 1, "lr": 0.01},
    }
)


def planned(log: Purchases) -> Promotions:
    """Return what is planned, as features are made of it."""
    return Promotions.from_table(log.promotions, log.n_items)


def past_of(snapshots: Snapshots, users: np.ndarray, day: int) -> PastItems:
    """Return what ``users`` bought before ``day``, and how it was promoted then."""
    log = snapshots.log
    promoted = snapshots.promoted_sums if snapshots.n_promoted else None
    end, days = log.ends_before(day)[users], np.full(len(users), day)
    return past_items({day: snapshots.at(day).hazards}, snapshots.codes.groups, log, users, end, days, promoted)


def fresh_model(snapshots: Snapshots) -> PurchaseModel:
    torch.manual_seed(0)
    return build_purchase_model(CONFIG, snapshots.codes, None, snapshots.n_promoted).eval()


@pytest.fixture
def two(tmp_path: Path) -> Purchases:
    # Item 1: in the mailer of all shops on days 107 … 113, displayed in half of them on days 110 … 111.
    promotions = [(1, 107, 114, "mailer", 1.0), (1, 110, 112, "display", 0.5), (2, 100, 107, "mailer", 0.25)]
    return write_prepared(tmp_path / "two", [(0, 100, 1), (1, 101, 2)], promotions=promotions)


def test_the_week_from_the_date_on_and_the_one_before_are_told_of(two: Purchases) -> None:
    assert planned(two).features == ("display_coming", "mailer_coming", "display_past", "mailer_past")
    np.testing.assert_allclose(planned(two).at(107)[1:], [[0.5 * 2 / 7, 1, 0, 0], [0, 0, 0, 0.25]])
    # In the middle of a week, of the days that it shares with each.
    np.testing.assert_allclose(planned(two).at(104)[1:], [[0.5 / 7, 4 / 7, 0, 0], [0, 0.25 * 3 / 7, 0, 0.25 * 4 / 7]])
    assert not planned(two).at(130).any()


def test_two_promotions_of_one_medium_at_once_are_no_more_than_all_places(tmp_path: Path) -> None:
    rows = [(1, 107, 110, "mailer", 0.75), (1, 107, 110, "mailer", 0.75)]
    data = write_prepared(tmp_path / "twice", [(0, 100, 1)], promotions=rows)
    np.testing.assert_allclose(planned(data).at(107), [[0, 0], [3 / 7, 0]])
    np.testing.assert_array_equal(planned(data).widest(105), [[0], [1]])
    assert not planned(data).widest(110).any()


def test_what_sells_is_followed_by_how_it_is_promoted(two: Purchases, tmp_path: Path) -> None:
    snapshot = Snapshots(two).at(107)
    assert snapshot.feature_names == (*ITEM_FEATURES, *planned(two).features)
    table = snapshot.item_features
    np.testing.assert_array_equal(table[:, len(ITEM_FEATURES) :], planned(two).at(107))
    assert not table[0].any()
    without = Snapshots(write_prepared(tmp_path / "none", [(0, 100, 1), (1, 101, 2)])).at(107)
    assert without.feature_names == ITEM_FEATURES
    np.testing.assert_array_equal(without.item_features, table[:, : len(ITEM_FEATURES)])
    np.testing.assert_array_equal(table[:, own_columns(0)], table[:, : len(OWN_FEATURES)])
    own = np.concatenate([table[:, : len(OWN_FEATURES)], planned(two).at(107)], axis=1)
    np.testing.assert_array_equal(table[:, own_columns(4)], own)


def weekly(folder: Path, coming: list[tuple[int, int]], seed: int = 3) -> Purchases:
    """Return purchases by favour, and of the item that is promoted in a week by most; ``coming`` (item, day) then."""
    random = np.random.default_rng(seed)
    promoted = random.integers(1, N_ITEMS + 1, N_WEEKS)
    events = []
    for user in range(N_USERS):
        favourites = random.choice(np.arange(1, N_ITEMS + 1), 2, replace=False)
        for week in range(N_WEEKS):
            bought = {int(random.choice(favourites)), int(random.integers(1, N_ITEMS + 1))}
            bought |= {int(promoted[week])} if random.random() < 0.8 else set()
            events += [(user, FIRST_DAY + 7 * week + int(random.integers(7)), item) for item in sorted(bought)]
    starts = [*((int(item), FIRST_DAY + 7 * week) for week, item in enumerate(promoted)), *coming]
    rows = [(item, day, day + 7, "mailer", 1.0) for item, day in starts]
    return write_prepared(folder, events, n_items=N_ITEMS, promotions=rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Purchases, DecoderRecommender]]:
    """Data, and a decoder that learned from their promotions, by the item that is promoted in the week to come."""
    found = {}
    for item in (4, 9):
        log = weekly(tmp_path_factory.mktemp(f"coming-{item}"), [(item, ASKED)])
        module = build_module(CONFIG, log)
        train_steps(module, 12)
        found[item] = log, DecoderRecommender(module.model.eval(), module.batches.snapshots)
    return found


def test_what_is_promoted_next_week_is_recommended_once_promotions_were_learned_from(trained: dict) -> None:
    lists = {item: recommend(one.model, log, ASKED).item[:, :2] for item, (log, one) in trained.items()}
    share = {(plan, item): (lists[plan] == item).any(axis=1).mean() for plan in lists for item in lists}
    assert share[4, 4] > max(0.4, 3 * share[9, 4])
    assert share[9, 9] > max(0.4, 3 * share[4, 9])


def test_a_reason_says_what_a_score_owes_to_the_plan(trained: dict, tmp_path: Path) -> None:
    log, decoder = trained[4]
    histories = log.histories(ASKED)
    every = np.tile(np.arange(1, N_ITEMS + 1, dtype=np.int32), (N_USERS, 1))
    reasons = explain(decoder, histories, every)
    unplanned = weekly(tmp_path / "unplanned", [])
    others = explain(DecoderRecommender(decoder.model, Snapshots(unplanned)), unplanned.histories(ASKED), every)
    owed = reasons.terms.sum(-1) - others.terms.sum(-1)
    np.testing.assert_allclose(reasons.promotion_contribution, owed, atol=1e-4)
    assert not np.delete(reasons.promotion_contribution, 3, axis=1).any()
    assert not others.promotion_contribution.any()
    promoted = reasons.reason == REASONS.index("promoted")
    assert promoted[:, 3].any()
    assert not promoted[reasons.count > 0].any()
    snapshot = decoder.snapshots.at(ASKED)
    texts = np.array(ReasonTexts(snapshot).say(reasons, histories))
    assert set(texts[promoted]) == {"promoted in the week to come: mailer in 100 % of the shops"}
    bought = texts[:, 3][(reasons.count[:, 3] > 0) & (reasons.promotion_contribution[:, 3] >= LEAST_PROMOTION)]
    assert len(bought)
    assert all(text.startswith("bought ") and "; promoted in the week to come: mailer" in text for text in bought)
    reasons.promotion_contribution[:] = LEAST_PROMOTION / 2
    again = np.array(ReasonTexts(snapshot).say(reasons, histories))
    assert not any("promoted" in text for text in again[reasons.count > 0])


def test_of_a_customer_without_a_history_nothing_is_said_of_the_plan(tmp_path: Path) -> None:
    log = weekly(tmp_path / "nobody", [(4, ASKED)])
    snapshots = Snapshots(log)
    model = fresh_model(snapshots)
    with torch.no_grad():
        model.components["sales"].net.rule.weight[:, len(OWN_FEATURES)] = 9.0  # the plan, more than anything else
    every, known = np.arange(1, N_ITEMS + 1, dtype=np.int32)[None], log.histories(ASKED).of(slice(0, 1))
    told = {
        name: explain(DecoderRecommender(model, snapshots), Histories(log, known.user_index, end, ASKED), every)
        for name, end in (("nothing", known.begin), ("all", known.end))
    }
    assert told["nothing"].promotion_contribution[0, 3] > 5
    assert set(told["nothing"].reason[0]) == {REASONS.index("popular")}
    assert REASONS.index("promoted") in told["all"].reason[0] or told["all"].count[0, 3] > 0


def test_weights_do_not_know_what_was_planned_after_what_they_learned_from(tmp_path: Path) -> None:
    states = []
    for name, later in (("one", [(4, ASKED)]), ("other", [(7, ASKED), (9, ASKED - 3), (2, ASKED + 1)])):
        module = build_module(CONFIG, weekly(tmp_path / name, later))
        assert module.batches.split.train_day == ASKED - 14
        train_steps(module, 1)
        states.append(module.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_second_stage_reads_what_the_decoder_is_told(tmp_path: Path) -> None:
    log = weekly(tmp_path / "second", [(4, ASKED)])
    users = np.array([0, 1], dtype=np.int32)
    items = np.array([[4, 9, 1], [4, 2, 3]], dtype=np.int32)
    lists = Recommendations(items, np.array([[3.0, 2, 1], [3, 2, 1]], dtype=np.float32))
    snapshots = {told: Snapshots(log, promotions=told) for told in (True, False)}
    rows = {told: pair_features(log.histories(ASKED).of(users), lists, one) for told, one in snapshots.items()}
    names = {told: feature_names(one) for told, one in snapshots.items()}
    assert len(names[True]) == len(names[False]) + 4
    assert {told: rows[told].shape for told in rows} == {told: (6, len(names[told])) for told in rows}
    assert rows[True][:, names[True].index("mailer_coming")].tolist() == [1, 0, 0, 1, 0, 0]
    kept = [name for name in names[True] if name in names[False]]
    for told in rows:
        assert [name for name in names[told] if name in kept] == kept
    both = [rows[told][:, [names[told].index(name) for name in kept]] for told in rows]
    np.testing.assert_array_equal(*both)
    bought = past_of(snapshots[True], users, ASKED)
    place = {(int(q), int(i)): row for q, i, row in zip(bought.query, bought.item, bought.features, strict=True)}
    for row, (user, item) in zip(rows[True], [(u, i) for u in (0, 1) for i in items[u]], strict=True):
        known = place.get((user, int(item)))
        expected = np.nan if known is None else known[len(PAST_FEATURES)]
        np.testing.assert_array_equal(row[names[True].index("bought_in_mailer")], expected)


def test_a_plan_for_the_days_after_the_week_asked_changes_nothing(tmp_path: Path) -> None:
    plans = {"near": [(4, ASKED)], "far": [(4, ASKED), (9, ASKED + 7), (5, ASKED + 30)]}
    scores = {}
    for name, coming in plans.items():
        log = weekly(tmp_path / name, coming)
        model = fresh_model(Snapshots(log))
        with torch.no_grad():
            for layer in (model.components["sales"].net.rule, model.past_items.net.rule, model.past_items.net.out):
                layer.weight.normal_()
        scores[name] = recommend(model, log, ASKED)
    np.testing.assert_array_equal(scores["near"].item, scores["far"].item)
    np.testing.assert_array_equal(scores["near"].score, scores["far"].score)


def test_a_model_that_is_told_to_leave_promotions_out_is_that_of_data_without_any(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"promotions": False})})
    log = weekly(tmp_path / "with", [(4, ASKED)])
    none = write_prepared(tmp_path / "without", events_of(log), n_items=N_ITEMS)
    states = [build_module(*version).model.state_dict() for version in ((config, log), (CONFIG, none))]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    reads = build_module(CONFIG, log).model.state_dict()
    rule = "components.sales.net.rule.weight"
    assert reads[rule].shape[1] == states[0][rule].shape[1] + 2


SALES = "who,what,when\na,1,2024-03-01\na,2,2024-03-02\nb,1,2024-03-03\n"
PLANS = """\
what,from,to,how,shops
1, 2024-03-04 ,2024-03-10,Mailer,0.5
2,2024-03-10,2024-03-04,Mailer,0.5
1,2024-03-04,2024-13-01,Mailer,0.5
1,2024-03-04,2024-03-04,,0.5
,2024-03-04,2024-03-04,Mailer,0.5
2,2024-03-04,2024-03-04,Mailer,0
2,2024-03-04,2024-03-04,Mailer,1.5
2,2024-03-04,2024-03-04,Mailer,
7,2024-03-04,2024-03-10,Mailer,1
2.0,2024-03-05,2024-03-05,Display,1
"""
MAP = {
    "user_id": "who",
    "item_id": "what",
    "time": "when",
    "file": "sales.csv",
    "promotions": {"file": "plans.csv", "start": "from", "end": "to", "medium": "how", "share": "shops"},
}


def shop(folder: Path, plans: str = PLANS, **promotions: str | None) -> DataConfig:
    (folder / "sales.csv").write_text(SALES)
    (folder / "plans.csv").write_text(plans)
    named = {key: word for key, word in (MAP["promotions"] | promotions).items() if word is not None}
    (folder / "map.yaml").write_text(yaml.safe_dump(MAP | {"promotions": named}))
    return DataConfig(source="table", raw=folder, columns=folder / "map.yaml")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_shops_plans_are_read_and_what_cannot_be_used_is_counted(workplace: Path, engine: str) -> None:
    config = shop(workplace).model_copy(update={"engine": engine})
    manifest = prepare(config)
    assert manifest["n_promotions"] == 2
    assert manifest["report"]["found"]["bad_promotion"] == 7
    rows = pq.read_table(config.folder / "promotions.parquet").to_pylist()
    day = 19786  # 2024-03-04
    assert rows == [
        {"item_index": 1, "first_day": day, "end_day": day + 7, "medium": "Mailer", "share": 0.5},
        {"item_index": 2, "first_day": day + 1, "end_day": day + 2, "medium": "Display", "share": 1},
    ]
    assert planned(open_purchases(config.folder)).features == (
        "Display_coming",
        "Mailer_coming",
        "Display_past",
        "Mailer_past",
    )


def test_both_engines_prepare_the_same_and_other_plans_are_other_data(workplace: Path) -> None:
    config = shop(workplace)
    prints = {prepare(config.model_copy(update={"engine": name, "name": name}))["fingerprint"] for name in ENGINES}
    assert len(prints) == 1
    other = shop(workplace, PLANS.replace("2024-03-10,Mailer,0.5\n2", "2024-03-11,Mailer,0.5\n2"))
    assert prepare(other.model_copy(update={"name": "other"}))["fingerprint"] not in prints


@pytest.mark.parametrize("engine", ENGINES)
def test_without_medium_and_share_every_row_is_of_one_medium_in_all_shops(workplace: Path, engine: str) -> None:
    config = shop(workplace, medium=None, share=None)
    prepare(config.model_copy(update={"engine": engine}))
    assert planned(open_purchases(config.folder)).media == ("promotion",)
    assert set(pq.read_table(config.folder / "promotions.parquet")["share"].to_pylist()) == {1}


def test_what_is_wrong_with_a_file_of_plans_is_said(workplace: Path) -> None:
    with pytest.raises(DataError, match=r"promotions\.start: begin', but .*plans\.csv has no such column; found wh"):
        prepare(shop(workplace, start="begin"))
    with pytest.raises(DataError, match=r"none\.csv is missing"):
        prepare(shop(workplace, file="none.csv"))
    config = shop(workplace, file="plans.parquet")
    pq.write_table(pa.table({"what": [1], "from": [20240304], "to": [20240310]}), workplace / "plans.parquet")
    config = shop(workplace, file="plans.parquet", medium=None, share=None)
    prepare(config)
    assert pq.read_table(config.folder / "promotions.parquet")["first_day"].to_pylist() == [19786]


def test_plans_that_say_nothing_of_what_is_sold_are_refused(workplace: Path) -> None:
    header, first = PLANS.splitlines()[:2]
    with pytest.raises(
        DataError, match=r"none of the 1 promotions .* can be used; expected an item, a medium, a first"
    ):
        prepare(shop(workplace, f"{header}\n{first.replace('0.5', '50')}\n"))
    other = first.replace("1,", "0001,", 1)
    with pytest.raises(DataError, match=r"is of an item that is known there, e\.g\. '0001'; the items have '1'"):
        prepare(shop(workplace, f"{header}\n{other}\n"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_of_plans_without_a_row_is_as_none(workplace: Path, engine: str) -> None:
    config = shop(workplace, f"{PLANS.splitlines()[0]}\n").model_copy(update={"engine": engine})
    assert prepare(config)["n_promotions"] == 0
    snapshots = Snapshots(open_purchases(config.folder))
    assert snapshots.at(19786).feature_names == ITEM_FEATURES
    assert fresh_model(snapshots).n_promoted == 0
    assert past_of(snapshots, np.arange(2), 19786).features.shape == (3, len(PAST_FEATURES))


def test_purchases_that_are_missing_are_told_before_plans_that_fit_none(workplace: Path) -> None:
    config = shop(workplace)
    for rows, said in (("", "has a header and no rows"), ("a,1,2024-13-01\n", "1 of 1 rows .* have bad_date")):
        (workplace / "sales.csv").write_text(f"who,what,when\n{rows}")
        with pytest.raises(DataError, match=said):
            prepare(config)


def test_days_of_plans_are_written_as_those_of_purchases_unless_said_otherwise(workplace: Path) -> None:
    (workplace / "german.csv").write_text("what,from,to\n1,04.03.2024,10.03.2024\n")
    plain = {"file": "german.csv", "medium": None, "share": None}
    with pytest.raises(DataError, match=r"04\.03\.2024, 10\.03\.2024 may be read in two ways; write time_format"):
        prepare(shop(workplace, **plain))
    prepare(shop(workplace, **plain, time_format="%d.%m.%Y"))
    config = shop(workplace, **plain)
    assert pq.read_table(config.folder / "promotions.parquet")["first_day"].to_pylist() == [19786]
    settings = yaml.safe_load((workplace / "map.yaml").read_text()) | {"time_format": "%d.%m.%Y"}
    (workplace / "map.yaml").write_text(yaml.safe_dump(settings))
    (workplace / "sales.csv").write_text("who,what,when\na,1,01.03.2024\n")
    prepare(config, force=True)
    assert pq.read_table(config.folder / "promotions.parquet")["first_day"].to_pylist() == [19786]


def test_days_with_a_time_zone_are_refused(workplace: Path) -> None:
    config = shop(workplace, file="plans.parquet", medium=None, share=None)
    day = pa.array(np.array(["2024-03-04"], dtype="datetime64[us]")).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"what": ["1"], "from": day, "to": day}), workplace / "plans.parquet")
    with pytest.raises(DataError, match="start column of promotions holds times of the zone UTC, expected the shop"):
        prepare(config)


def test_only_what_is_promoted_of_the_items_kept_stays(workplace: Path) -> None:
    config = shop(workplace).model_copy(update={"top_k_items": 1})
    prepare(config)
    assert pq.read_table(config.folder / "promotions.parquet")["item_index"].to_pylist() == [1]


def test_where_items_are_hidden_their_plans_stay(workplace: Path) -> None:
    config = shop(workplace)
    prepare(config)
    data = open_purchases(config.folder)
    fewer = config.model_copy(update={"name": "fewer"})
    write_without(data, np.array([False, False, True]), fewer)
    reduced = open_purchases(fewer.folder)
    np.testing.assert_array_equal(planned(reduced).at(19786), planned(data).at(19786))
    assert reduced.manifest["hashes"]["promotions"] == data.manifest["hashes"]["promotions"]
    assert reduced.fingerprint != data.fingerprint


@pytest.mark.parametrize("engine", ENGINES)
def test_complete_journeys_promotions_are_shares_of_its_stores(workplace: Path, engine: str) -> None:
    time = pa.array(np.array(["2017-01-03T10:00:00", "2017-01-04T10:00:00"], dtype="datetime64[us]"))
    sale = {"household_id": [1, 1], "product_id": [5, 6], "basket_id": [1, 2], "quantity": [1, 1]}
    pq.write_table(pa.table(sale | {"sales_value": [1.0, 2.0], "transaction_timestamp": time}), "transactions.parquet")
    pq.write_table(pa.table({"product_id": [5, 6], "brand": ["a", "b"]}), "products.parquet")
    pq.write_table(pa.table({"household_id": [1], "age": ["45-54"]}), "demographics.parquet")
    rows = [(5, 1, "0", "A", 2), (5, 2, "9", "D", 2), (5, 2, "3", "D", 2), (6, 1, "9", "0", 3), (9, 1, "9", "A", 3)]
    names = ("product_id", "store_id", "display_location", "mailer_location", "week")
    pq.write_table(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]), "promotions.parquet")
    config = DataConfig(source="completejourney", raw=workplace, engine=engine)
    prepare(config)
    found = pq.read_table(config.folder / "promotions.parquet").to_pylist()
    monday = 17168  # 2017-01-02
    assert [tuple(row.values()) for row in found] == [
        (1, monday, monday + 7, "cover", pytest.approx(1 / N_STORES)),
        (1, monday, monday + 7, "display", pytest.approx(1 / N_STORES)),
        (1, monday, monday + 7, "mailer", pytest.approx(1 / N_STORES)),
        (2, monday + 7, monday + 14, "display", pytest.approx(1 / N_STORES)),
    ]


def test_a_past_item_says_how_much_it_was_promoted_when_it_was_bought(tmp_path: Path) -> None:
    # Bought once in the mailer of all shops, once displayed in half of them, once without; another item in neither.
    rows = [(1, 100, 107, "mailer", 1.0), (1, 108, 110, "display", 0.5), (2, 130, 137, "mailer", 1.0)]
    events = [(0, 100, 1), (0, 109, 1), (0, 115, 1), (0, 116, 2), (1, 101, 1), (0, 131, 2)]
    data = write_prepared(tmp_path / "told", events, promotions=rows)
    told = past_of(Snapshots(data), np.array([0, 1, 0]), 120).features[:, len(PAST_FEATURES) :]
    assert planned(data).past_features == (
        "bought_in_display",
        "bought_in_mailer",
        "user_bought_in_display",
        "user_bought_in_mailer",
    )
    first = [[0.5 / 3, 1 / 3, 0.125, 0.25], [0, 0, 0.125, 0.25]]
    np.testing.assert_allclose(told, [*first, [0, 1, 0, 1], *first])  # the purchase of day 131 is not known


def test_long_and_short_promotions_are_found_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    first, length = random.integers(100, 160, 200), random.choice([1, 7, 30], 200)
    rows = [
        (int(item), int(day), int(day + days), "mailer", 0.01)
        for item, day, days in zip(random.integers(1, 4, 200), first, length, strict=True)
    ]
    data = write_prepared(tmp_path / "many", [(0, 100, 1)], n_items=3, promotions=rows)
    for day in (95, 100, 128, 160, 185):
        by_hand = np.zeros(4)
        for item, begin, end, _, share in rows:
            by_hand[item] += share * sum(begin <= one < end for one in range(day, day + 7)) / 7
        np.testing.assert_allclose(planned(data).at(day)[:, 0], by_hand, rtol=1e-5)

"""Nothing at or after a cut reaches what is known or learned before it, however the events there differ.

The tests of each part change the items of later events; here later events are other events: more or fewer of them, of
other customers, on other days.
"""

from dataclasses import is_dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_model import SMALL, train_steps
from toy import events_of, toy_data, write_prepared

from recsys.config import Config, DataConfig, PredictConfig, SplitConfig, TrainingConfig
from recsys.data.days import day_date
from recsys.data.prepare import prepare
from recsys.data.purchases import Purchases, open_purchases
from recsys.evaluation.splits import make_split, window_fold
from recsys.modeling.build import build_module
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.explain.reasons import explain
from recsys.modeling.recommenders.base import Candidates, Recommendations, all_items, candidates_at
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.training.module import PurchaseModule
from recsys.signals.item_codes import ItemCodes
from recsys.signals.past_items import past_items
from recsys.signals.queries import query_at
from recsys.signals.snapshot import Snapshots

N_USERS, N_ITEMS, N_DAYS, FIRST_DAY = 40, 30, 70, 18_000
#: The validation window begins at the first, the only test window a week later.
CUT, TEST_DAY = FIRST_DAY + N_DAYS - 14, FIRST_DAY + N_DAYS - 7
CONFIG = Config.model_validate(
    {
        "model": SMALL.model_dump(),
        "split": {"n_folds": 1, "end": day_date(FIRST_DAY + N_DAYS)},
        "training": {"batch_tokens": 256, "query_windows": 5, "epochs": 1},
        "baselines": {"als_factors": 4, "variant_column": "made_of"},
    }
)
ITEMS = pa.table(
    {
        "item_id": [f"{number:010d}" for number in range(1, N_ITEMS + 1)],
        "made_of": ["clay", "glass", "steel"] * (N_ITEMS // 3),
        "brand": [f"brand {number // 3}" for number in range(N_ITEMS)],  # the only categories: there are few items
    }
)


def written(folder: Path, events: np.ndarray) -> Purchases:
    return write_prepared(folder, events, items=ITEMS, n_items=N_ITEMS, users=[f"u{n}" for n in range(N_USERS)])


@pytest.fixture
def data(tmp_path):
    toy = toy_data(tmp_path, n_users=N_USERS, n_items=N_ITEMS, n_days=N_DAYS, seed=6, first_day=FIRST_DAY)
    return written(tmp_path / "data", events_of(toy))


@pytest.fixture(params=["others", "many", "nearly none"])
def versions(data, tmp_path, request):
    """Give two versions of the data at a cut: as they are, and with other events from it on."""

    def at(cut: int) -> tuple[Purchases, Purchases]:
        events = events_of(data)
        n_later = {"others": int((events[:, 1] >= cut).sum()), "many": 900, "nearly none": 3}[request.param]
        random = np.random.default_rng(n_later)
        # Somebody buys in each window, or the split itself would refuse the data.
        days = np.concatenate([[CUT, TEST_DAY], random.integers(cut, FIRST_DAY + N_DAYS, n_later)])
        later = [
            random.integers(0, N_USERS, len(days)),
            np.maximum(days, cut),
            random.integers(1, N_ITEMS + 1, len(days)),
        ]
        kept = events[events[:, 1] < cut]
        return data, written(tmp_path / f"{request.param}-{cut}", np.concatenate([kept, np.stack(later, axis=1)]))

    return at


def built(data: Purchases) -> PurchaseModule:
    module = build_module(CONFIG, data)
    assert module.batches.split.train_day == CUT
    return module


def test_of_users_held_out_transitions_know_nothing(data, tmp_path):
    config = CONFIG.model_validate({"split": {"protocol": "customers"}, "model": {"width": 16}})
    split = make_split(data, config.split)
    held_out = np.isin(data.user_of_event(), np.flatnonzero(split.train_end == data.offsets[:-1]))
    assert 0 < held_out.sum() < data.n_events / 2
    others = events_of(data)
    others[held_out, 2] = others[held_out, 2] % N_ITEMS + 1
    models = [build_module(config, one).model for one in (data, written(tmp_path / "others", others))]
    learned = [model.components["transitions"] for model in models]
    assert learned[0].strength_VK.any()
    assert torch.equal(learned[0].strength_VK, learned[1].strength_VK)
    assert torch.equal(learned[0].follower_VK, learned[1].follower_VK)


def of_long_histories(data):
    """Return the events (n, 3) of users with three or more, numbered anew, and the places of their last ones."""
    long = np.flatnonzero(np.diff(data.offsets) > 2)
    events = events_of(data)
    events = events[np.isin(events[:, 0], long)]
    events[:, 0] = np.searchsorted(long, events[:, 0])
    ends = np.flatnonzero(np.append(np.diff(events[:, 0]), 1))
    return events, ends


def test_where_the_last_events_are_held_out_transitions_know_nothing_of_them(data, tmp_path):
    events, ends = of_long_histories(data)
    others = events.copy()
    for back in (0, 1):
        others[ends - back, 2] = others[ends - back, 2] % N_ITEMS + 1
    known = others.copy()
    known[ends - 2, 2] = known[ends - 2, 2] % N_ITEMS + 1
    config = CONFIG.model_validate({"split": {"protocol": "leave_one_out"}, "model": {"width": 16}})
    tables = []
    for number, version in enumerate((events, others, known)):
        learned = build_module(config, written(tmp_path / f"version {number}", version)).model.components["transitions"]
        tables.append((learned.follower_VK, learned.strength_VK))
    assert tables[0][1].any()
    assert all(torch.equal(first, second) for first, second in zip(tables[0], tables[1], strict=True))
    assert not torch.equal(tables[0][1], tables[2][1])


def test_transitions_counted_anew_know_the_validation_item_and_nothing_after_it(data, tmp_path):
    events, ends = of_long_histories(data)
    config = CONFIG.model_validate({"split": {"protocol": "leave_one_out"}, "model": {"width": 16}})
    tables = []
    for number, changed in enumerate((ends[:0], ends, ends - 1)):
        version = events.copy()
        version[changed, 2] = version[changed, 2] % N_ITEMS + 1
        log = written(tmp_path / f"renewed {number}", version)
        decoder = DecoderRecommender(build_module(config, log).model, Snapshots(log))
        renewed = decoder.renewed(make_split(log, config.split).tests[0].everybody(log))
        before, after = (one.model.components["transitions"] for one in (decoder, renewed))
        assert not torch.equal(before.strength_VK, after.strength_VK)
        tables.append((after.follower_VK, after.strength_VK))
    assert all(torch.equal(first, second) for first, second in zip(tables[0], tables[1], strict=True))
    assert not torch.equal(tables[0][1], tables[2][1])


@pytest.mark.parametrize(("cut", "same"), [(TEST_DAY, True), (CUT, False)])
def test_a_training_until_the_test_window_learns_the_validation_window_and_nothing_after_it(versions, cut, same):
    training = CONFIG.training.model_copy(update={"until": "test"})
    config = CONFIG.model_copy(update={"training": training})
    states = []
    for data in versions(cut):
        module = build_module(config, data)
        assert module.batches.split.train_day == TEST_DAY
        assert module.validation is None
        torch.manual_seed(0)
        train_steps(module, 1)
        states.append(module.model.state_dict())
    alike = [torch.equal(states[0][name], states[1][name]) for name in states[0]]
    assert all(alike) if same else not all(alike)


def tensors_of(value: object) -> list[torch.Tensor]:
    """All tensors of a batch, however deep."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in tensors_of(part)]
    return [tensor for part in vars(value).values() for tensor in tensors_of(part)]


def test_the_batches_and_queries_of_training_are_the_same(versions):
    epochs = []
    for data in versions(CUT):
        batches = built(data).batches
        batches.epoch = 2
        epochs.append([tensors_of(batch) for batch in batches])
    assert len(epochs[0]) == len(epochs[1]) >= 3
    assert sum(len(batch[-1]) for batch in epochs[0]) > 0  # targets of queries
    for before, after in zip(*epochs, strict=True):
        for one, other in zip(before, after, strict=True):
            assert torch.equal(one, other)


def test_a_module_begins_and_ends_its_training_the_same(versions):
    states, chances = [], []
    for data in versions(CUT):
        module = built(data)
        states.append({name: tensor.clone() for name, tensor in module.model.state_dict().items()})
        chances.append(module.sampler.log_q(torch.arange(N_ITEMS + 1)))
        torch.manual_seed(0)
        train_steps(module, 1)
        states[-1] |= {f"trained {name}": tensor for name, tensor in module.model.state_dict().items()}
    assert torch.equal(*chances)
    # What inputs are divided by is learned from the past as well.
    assert {"components.categories.net.scale.mean_F", "components.past_items.net.scale.mean_F"} <= states[0].keys()
    assert states[0]["trained components.categories.net.out.weight"].abs().max() > 0
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_is_known_at_a_day_is_the_same(versions):
    before, after = versions(TEST_DAY)
    for day in (TEST_DAY, TEST_DAY - 9):
        one, other = (Snapshots(data).at(day) for data in (before, after))
        assert np.array_equal(one.item_features, other.item_features)
        assert np.array_equal(one.category_rarity, other.category_rarity)
        assert (one.lift != other.lift).nnz == 0
        for name in ("everyone", "groups", "frailty"):
            assert np.array_equal(getattr(one.hazards, name), getattr(other.hazards, name))
        for days in (7, 28):
            assert np.array_equal(one.sold(days), other.sold(days))
    lately = PredictConfig(sold_within_days=7)
    allowed = (candidates_at(log, TEST_DAY, lately).allowed for log in (before, after))
    assert np.array_equal(*allowed)


def arrays_of(read):
    """Return all arrays of sequences or queries, those of their summaries too."""
    whole = {name: value for name, value in vars(read).items() if not is_dataclass(value)}
    parts = {name: value for name, value in vars(read).items() if is_dataclass(value)}
    return whole | {(name, inner): array for name, part in parts.items() for inner, array in vars(part).items()}


def test_what_is_read_of_a_history_at_a_day_is_the_same(versions):
    read = [
        query_at(Snapshots(data), data.histories(TEST_DAY), SMALL.max_length, None, lifts=True)
        for data in versions(TEST_DAY)
    ]
    for one, other in zip(*read, strict=True):
        for name, value in arrays_of(one).items():
            assert np.array_equal(value, arrays_of(other)[name]), name
    queries = read[0][1]
    assert min(len(queries.past.query), len(queries.categories.query), len(queries.co_purchases.query)) > N_USERS


def test_codes_and_groups_of_items_come_from_the_item_table_alone(versions):
    """Attributes look at no event at all, so there is no cut for them to look past: a sale never makes a code."""
    before, after = (ItemCodes.from_items(data.items) for data in versions(FIRST_DAY + 1))
    assert before.attributes.shape[1] == 2
    assert before.categories.shape[1] == 1
    assert np.array_equal(before.attributes, after.attributes)
    assert np.array_equal(before.groups, after.groups)
    assert np.array_equal(before.categories, after.categories)


def with_weights(model: PurchaseModel) -> PurchaseModel:
    """Give the categories weights: untrained, they give little, whatever was bought of them."""
    torch.manual_seed(1)
    torch.nn.init.normal_(model.components["categories"].net.out.weight)
    return model


def lists_of(data: Purchases, system: str, model: PurchaseModel, **options: bool) -> Recommendations:
    histories = data.histories(TEST_DAY)
    candidates = candidates_at(data, TEST_DAY, PredictConfig(**options))
    if system == "decoder":
        return DecoderRecommender(model, Snapshots(data)).recommend(histories, 8, candidates)
    validation = make_split(data, CONFIG.split).validation
    return BASELINES[system](histories, CONFIG, validation).recommend(histories, 8, candidates)


@pytest.mark.parametrize("system", ["decoder", *BASELINES])
def test_every_system_recommends_the_same(versions, system):
    before, after = versions(TEST_DAY)
    model = with_weights(built(before).model).eval()
    lists = [lists_of(data, system, model) for data in (before, after)]
    assert np.array_equal(lists[0].item, lists[1].item)
    assert np.array_equal(lists[0].score, lists[1].score)


@pytest.mark.parametrize("components", [("sales", "past_items"), ("sequence",), ("categories", "co_purchases")])
def test_any_choice_of_components_learns_and_recommends_the_same(versions, components):
    config = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"components": components})})
    states, lists = [], []
    before, after = versions(CUT)
    for data in (before, after):
        module = build_module(config, data)
        torch.manual_seed(0)
        train_steps(module, 1)
        states.append(module.model.state_dict())
        histories, candidates = data.histories(CUT), Candidates(all_items(N_ITEMS))
        lists.append(DecoderRecommender(module.model.eval(), Snapshots(data)).recommend(histories, 8, candidates))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert np.array_equal(lists[0].item, lists[1].item)
    assert np.array_equal(lists[0].score, lists[1].score)


def columns_of(
    user: np.ndarray, day: np.ndarray, item: np.ndarray, *, corrupt_from: int = 2**31
) -> dict[str, np.ndarray]:
    """Say of each purchase what depends on it alone; from a day on, something else."""
    hashed = (user * 31 + day * 17 + item * 7) % 11 + np.where(day >= corrupt_from, 5, 0)
    arrays = {"price": 1 + hashed / 4, "channel": hashed % 3, "quantity": 1 + hashed}
    arrays["price"][day < corrupt_from] %= 3  # later prices are such as nobody has paid before
    return arrays | {"basket": np.arange(len(user)) // np.where(day >= corrupt_from, 1, 2)}


def with_all_columns(folder: Path, events: np.ndarray, **options: int) -> Purchases:
    random = np.random.default_rng(0)
    users = pa.table(
        {"user_id": [f"u{n}" for n in range(N_USERS)], "age": [str(age) for age in random.integers(20, 80, N_USERS)]}
    )
    columns = partial(columns_of, **options)
    return write_prepared(folder, events, items=ITEMS, n_items=N_ITEMS, users=users, columns=columns)


READS_ALL = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"customer": True})})


def test_price_channel_quantity_and_basket_of_later_purchases_change_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.signals.user_codes.MIN_USERS", 2)
    events, batches, states, lists = events_of(data), [], [], []
    for name, cut in (("as they are", 2**31), ("corrupt", CUT)):
        version = with_all_columns(tmp_path / name, events, corrupt_from=cut)
        module = build_module(READS_ALL, version)
        assert module.batches.split.train_day == CUT
        batches.append([tensors_of(batch) for batch in module.batches])
        torch.manual_seed(0)
        train_steps(module, 1)
        states.append(dict(module.model.state_dict()))
        module = build_module(READS_ALL, version)
        weight = module.model.user_codes.weight
        weight.data[1:] = torch.arange(weight[1:].numel()).sin().view_as(weight[1:])
        decoder = DecoderRecommender(module.model.eval(), module.batches.snapshots, module.batches.user_codes)
        lists.append(decoder.recommend(version.histories(CUT), 8, Candidates(all_items(N_ITEMS))))
    for before, after in zip(*batches, strict=True):
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert np.array_equal(lists[0].item, lists[1].item)
    assert np.array_equal(lists[0].score, lists[1].score)


def test_reasons_are_the_same(versions):
    before, after = versions(TEST_DAY)
    model = with_weights(built(before).model).eval()
    item = lists_of(before, "decoder", model).item
    reasons = [
        explain(DecoderRecommender(model, Snapshots(data)), data.histories(TEST_DAY), item) for data in (before, after)
    ]
    for name, value in vars(reasons[0]).items():
        assert np.array_equal(value, getattr(reasons[1], name)), name


def shop_rows() -> list[dict[str, str]]:
    """Purchases of twelve customers, several at a time with the same clock, on 40 days."""
    random = np.random.default_rng(1)
    rows = []
    for trip in range(260):
        user, day = int(random.integers(12)), date(2024, 1, 1) + timedelta(days=int(random.integers(40)))
        items = random.choice(15, size=3, replace=False)
        rows += [{"u": f"c{user}", "i": f"i{item}", "t": f"{day} 18:30", "b": f"r{trip}"} for item in items]
    return rows


def prepared(rows: list[dict[str, str]], name: str, columns: str = "basket_id: b", engine: str = "polars") -> Purchases:
    """Write ``rows`` as a shop's CSV file and prepare them as a shop would."""
    lines = ["u,i,t,b", *(",".join(row.values()) for row in rows)]
    Path(f"{name}.csv").write_text("\n".join(lines) + "\n")
    Path(f"{name}.yaml").write_text(f"{{user_id: u, item_id: i, time: t, {columns}}}")
    prepare(DataConfig(source="table", raw=Path(f"{name}.csv"), columns=Path(f"{name}.yaml"), engine=engine, name=name))
    return open_purchases(Path("data/processed") / name)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
@pytest.mark.parametrize("columns", ["basket_id: b", "channel: b"])
def test_the_order_of_rows_at_one_time_changes_neither_batches_nor_lists(workplace, columns, engine):
    """Ties are broken by basket and by a hash of customer, item and day: see recsys.data.order."""
    rows = shop_rows()
    if columns.startswith("channel"):
        rows = [row | {"b": "web"} for row in rows]
    shuffled = [rows[place] for place in np.random.default_rng(5).permutation(len(rows))]
    one, other = prepared(rows, "one", columns, engine), prepared(shuffled, "other", columns, engine)
    assert one.fingerprint == other.fingerprint
    config = Config(model=SMALL, split=SplitConfig(n_folds=1), training=TrainingConfig(batch_tokens=128))
    modules = [build_module(config, data) for data in (one, other)]
    for before, after in zip(*(module.batches for module in modules), strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors_of(before), tensors_of(after), strict=True))
    day = one.last_day - 6
    lists = [
        DecoderRecommender(modules[0].model.eval(), Snapshots(data)).recommend(
            data.histories(day), 5, candidates_at(data, day, PredictConfig())
        )
        for data in (one, other)
    ]
    assert np.array_equal(lists[0].item, lists[1].item)
    assert np.array_equal(lists[0].score, lists[1].score)


def test_a_basket_that_stands_there_twice_is_bought_twice_and_a_target_once(workplace):
    rows = shop_rows()
    first, again = rows[:3], [row | {"b": "again"} for row in rows[:3]]
    once, twice, rescanned = (
        prepared(rows, "once"),
        prepared(rows + again, "twice"),
        prepared(rows + first, "rescanned"),
    )
    user = once.user_index_of(pa.array([rows[0]["u"]]))
    bought = once.item_index_of(pa.array([row["i"] for row in first]))
    day = (date.fromisoformat(rows[0]["t"][:10]) - date(1970, 1, 1)).days
    folds = [window_fold(data, day, 7) for data in (once, twice, rescanned)]
    for fold in folds[1:]:
        for name in ("user_index", "target_offsets", "target_item"):
            assert np.array_equal(getattr(folds[0], name), getattr(fold, name))
    pasts = [
        past_items(
            {day + 1: Snapshots(data).at(day + 1).hazards},
            Snapshots(data).codes.groups,
            data,
            user,
            data.ends_before(day + 1)[user],
            np.array([day + 1]),
            None,
        )
        for data in (once, twice, rescanned)
    ]
    count = [np.expm1(past.features[np.isin(past.item, bought), 0]).round().astype(int) for past in pasts]
    assert (count[1] == count[0] + 1).all()
    assert (count[2] == count[0] + 1).all()
    # Another receipt is another trip; the same receipt scanned twice is not.
    trips = [data.basket[data.ends_before(day + 1)[user] - 1] + 1 for data in (once, twice, rescanned)]
    assert (trips[1] - trips[0]).tolist() == [1]
    assert (trips[2] - trips[0]).tolist() == [0]


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_an_evening_belongs_to_the_day_that_is_written_and_a_zone_is_never_guessed(workplace, engine):
    times = ["2024-01-01 00:00", "2024-01-06 23:59:59.999", "2024-01-07 00:00:00", "2024-01-06T23:30:00+02:00"]
    times += ["2024-01-06T23:30:00Z", "2024-01-06 23:30-05:00"]
    rows = [{"u": "c", "i": f"i{place}", "t": time, "b": "r"} for place, time in enumerate(times)]
    data = prepared(rows, "late", engine=engine)
    # The clock is taken as it is written, with an offset or without: no time is moved to another day.
    assert [day_date(day).isoformat() for day in data.day] == ["2024-01-01", *["2024-01-06"] * 4, "2024-01-07"]
    assert data.ends_before((date(2024, 1, 7) - date(1970, 1, 1)).days).tolist() == [5]


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_a_column_of_times_with_a_zone_holds_that_zones_days_or_those_of_the_shop(workplace, engine):
    times = pa.array([1_704_583_800_000] * 2, pa.timestamp("ms", tz="America/New_York"))
    pq.write_table(pa.table({"u": ["a", "b"], "i": ["x", "y"], "t": times}), "zoned.parquet")
    roles = {"user_id": "u", "item_id": "i", "time": "t"}
    for stated, day in (({}, "2024-01-06"), ({"timezone": "Europe/Berlin"}, "2024-01-07")):
        config = DataConfig(source="table", raw=Path("zoned.parquet"), columns=roles | stated, engine=engine)
        assert prepare(config, force=True)["first_day"] == day

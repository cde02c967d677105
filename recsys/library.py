"""The library: fit a system to purchases, ask it, hold it against others, save it and open it again.

>>> import polars as pl
>>> import recsys
>>> rows = [(user, item, f"2024-{month:02}-11") for month in range(1, 9) for user, item in ((7, "tea"), (8, "jam"))]
>>> rows += [(7, "jam", f"2024-09-{day:02}") for day in range(1, 29)]
>>> frame = pl.DataFrame(rows, schema=["who", "what", "when"], orient="row")
>>> shop = recsys.Purchases.from_frame(frame, user="who", item="what", time="when")
>>> model = recsys.fit(shop, "popularity")
>>> model.recommend([8], k=1)["item_id"].to_list()
['jam']
>>> model.recommend(history=[("tea", "2024-01-20")], k=2)["item_id"].to_list()
['jam', 'tea']
"""
# Long because: it is the whole of what callers of the library use, in one place.

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from recsys.config import Config, DataConfig
from recsys.data.days import day_date, day_number
from recsys.data.frames import given_histories
from recsys.data.from_frames import is_empty
from recsys.data.native import FrameStyle, Which, id_texts
from recsys.data.purchases import Histories, Purchases, open_purchases
from recsys.errors import DataError, RunError, UsageError
from recsys.evaluation.runs import lists_of_fold, settings_of
from recsys.evaluation.scoring import FoldLists, score_systems
from recsys.evaluation.splits import Fold, make_split
from recsys.modeling.generation import Method, SamplingConfig
from recsys.modeling.recommenders.base import Recommendations, all_items, candidates_at, known_items
from recsys.modeling.recommenders.registry import require_baseline
from recsys.modeling.rule_system import RuleSystem
from recsys.runs import HISTORIES_FOLDER, INFO_FILE, SNAPSHOT_FOLDER, Run, config_in
from recsys.schema import DECODER, ITEM_ID, LOG_PROBABILITY, PAST_ITEM_ID, PLACE, RANK, REASON, SCORE, TEXT, USER_ID
from recsys.settings import nested, validated
from recsys.signals.snapshot import Snapshot
from recsys.storage import read_json, replacing, require_absent

if TYPE_CHECKING:
    from recsys.modeling.decoder_system import DecoderSystem

#: A day: a date, or text such as 2024-01-31.
Day = dt.date | str
#: Purchases of one person: pairs of item and day, or triples with a quantity.
History = Sequence[tuple[Any, ...]]
#: Ids of any kind: one, a list, or a series of some library.
Ids: TypeAlias = Any
#: A data frame of pandas, Polars, PyArrow or DuckDB; answers are of the library in which the purchases came.
Frame: TypeAlias = Any

#: Later than any purchase, in days since 1970-01-01.
_NEVER = 10**6
#: What follows ``difference`` in the columns of an evaluation, by the key of its cell.
_ENDS = {"": "value", "_low": "low", "_high": "high"}
#: Columns of reasons that hold ids, and of what.
_ID_COLUMNS: dict[str, Which] = {USER_ID: "user", ITEM_ID: "item", PAST_ITEM_ID: "item"}
#: Load torch, which a rule needs not, and Lightning, which an opened decoder needs not.
_DECODER_SYSTEM, _DECODER_FIT = "recsys.modeling.decoder_system", "recsys.modeling.decoder_fit"
#: What is said of the data where somebody gave a frame.
_GIVEN = DataConfig(source="frame", name="given")
#: A fitted system with the log it reads.
System: TypeAlias = "RuleSystem | DecoderSystem"


def fit(
    shop: Purchases,
    system: str = DECODER,
    *,
    epochs: int | None = None,
    seed: int = 42,
    until: Literal["validation", "end"] = "validation",
    settings: Mapping[str, object] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> "Model":
    """Return ``system`` fitted to a shop's purchases, as ``recsys train`` would.

    ConfigError: there is no such system, or a setting does not fit. DataError: the purchases are too few or too short.

    Args:
        shop: the purchases.
        system: decoder, or a rule or classical model: repeat, als, item_knn, popularity, …
        epochs: passes over the purchases at most; ``training.epochs`` by default.
        seed: of all random numbers.
        until: validation holds out the test windows, and one before to choose an epoch; end, for serving, nothing.
        settings: other settings, as ``recsys train --set`` takes them, such as ``{"model.width": 32}``.
        progress: called with the number of steps done, and of all.
    """
    settings = {} if settings is None else settings
    _require(shop=shop, system=system, settings=settings, progress=progress)
    for name in _names("settings", settings):
        if name.partition(".")[0] == "data":
            raise UsageError(f"settings name {name}, but the purchases are taken as given; filter them before")
    given: dict[str, object] = {"seed": seed, **settings}
    if epochs is not None:
        given["training.epochs"] = epochs
    if until == "end":
        given |= {"training.until": "test", "split.n_folds": 0}
    elif until != "validation":
        raise UsageError(f"until is {until!r}; expected validation or end")
    chosen: Config = validated(nested(given), Config, "the settings given")
    # Where the purchases came from, as far as they know.
    prepared = shop.manifest.get("settings")
    of_shop = validated(prepared, DataConfig, str(shop.folder)) if isinstance(prepared, dict) else _GIVEN
    config = chosen.model_copy(update={"data": of_shop})
    if system == DECODER:
        return Model(import_module(_DECODER_FIT).fit_decoder(config, shop, progress))
    require_baseline(system)
    return Model(RuleSystem(system, config, shop))


def load(folder: str | Path) -> "Model":
    """Open a model that was saved to ``folder``, or a run of ``recsys train``; a RunError where there is none."""
    _require(folder=folder)
    folder = Path(folder)
    if not (folder / INFO_FILE).is_file():
        state = f"lacks {INFO_FILE}" if folder.is_dir() else "does not exist"
        raise RunError(f"{folder} is not a saved model: it {state}; save one with model.save, or train a run")
    info = read_json(folder / INFO_FILE)
    run = Run(folder, config_in(folder), info)
    snapshot = Snapshot.open(folder / SNAPSHOT_FOLDER) if (folder / SNAPSHOT_FOLDER).is_dir() else None
    log = None
    if (folder / HISTORIES_FOLDER).is_dir():
        style = FrameStyle.from_json(info.get("frame_style"))
        log = replace(open_purchases(folder / HISTORIES_FOLDER), style=style)
    elif snapshot is None:
        log = run.open_data()
    system = str(info.get("system", DECODER))
    if system != DECODER:
        if log is None:
            raise RunError(f"{folder} holds {system}, which is nothing without histories; save it with them")
        return Model(RuleSystem(system, run.config, log))
    if run.config.family != "decoder":
        raise RunError(f"{folder} holds a run of the original project; ask it with `recsys predict --run {run.name}`")
    return Model(import_module(_DECODER_SYSTEM).open_decoder(run, log, snapshot))


def evaluate(
    model: "Model", shop: Purchases, *, folds: int = 3, beside: Iterable[str] = (), metrics: Iterable[str] = ()
) -> Frame:
    """Return how good a model's lists are in the last windows of ``shop``, ``beside`` rules, out of the catalogue.

    ``shop`` are the purchases that the model knows, or newer ones. Each of the last ``folds`` windows of
    ``split.horizon_days`` is asked for at its first day; rules are fitted to what was known then. ``metrics`` are names
    such as ``map@12``, all by default. The frame holds ``system, metric, value, low, high, difference, difference_low,
    difference_high, n_users``: paired bootstrap intervals over users, and the model minus the system of the row. A
    UsageError says that the model has learned from one of the windows.
    """
    _require(model=model, shop=shop, beside=beside, metrics=metrics)
    beside, asked = _names("beside", beside), _names("metrics", metrics)
    known = model.log.item_ids
    if shop is not model.log and not shop.item_ids.slice(0, len(known)).equals(known):
        raise DataError(
            "shop: its items are not those that the model knows; expected the purchases it was fitted to, or these "
            "extended by newer ones: give model.log"
        )
    if model.config.split.protocol != "weekly":
        raise UsageError(f"split.protocol is {model.config.split.protocol}; windows have dates: set it to weekly")
    split = model.config.split.model_copy(update={"n_folds": _whole("folds", folds)})
    config = model.config.model_copy(update={"split": split})
    tests = make_split(shop, split).tests
    seen = model.system.seen_before
    if seen is not None and tests[0].start_day < seen:
        raise UsageError(
            f"the model has learned from purchases before {day_date(seen)}, and the first of {folds} windows begins on "
            f"{tests[0].name}; ask for fewer folds, or fit it with settings={{'split.n_folds': {folds}}}"
        )
    systems: dict[str, System] = {model.name: model.system if model.system.log is shop else model.system.extended(shop)}
    systems |= {name: RuleSystem(name, config, shop) for name in beside if name != model.name}
    scores = score_systems([_fold_lists(fold, shop, systems, config) for fold in tests], settings_of(config))
    computed = list(scores["systems"][model.name])
    if not set(asked) <= set(computed):
        raise UsageError(f"metrics are {asked}; expected some of {', '.join(computed)}")
    rows = []
    for name, cells in scores["systems"].items():
        for metric in [metric for metric in cells if metric in (asked or computed)]:
            apart = scores["differences"].get(name, {}).get(metric, {})
            difference = {f"difference{end}": apart.get(key) for end, key in _ENDS.items()}
            rows.append({"system": name, "metric": metric, **cells[metric], **difference})
    n_users = sum(len(fold.user_index) for fold in tests)
    columns = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    return shop.style.to_native(columns | {"n_users": pa.array([n_users] * len(rows))})


class Model:
    """A fitted system to be asked, explained, continued, updated and saved, which :func:`fit` and :func:`load` make.

    Frames come back in the kind in which the purchases came, ids with the dtype of their column.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def __repr__(self) -> str:
        return f"Model({self.name}, {self.log.n_users:,} users, {self.log.n_items:,} items)"

    @property
    def name(self) -> str:
        """Name of the system."""
        return self.system.name

    @property
    def config(self) -> Config:
        """Settings of the system."""
        return self.system.config

    @property
    def log(self) -> Purchases:
        """The purchases that it knows."""
        return self.system.log

    def recommend(
        self,
        users: Ids = None,
        *,
        history: History | None = None,
        k: int = 12,
        date: Day | None = None,
        candidates: Ids = None,
        exclude: Ids = None,
        exclude_seen: bool | None = None,
        reasons: bool = False,
    ) -> Frame:
        """Return the ``k`` best items a user: a frame of user, ``rank`` from 1, item, ``score`` and maybe ``reason``.

        DataError: an id is not known, or fewer than ``k`` items may be recommended. UsageError: users and a history are
        both given, or the system cannot say why.

        Args:
            users: ids; everybody by default.
            history: what somebody bought whom no table knows: pairs of item and day, perhaps with a quantity.
            k: length of a list.
            date: the day asked; only purchases before it are read. The day after the newest purchase by default.
            candidates: ids of the only items that may be recommended.
            exclude: ids of items that are never recommended.
            exclude_seen: whether to leave out what a user has bought; ``predict.exclude_seen`` by default.
            reasons: whether to say why each item is recommended.
        """
        histories = self._histories(users, history, date)
        lists = self._lists(histories, k, candidates, exclude, exclude_seen)
        columns = self._columns(histories, lists.item) | {SCORE: lists.score[lists.item > 0]}
        if reasons:
            columns[REASON] = self._reason_texts(histories, lists.item)
        return self.log.style.to_native(columns)

    def similar_items(self, item: Ids, k: int = 10) -> Frame:
        """Return the ``k`` items most like ``item``, ``rank`` and ``score``; UsageError where they have no vectors."""
        index = int(known_items(id_texts([item], "the item"), self.log, "similar_items")[0])
        score_V = self._able("similar", "say which items are alike")(index)
        score_V[[0, index]] = -np.inf
        best = np.argsort(-score_V, kind="stable")[: min(_whole("k", k), self.log.n_items - 1)]
        ids = self.log.style.ids_to_native(self.log.item_ids.take(pa.array(best - 1)), "item")
        return self.log.style.to_native({RANK: np.arange(1, len(best) + 1), ITEM_ID: ids, SCORE: score_V[best]})

    def explain(self, user: Ids, k: int = 3, *, date: Day | None = None) -> Frame:
        """Return why the ``k`` best items are recommended to ``user``: a row for each purchase that carried one.

        The columns are those of the reasons table of :mod:`recsys.schema`. UsageError: the system cannot say why.
        """
        histories = self._histories(_given_user(user), None, date)
        table: pa.Table = self._able("reasons", "say why")(histories, self._lists(histories, k).item)
        style, columns = self.log.style, dict(zip(table.column_names, table.combine_chunks().columns, strict=True))
        for name, which in _ID_COLUMNS.items():
            columns[name] = style.ids_to_native(table[name].combine_chunks(), which)
        columns[REASON] = table[REASON].cast(pa.string())  # some libraries would show categories
        return style.to_native(columns)

    def generate(
        self, user: Ids, n: int = 5, *, date: Day | None = None, seed: int = 42, method: Method = "sample"
    ) -> Frame:
        """Return how a user's history may go on: user, ``place`` from 1, item and ``log_probability``."""
        if method not in ("sample", "greedy"):
            raise UsageError(f"method is {method!r}; expected sample or greedy")
        n, seed = _whole("n", n), _whole("seed", seed, least=0)
        generate = self._able("generate", "continue histories")
        histories = self._histories(_given_user(user), None, date)
        sampling = SamplingConfig(method=method, no_repeat=True, max_items=n, seed=seed)
        continued = generate(histories, sampling, all_items(self.log.n_items))
        columns = self._columns(histories, continued.item)
        named = {USER_ID: columns[USER_ID], PLACE: columns[RANK], ITEM_ID: columns[ITEM_ID]}
        return self.log.style.to_native(named | {LOG_PROBABILITY: continued.log_probability[continued.item > 0]})

    def update(self, events: Frame | Purchases, *, items: Frame = None, users: Frame = None) -> "Model":
        """Take newer purchases into histories and sales, without training, and return this model.

        New users and items enter at once, items by the attributes in ``items``. A frame without a row changes nothing.
        Errors are those of :meth:`Purchases.from_frame`.
        """
        if isinstance(events, Purchases) or not is_empty(events, "the frame of purchases"):
            self.system = self.system.extended(self.log.extended(events, items=items, users=users))
        return self

    def save(self, folder: str | Path, *, histories: bool = True, force: bool = False) -> None:
        """Write the model to ``folder``, whole or not at all: weights, settings, snapshot, histories and a card.

        Without ``histories`` it knows no users, only items, and is asked about histories that are given. An
        OutputExistsError says that the folder exists, if ``force`` is false.
        """
        _require(folder=folder)
        folder = Path(folder)
        require_absent(folder, force=force)
        with replacing(folder, INFO_FILE) as aside:
            aside.mkdir()
            self.system.save(aside, histories=histories)

    def _histories(self, users: Ids, history: History | None, date: Day | None) -> Histories:
        if users is not None and history is not None:
            raise UsageError("users and history are both given; ask for known users, or for one history")
        day = None if date is None else _day(date)
        if history is not None:
            return self._given(history, day)
        if not self.log.n_users:
            raise UsageError("the model was saved without histories and knows no users; give it a history")
        day = self.system.last_day + 1 if day is None else day
        if day <= self.log.first_day:
            first = day_date(self.log.first_day)
            raise DataError(f"date is {day_date(day)}, and nothing was bought before; expected a day after {first}")
        everybody = self.log.histories(day)
        return everybody if users is None else everybody.of(self._known_users(users))

    def _given(self, history: History, day: int | None) -> Histories:
        """Return one history that is given, asked at ``day``, or after all that is known."""
        given = given_histories(self.log, [history], _NEVER if day is None else day)
        if given.unknown_items:
            raise DataError(
                f"history: item {given.unknown_items[0][1]!r} is unknown; expected ids as in the purchases, such as "
                f"{self.log.item_ids[0].as_py()!r}; leave it out, or take it in with update(events, items=...)"
            )
        if given.later_events:
            raise DataError(
                f"history: {given.later_events[0][1]!r} was bought on {day_date(given.histories.day)} or later, and "
                "only purchases before the day asked are known; ask for a later date"
            )
        if day is None:
            log = given.histories.log
            day = max(self.system.last_day, log.last_day if log.n_events else 0) + 1
        return replace(given.histories, day=day)

    def _known_users(self, users: Ids) -> np.ndarray:
        ids = id_texts(users if isinstance(users, Iterable) and not isinstance(users, str) else [users], "users")
        index = self.log.user_index_of(ids)
        unknown = np.flatnonzero(index < 0)
        if len(unknown):
            raise DataError(
                f"users: {len(unknown)} of {len(ids)} are unknown, such as {ids[int(unknown[0])].as_py()!r}; expected "
                f"ids as in the purchases, such as {self.log.user_ids[0].as_py()!r}, or give what somebody bought as "
                "history="
            )
        return index

    def _lists(
        self, histories: Histories, k: int, candidates: Ids = None, exclude: Ids = None, seen: bool | None = None
    ) -> Recommendations:
        settings, k = self.config.predict, _whole("k", k)
        if seen not in (None, True, False):
            raise UsageError(f"exclude_seen is {seen!r}; expected True or False")
        only, blocked = (
            None if ids is None else known_items(id_texts(ids, name), self.log, name)
            for ids, name in ((candidates, "candidates"), (exclude, "exclude"))
        )
        window = settings.sold_within_days if self.log.n_users else None
        seen = settings.exclude_seen if seen is None else seen
        settings = settings.model_copy(update={"sold_within_days": window, "exclude_seen": seen})
        chosen = candidates_at(self.log, histories.day, settings, only, blocked)
        return self.system.at(histories.day).recommend(histories, k, chosen)

    def _columns(self, histories: Histories, item: np.ndarray) -> dict[str, Any]:
        """Return user, rank and item of lists (Q, K), padded with 0, as columns."""
        style, (row, place) = self.log.style, np.nonzero(item)
        users = pa.nulls(len(histories), pa.string())
        if histories.table_rows is None:
            users = histories.log.user_ids.take(pa.array(histories.user_index))
        user_ids = users.take(pa.array(row))
        item_ids = self.log.item_ids.take(pa.array(item[row, place].astype(np.int64) - 1))
        ids = {USER_ID: style.ids_to_native(user_ids, "user"), ITEM_ID: style.ids_to_native(item_ids, "item")}
        return {USER_ID: ids[USER_ID], RANK: place + 1, ITEM_ID: ids[ITEM_ID]}

    def _reason_texts(self, histories: Histories, item: np.ndarray) -> pa.Array:
        table: pa.Table = self._able("reasons", "say why")(histories, item)
        user, rank = np.asarray(table[USER_ID].combine_chunks().indices), np.asarray(table[RANK])
        # An item has a row for each purchase that carried it, all with one text.
        is_next = (np.diff(user, prepend=-1) != 0) | (np.diff(rank, prepend=0) != 0)
        return table[TEXT].filter(pa.array(is_next))

    def _able(self, method: str, deed: str) -> Callable[..., Any]:
        able = getattr(self.system, method, None)
        if able is None:
            raise UsageError(f"{self.name} cannot {deed}; fit the decoder: recsys.fit(shop)")
        return able


def _fold_lists(fold: Fold, shop: Purchases, systems: Mapping[str, System], config: Config) -> FoldLists:
    candidates, histories = candidates_at(shop, fold.start_day, config.predict), fold.histories(shop)
    k = min(config.predict.k, int(candidates.allowed.sum()))
    lists = {name: one.at(fold.start_day).recommend(histories, k, candidates).item for name, one in systems.items()}
    return lists_of_fold(shop, fold, lists, config.predict.sold_within_days)


#: The types of arguments, and what messages expect in place of another.
_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "shop": (Purchases, "purchases: recsys.Purchases.from_frame(...)"),
    "model": (Model, "a model; fit one with recsys.fit, or open one with recsys.load"),
    "system": (str, f"a name; give {DECODER}, or a rule such as repeat"),
    "settings": (Mapping, "a mapping; give it as {'model.width': 32}"),
    "progress": (Callable, "a function of the steps done and of all; give one, or leave it out"),
    "folder": (str | os.PathLike, "a path; give the folder of a saved model"),
    **dict.fromkeys(("beside", "metrics"), (Iterable, "a list of names; put them into one")),
}


def _require(**given: object) -> None:
    for name, value in given.items():
        kind, expected = _ARGUMENTS[name]
        if not isinstance(value, kind):
            raise UsageError(f"{name} is of type {type(value).__name__}; expected {expected}")


def _names(argument: str, values: Iterable[str]) -> list[str]:
    names = [values] if isinstance(values, str) else list(values)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"{argument} holds {name!r}; expected names; give each as text")
    return names


def _given_user(user: Ids) -> Ids:
    if user is None:
        raise UsageError("user is None; give the id of a user")
    return user


def _whole(name: str, value: object, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UsageError(f"{name} is {value!r}; expected a whole number, at least {least}")
    return int(value)


def _day(value: Day) -> int:
    try:
        if isinstance(value, dt.datetime):
            value = value.date()
        return day_number(value if isinstance(value, dt.date) else dt.date.fromisoformat(str(value)[:10]))
    except (ValueError, TypeError) as error:
        raise UsageError(f"date is {value!r}; expected a date, or text such as 2024-01-31") from error

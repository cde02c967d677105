"""What :mod:`benchmarks.quality` asks of each data set: where it comes from, its protocol, its segments, its rules."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.process import ROOT
from recsys.data.purchases import Purchases
from recsys.errors import DataError, UsageError
from recsys.evaluation.segments import target_segments
from recsys.evaluation.splits import Fold

REAL_DATA: Final = "RECSYS_REAL_DATA"
_WEEKLY_RULES: Final = (
    *("repeat", "gp_topfreq", "tifu_knn"),
    *("transitions", "covisitation", "item_knn", "als"),
    *("popularity_week", "popularity"),
)
_NEXT_ITEM_RULES: Final = ("transitions", "transitions_training_counts", "item_knn", "als", "popularity")


@dataclass(frozen=True)
class Part:
    """Some of the targets, and by which metrics the lists are judged on them; rules are chosen by the first one.

    With ``exclude_seen`` the lists are made once more, without what each customer had bought before.
    """

    segment: str
    metrics: tuple[str, ...]
    targets: str = "all"  # a segment of recsys.evaluation.segments, all, or with_history
    exclude_seen: bool = False


@dataclass(frozen=True)
class DataSet:
    """A data set, its protocol in words and in settings, and what is compared on it.

    With ``retrained`` the decoder learns anew for each test window, from all that lies before it; else once, before the
    first. ``raw`` is a file under the folder of real data, or the files that stand under the names of a source's own;
    None where the source brings its data along. ``settings`` say only what the data ask for: their reader, the split,
    from when and for how long is learned, and the width and length of the decoder.
    """

    about: str
    settings: Mapping[str, str]
    parts: tuple[Part, ...]
    rules: tuple[str, ...]
    raw: str | Mapping[str, str] | None = None
    preparing: Mapping[str, str] = field(default_factory=dict)  # settings that training does not read
    retrained: bool = False  # needs split.end
    whole: str | None = None  # the data set from which items are hidden, see benchmarks.quality_cold

    @property
    def needs(self) -> tuple[str, ...]:
        """Files under the folder of real data."""
        return () if self.raw is None else (self.raw,) if isinstance(self.raw, str) else tuple(self.raw.values())


_BASKETS: Final = (
    Part("all", ("map@12",)),
    Part("repeated", ("recall@12",), targets="repeated"),
    Part("new", ("map@12", "recall@12"), targets="new", exclude_seen=True),
)
_NEXT_ITEM: Final = (
    Part("all", ("hit_rate@10", "ndcg@10"), exclude_seen=True),
    Part("seen_too", ("hit_rate@10", "ndcg@10")),
)
_SEQUENCES: Final = {
    "data.source": "sequences",
    "split.protocol": "leave_one_out",
    "predict.exclude_seen": "true",
}
_SEQUENCES_ABOUT: Final = (
    "Every user is asked for the last item, knowing the ones before it, out of the whole catalogue without the items "
    "of the history, as the evaluations of S3-Rec and HSTU do; segment seen_too leaves them in."
)
_BASKETS_ABOUT: Final = (
    "Customers who bought in the window are asked at its first day, out of all products. Recommendations for the "
    "segment new are made without what the customer had bought before."
)

DATA_SETS: Final[dict[str, DataSet]] = {
    "completejourney": DataSet(
        about="Complete Journey, three weeks of December 2017; the decoder learns anew for each week, from the 120 "
        "days before the week that chooses the epoch and weighs the parts. It knows what is planned to be promoted in "
        f"the week asked. {_BASKETS_ABOUT}",
        settings={
            "data.source": "completejourney",
            "split.end": "2018-01-01",
            "split.n_folds": "3",
            "training.recent_days": "120",
        },
        retrained=True,
        parts=_BASKETS,
        rules=_WEEKLY_RULES,
    ),
    "online_retail": DataSet(
        about="UCI Online Retail, the last three windows of 30 days; the decoder learns anew for each from all that "
        f"lies before it; the window before it chooses the epoch and weighs the parts. {_BASKETS_ABOUT}",
        settings={
            "data.source": "table",
            "data.name": "online_retail",
            "split.horizon_days": "30",
            "split.n_folds": "3",
            "split.end": "2011-12-10",
            "training.epochs": "8",
        },
        preparing={"data.columns": str(ROOT / "configs" / "columns" / "online_retail.yaml")},
        retrained=True,
        parts=_BASKETS,
        rules=_WEEKLY_RULES,
        raw="online_retail/online_retail.parquet",
    ),
    "hm_week": DataSet(
        about="All purchases at H&M from 16 to 22 September 2020: those of the first five days are known, everybody "
        "who bought on the last two is asked, out of all articles.",
        settings={
            "data.source": "hm",
            "data.name": "hm_week",
            "split.horizon_days": "2",
            "split.n_folds": "1",
            "split.end": "2020-09-23",
        },
        parts=(
            Part("all", ("map@12",)),
            Part("with_history", ("map@12",), targets="with_history"),
            Part("without_history", ("map@12",), targets="without_history"),
        ),
        rules=("repeat", "variants", "gp_topfreq", "tifu_knn", "transitions", "popularity"),
        raw={
            "transactions_train.csv": "hm/transactions_last_week.csv",
            "articles.csv": "hm/articles.csv",
            "customers.csv": "hm/customers.csv",
        },
    ),
    "beauty": DataSet(
        about=f"Amazon Beauty, 5-core. {_SEQUENCES_ABOUT}",
        settings=_SEQUENCES
        | {
            "data.name": "beauty",
            "model.max_length": "50",
            "training.epochs": "30",
        },
        parts=_NEXT_ITEM,
        rules=_NEXT_ITEM_RULES,
        raw="amazon_beauty/Beauty.txt",
    ),
    "ml-1m": DataSet(
        about=f"MovieLens-1M, 5-core. {_SEQUENCES_ABOUT}",
        settings=_SEQUENCES
        | {
            "data.name": "ml-1m",
            "model.width": "128",
            "model.max_length": "200",
            "training.epochs": "20",
        },
        parts=_NEXT_ITEM,
        rules=_NEXT_ITEM_RULES,
        raw="ml-1m/sequences.txt",
    ),
}


def without_hidden_items(whole: str, about: str, data_set: DataSet) -> DataSet:
    """Return what asks for new products in ``data_set``, called ``whole``: a tenth of its items, hidden from training.

    No rule is asked: none of them ranks what nobody has bought.
    """
    return replace(
        data_set,
        about=f"{about}. {_COLD_ABOUT}",
        settings={**data_set.settings, "data.name": f"cold_{whole}"},
        parts=(
            Part("hidden", ("recall@12",)),
            Part("hidden, with_history", ("recall@12",), targets="with_history"),
        ),
        rules=(),
        whole=whole,
        retrained=False,
    )


_COLD_ABOUT: Final = (
    "Of the items that were ever sold, a tenth is hidden: the decoder sees no event of theirs, not in training and not "
    "in a history. Customers who bought hidden items in the window are asked at its first day, out of these alone."
)
DATA_SETS["cold_completejourney"] = without_hidden_items(
    "completejourney", "Complete Journey, three weeks of December 2017", DATA_SETS["completejourney"]
)
DATA_SETS["cold_hm_week"] = without_hidden_items(
    "hm_week", "H&M, 21 and 22 September 2020, knowing the five days before", DATA_SETS["hm_week"]
)
#: One word for several data sets, measured one after the other.
GROUPS: Final[dict[str, tuple[str, ...]]] = {"cold": ("cold_completejourney", "cold_hm_week")}


def names_of(word: str) -> tuple[str, ...]:
    """Return the data sets that ``word`` means.

    >>> names_of("cold")
    ('cold_completejourney', 'cold_hm_week')
    """
    return GROUPS.get(word, (word,))


def find_data_set(name: str) -> DataSet:
    """Return the data set called ``name``.

    Raises:
        UsageError: there is none.
    """
    if name not in DATA_SETS:
        raise UsageError(f"there is no data set {name!r}; expected one of {', '.join([*DATA_SETS, *GROUPS])}")
    return DATA_SETS[name]


def raw_of(name: str, data_set: DataSet, work: Path) -> Path | None:
    """Return what ``dataset main --raw`` reads; files of other names are linked together in the folder ``work``.

    Raises:
        UsageError: the data lie in the folder of real data, and nothing says where that is.
        DataError: a file is missing there.
    """
    if data_set.raw is None:
        return None
    place = os.environ.get(REAL_DATA)
    if not place:
        raise UsageError(
            f"{name} is read from {', '.join(data_set.needs)} in a folder of real data, and {REAL_DATA} does not say "
            f"where that is; run: {REAL_DATA}=/path/to/data make bench-quality DATA={name}"
        )
    folder = Path(place).resolve()
    for file in data_set.needs:
        if not (folder / file).is_file():
            raise DataError(
                f"{folder / file} is missing: {name} is read from {', '.join(data_set.needs)} under {REAL_DATA} "
                f"({place}); put the file there, or let {REAL_DATA} name the folder that has it"
            )
    if isinstance(data_set.raw, str):
        return folder / data_set.raw
    linked = work / "raw" / name
    linked.mkdir(parents=True, exist_ok=True)
    for link, file in data_set.raw.items():
        (linked / link).unlink(missing_ok=True)
        (linked / link).symlink_to(folder / file)
    return linked


def chosen_targets(data: Purchases, fold: Fold) -> dict[str, np.ndarray]:
    """Return, for each name that :attr:`Part.targets` may have, which of the fold's targets (n,) bool belong to it."""
    segments = target_segments(data, fold)
    everything = np.ones(len(fold.target_item), dtype=bool)
    return segments | {"all": everything, "with_history": ~segments["without_history"]}

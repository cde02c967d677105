"""Reasons in plain English, with the names of the items; and as a table."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recsys.console import progress
from recsys.data.days import day_date
from recsys.data.item_names import Labels, long_date, readable
from recsys.data.purchases import Purchases
from recsys.evaluation.tables import REASONS_SCHEMA, reason_rows
from recsys.modeling.explain.reasons import Reasons, explain
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.schema import REASON_KINDS
from recsys.signals.item_codes import group_column
from recsys.signals.sales import ITEM_FEATURES, ItemSales
from recsys.storage import replacing

#: Customers whose reasons are found, and written, at a time.
CHUNK_USERS = 1024
#: What a repeat's logit owes at least to a plan that is told with it: a tenth, by which the odds rise by about a tenth.
LEAST_PLANNED = 0.1


class ReasonTexts:
    """Says reasons at a date in words."""

    def __init__(self, data: Purchases, sales: ItemSales, day: int, *, has_neighbours: bool = False) -> None:
        """Take what a model reads; one that ``has_neighbours`` knows no order of what the same customers bought."""
        self._goes_with = "goes with" if has_neighbours else "often after"
        self._labels = Labels(data.items)
        self._group_column = group_column(data.items)
        self._group_values = None if self._group_column is None else data.items[self._group_column].to_list()
        self._known = data.ends_before(day) > data.offsets[:-1]
        self._sold_7, self._sold_28 = sales.sold(day - 7, day), sales.sold(day - 28, day)
        told_VF = sales.at(day)
        self._never_sold = told_VF[:, ITEM_FEATURES.index("never_sold")] > 0
        self._kinds_sell = told_VF[:, ITEM_FEATURES.index("category_sold_7")] > 0
        promotions = data.promotions
        self._promotion_kinds = () if promotions is None else promotions.categories
        self._widest = np.zeros((data.n_items + 1, 0)) if promotions is None else promotions.widest(day)

    def of(self, reasons: Reasons) -> list[list[str]]:
        """Return a sentence for each of (Q, K); an empty one for padding."""
        n_users, k = reasons.item.shape
        return [[self._one(reasons, row, place) for place in range(k)] for row in range(n_users)]

    def _one(self, reasons: Reasons, row: int, place: int) -> str:
        item = int(reasons.item[row, place])
        if not item:
            return ""
        kind = REASON_KINDS[reasons.kind[row, place]]
        named = [int(past) for past in reasons.past_item[row, place] if past]
        dated = [self._dated(*pair) for pair in zip(named, reasons.past_day[row, place].tolist(), strict=False)]
        if kind == "repeat":
            count, last = int(reasons.count[row, place]), _date(reasons.past_day[row, place, 0])
            bought = f"bought {count:,} times, last on {last}" if count > 1 else f"bought once, on {last}"
            return f"{bought}; {self._plan(item)}" if reasons.planned[row, place] >= LEAST_PLANNED else bought
        if kind == "promoted":
            return self._plan(item)
        if kind == "rising":
            a_week = self._sold_28[item] / 4
            return f"on the rise: {self._sold_7[item]:,} sold in the last 7 days, {a_week:,.1f} a week in the last 28"
        if kind == "variant":
            return f"another {self._group(item)}, after {_listed(dated)}"
        if kind == "often_after":
            return f"{self._goes_with} {_listed(dated)}"
        if self._never_sold[item]:
            return f"not sold yet{': others of its kind sell well' if self._kinds_sell[item] else ''}"
        if self._known[reasons.user_index[row]]:
            return "sells well: no purchase speaks for it more than another item would"
        return "nothing is known of the customer: a best seller of the week"

    def _plan(self, item: int) -> str:
        """Return what is planned for an item in the week from the date on: each kind's best day, the widest first."""
        shares: list[float] = self._widest[item].tolist()
        categories = sorted(zip(shares, self._promotion_kinds, strict=True), reverse=True)
        told = [f"{readable(kind)} {_percent(share)}" for share, kind in categories if share > 0]
        return f"promoted in the week to come: {', '.join(told)}"

    def _dated(self, item: int, day: int) -> str:
        return f"{self._labels.product(item).label} ({_date(day)})"

    def _group(self, item: int) -> str:
        """Return the value that an item shares with its group, in words where it is one."""
        value = readable(self._group_values[item - 1]) if self._group_values is not None else ""
        if any(letter.isalpha() for letter in value):
            return value
        return f"item of the same {str(self._group_column).replace('_', ' ')}"


def write_reasons(
    recommender: DecoderRecommender, history: History, user_index: np.ndarray, item: np.ndarray, path: Path
) -> None:
    """Write why ``item`` (Q, K) is recommended to ``user_index`` (Q,) to a Parquet table, whole or not at all."""
    texts = _texts(recommender, history)
    with replacing(path) as aside, pq.ParquetWriter(aside, REASONS_SCHEMA) as writer, progress() as bar:
        task = bar.add_task("reasons", total=len(user_index))
        for begin in range(0, len(user_index), CHUNK_USERS):
            users = user_index[begin : begin + CHUNK_USERS]
            reasons = explain(recommender, history, users, item[begin : begin + CHUNK_USERS])
            past = reasons.past_item, reasons.past_day, reasons.share
            writer.write_table(reason_rows(history.data, users, reasons.item, reasons.kind, past, texts.of(reasons)))
            bar.advance(task, len(users))


def say_reasons(
    recommender: DecoderRecommender, history: History, user_index: np.ndarray, item: np.ndarray
) -> list[list[str]]:
    """Return why ``item`` (Q, K), padded with 0, is recommended to ``user_index`` (Q,), in words."""
    return _texts(recommender, history).of(explain(recommender, history, user_index, item))


def _texts(recommender: DecoderRecommender, history: History) -> ReasonTexts:
    has_neighbours = recommender.model.neighbour_head is not None
    return ReasonTexts(history.data, recommender.sales, history.day, has_neighbours=has_neighbours)


def _percent(share: float) -> str:
    """Return a share of the shops in words.

    >>> _percent(0.5), _percent(0.001)
    ('in 50 % of the shops', 'in less than 1 % of the shops')
    """
    return f"in {'less than 1' if share < 0.01 else round(100 * share)} % of the shops"


def _date(day: int) -> str:
    return long_date(day_date(day).isoformat())


def _listed(names: list[str]) -> str:
    """Return names as a list in words.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""Reasons in plain English, with the names of the items; and as a table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.console import Advance, unheard
from recsys.data.days import day_date
from recsys.data.item_names import Labels, long_date, readable
from recsys.data.purchases import Histories
from recsys.evaluation.tables import REASONS_SCHEMA, reason_rows
from recsys.modeling.explain.reasons import Reasons, explain
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.schema import REASONS
from recsys.signals.snapshot import Snapshot
from recsys.storage import replacing

#: Users whose reasons are found, and written, at a time.
CHUNK_USERS = 1024
#: What a repeat's logit owes at least to a promotion that is named with it: the odds rise by about a tenth.
LEAST_PROMOTION = 0.1


class ReasonTexts:
    """Says reasons at a day in words."""

    def __init__(self, snapshot: Snapshot, labels: Labels | None = None) -> None:
        self._snapshot, self._labels = snapshot, labels or Labels(snapshot.items)
        column = snapshot.codes.group_column
        self._groups = None if column is None else snapshot.items[column].to_list()
        promotions = snapshot.promotions
        self._media = () if promotions is None else promotions.media
        self._widest = np.zeros((snapshot.n_items + 1, 0)) if promotions is None else promotions.widest(snapshot.day)

    def say(self, reasons: Reasons, histories: Histories) -> list[list[str]]:
        """Return a sentence for each of (Q, K) ``reasons`` of ``histories`` (Q); an empty one for padding."""
        n_users, k = reasons.item.shape
        is_known = (histories.n_events > 0).tolist()
        return [[self._say(reasons, (row, place), is_known[row]) for place in range(k)] for row in range(n_users)]

    def _say(self, reasons: Reasons, place: tuple[int, int], is_known: bool) -> str:
        item, reason = int(reasons.item[place]), REASONS[reasons.reason[place]]
        if not item:
            return ""
        past = zip(reasons.past_item[place].tolist(), reasons.past_day[place].tolist(), strict=True)
        days = [(past_item, long_date(day_date(day).isoformat())) for past_item, day in past if past_item]
        dated = [f"{self._labels.product(past_item).label} ({day})" for past_item, day in days]
        after = f"{', '.join(dated[:-1])} and {dated[-1]}" if len(dated) > 1 else "".join(dated)
        if reason == "repeat":
            count, last = int(reasons.count[place]), days[0][1]
            bought = f"bought {count:,} times, last on {last}" if count > 1 else f"bought once, on {last}"
            is_promoted = reasons.promotion_contribution[place] >= LEAST_PROMOTION
            return f"{bought}; {self._promotion(item)}" if is_promoted else bought
        if reason == "promoted":
            return self._promotion(item)
        if reason == "rising":
            sold_7, a_week = self._snapshot.sold(7)[item], self._snapshot.sold(28)[item] / 4
            return f"on the rise: {sold_7:,} sold in the last 7 days, {a_week:,.1f} a week in the last 28"
        if reason == "variant":
            return f"another {self._group(item)}, after {after}"
        if reason == "often_after":
            return f"often after {after}"
        if self._is_positive("never_sold", item):
            return f"not sold yet{': others of its kind sell well' * self._is_positive('category_sold_7', item)}"
        if is_known:
            return "sells well: no purchase speaks for it more than another item would"
        return "nothing is known of the customer: a best seller of the week"

    def _is_positive(self, feature: str, item: int) -> bool:
        return bool(self._snapshot.item_features[item, self._snapshot.feature_names.index(feature)] > 0)

    def _promotion(self, item: int) -> str:
        """Return how an item is promoted in the week from the day on: each medium's best day, the widest first."""
        by_share = sorted(zip(self._widest[item].tolist(), self._media, strict=True), reverse=True)
        media = [
            f"{readable(medium)} in {'less than 1' if share < 0.01 else round(100 * share)} % of the shops"
            for share, medium in by_share
            if share > 0
        ]
        return f"promoted in the week to come: {', '.join(media)}"

    def _group(self, item: int) -> str:
        value = "" if self._groups is None else readable(self._groups[item - 1])
        column = str(self._snapshot.codes.group_column).replace("_", " ")
        return value if any(letter.isalpha() for letter in value) else f"item of the same {column}"


def reasons_table(texts: ReasonTexts, decoder: DecoderRecommender, histories: Histories, item: np.ndarray) -> pa.Table:
    """Return why ``item`` (Q, K) is recommended for each of ``histories`` (Q): the table of :mod:`recsys.schema`."""
    reasons = explain(decoder, histories, item)
    past = reasons.past_item, reasons.past_day, reasons.share
    return reason_rows(histories, reasons.item, reasons.reason, past, texts.say(reasons, histories))


def write_reasons(
    decoder: DecoderRecommender, histories: Histories, item: np.ndarray, path: Path, advance: Advance = unheard
) -> None:
    """Write why ``item`` (Q, K), padded with 0, is recommended for each of ``histories`` (Q) to a Parquet table."""
    texts = ReasonTexts(decoder.snapshots.at(histories.day))
    with replacing(path) as aside, pq.ParquetWriter(aside, REASONS_SCHEMA) as writer:
        for begin in range(0, len(histories), CHUNK_USERS):
            users = histories.of(slice(begin, begin + CHUNK_USERS))
            writer.write_table(reasons_table(texts, decoder, users, item[begin : begin + CHUNK_USERS]))
            advance(begin + len(users), len(histories))


def say_reasons(decoder: DecoderRecommender, histories: Histories, item: np.ndarray) -> list[list[str]]:
    """Return why ``item`` (Q, K), padded with 0, is recommended for each of ``histories`` (Q), in words."""
    return ReasonTexts(decoder.snapshots.at(histories.day)).say(explain(decoder, histories, item), histories)

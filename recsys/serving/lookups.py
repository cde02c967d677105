"""What items and customers are there: searches, histories, and what is like an item. On the thread of the model."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.days import day_date, day_number
from recsys.schema import ITEM_ID, USER_ID
from recsys.serving.answers import Answers
from recsys.serving.jobs import RequestError
from recsys.serving.live import Live
from recsys.serving.live_histories import SESSION
from recsys.serving.schemas import CustomersQuery, HistoryQuery, ItemsQuery, Similar


def find_items(answers: Answers, query: ItemsQuery) -> dict[str, Any]:
    """Return the items that a query means, those that sold most lately first."""
    answers.catch_up()
    live = answers.live
    attributes = [name for name in live.items.column_names if name != ITEM_ID]
    snapshot = live.at(live.day)
    sold = snapshot.sold(28)
    if query.ids is not None:
        if query.search or query.where:
            raise RequestError(
                "found ids beside search or where; expected either; leave one out", code="two_ways", field="ids"
            )
        rows = np.array([live.item_row.get(item_id, 0) for item_id in query.ids], dtype=np.int64)
        rows = rows[rows > 0]
    else:
        found = np.ones(len(live.item_row) + 1, dtype=bool)
        found[0] = False
        for attribute, values in query.where.items():
            found &= answers.jobs.mask(attribute, values, f"where.{attribute}")
        if query.search:
            found[1:] &= _mentions(live, query.search)
        rows = np.flatnonzero(found)
        rows = rows[np.argsort(-sold[rows], kind="stable")]
    chosen = rows[query.offset : query.offset + query.limit]
    table = live.items.take(pa.array(chosen - 1)).to_pylist()
    cards = [
        {
            "item_id": about.pop(ITEM_ID),
            "name": live.item_name(row),
            "attributes": _plain(about),
            "sold_7": int(snapshot.sold(7)[row]),
            "sold_28": int(sold[row]),
        }
        for row, about in zip(chosen.tolist(), table, strict=True)
    ]
    return {"total": len(rows), "attributes": attributes, "items": cards}


def _plain(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON can hold them: days and the like as text, numbers that are none as null."""
    plain = {
        name: value if isinstance(value, str | int | float | None) else str(value) for name, value in about.items()
    }
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in plain.items()}


def _mentions(live: Live, text: str) -> np.ndarray:
    """Return (n,) bool, which items have all words of ``text`` in their id, name or attributes."""
    has = np.ones(len(live.items), dtype=bool)
    for word in text.lower().split():
        has &= np.asarray(pc.match_substring(live.searchable, word))
    return has


def find_customers(answers: Answers, query: CustomersQuery, seed: int) -> dict[str, Any]:
    """Return the customers that a query means; ``seed`` is of the draw at random, of those who bought anything."""
    answers.catch_up()
    live = answers.live
    n_events = np.diff(live.base.offsets)
    users: Sequence[int]
    if query.ids is not None:
        users = [user for item in query.ids if (user := live.user_index(item, None)) is not None]
        total = len(users)
    elif query.random is not None:
        buyers = np.flatnonzero((n_events > 0) & ~live.users.removed()[: len(n_events)])
        total = len(buyers)
        users = np.random.default_rng(seed).permutation(total)[: query.random].tolist() if total else []
        users = buyers[users].tolist()
    else:
        ids = pa.concat_arrays([live.base.user_ids, pa.array(live.users.later_ids(), pa.string())])
        is_session = pc.starts_with(ids, SESSION)
        met = pc.and_not(pc.starts_with(ids, query.search or ""), is_session)
        found = np.flatnonzero(np.asarray(met) & ~live.users.removed())
        total, users = len(found), found[: query.limit].tolist()
    return {"total": total, "customers": [_customer(live, user) for user in users[: query.limit]]}


def _customer(live: Live, user: int) -> dict[str, Any]:
    whole = live.whole(user)
    day = whole.columns["day"][whole.begin : whole.end]
    about = live.base.users.to_arrow().slice(user, 1).to_pylist() if user < live.base.n_users else []
    attributes = _plain({name: value for name, value in (about[0] if about else {}).items() if name != USER_ID})
    return {
        "customer_id": live.users.id_of(user),
        "n_purchases": len(day),
        "first_date": day_date(int(day[0])).isoformat() if len(day) else None,
        "last_date": day_date(int(day[-1])).isoformat() if len(day) else None,
        "attributes": attributes,
    }


def purchases_of(answers: Answers, query: HistoryQuery) -> dict[str, Any]:
    """Return what a customer or a session bought before a day, and what from that day on."""
    answers.catch_up()
    live = answers.live
    if (query.customer_id is None) == (query.session_id is None):
        raise RequestError(
            "expected either customer_id or session_id; send one of them", code="whose_history", field="customer_id"
        )
    user = live.user_index(query.customer_id, query.session_id)
    if user is None:
        which = "customer_id" if query.session_id is None else "session_id"
        raise RequestError(
            f"{which} {query.customer_id or query.session_id!r} is unknown; expected one who has bought; look "
            "customers up with /v1/customers/query",
            code="unknown_customer",
            field=which,
            status=404,
        )
    day = live.day if query.date is None else day_number(query.date)
    histories = live.histories([user], 10**6)
    log = histories.log
    end = int(np.searchsorted(log.day, day))
    ids = live.item_ids
    price = [None if np.isnan(value) else round(float(value), 4) for value in log.price]
    rows = [
        {
            "item_id": ids[item - 1],
            "name": live.item_name(item),
            "date": day_date(on_day).isoformat(),
            "price": paid,
            "quantity": quantity,
            "basket": basket,
        }
        for item, on_day, paid, quantity, basket in zip(
            log.item.tolist(), log.day.tolist(), price, log.quantity.tolist(), log.basket.tolist(), strict=True
        )
    ]
    return {
        "customer_id": query.customer_id,
        "session_id": query.session_id,
        "date": day_date(day).isoformat(),
        "purchases": rows[max(end - query.limit, 0) : end],
        "later": rows[end : end + query.limit],
    }


def known_item(live: Live, item_id: str) -> int:
    """Return the item_index of an id; a RequestError where nobody knows it."""
    row = live.item_row.get(item_id, 0)
    if not row:
        raise RequestError(
            f"item_id {item_id!r} is unknown; expected one of the catalogue; look it up with /v1/items/query",
            code="unknown_item",
            field="item_id",
            status=404,
        )
    return row


def similar_items(answers: Answers, query: Similar) -> dict[str, Any]:
    """Return the items most like one: by the model's vectors, or by what is bought together."""
    answers.catch_up()
    live, row = answers.live, known_item(answers.live, query.item_id)
    if query.by == "vector":
        score_V = answers.served[answers.current].decoder.similar(row)
    else:
        score_V = np.asarray(live.at(live.day).lift[np.array([row])].toarray()).ravel()
        score_V[score_V == 0] = -np.inf
    score_V[[0, row]] = -np.inf
    best = np.argsort(-score_V, kind="stable")[: query.k]
    best = best[np.isfinite(score_V[best])]
    ids = live.item_ids
    named = [(ids[item - 1], live.item_name(item), round(float(score_V[item]), 6)) for item in best.tolist()]
    return {"items": [dict(zip(("item_id", "name", "score"), one, strict=True)) for one in named]}

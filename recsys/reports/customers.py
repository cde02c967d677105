"""Customers one by one: what they had bought, what they were shown, what they then bought."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from recsys.data.days import day_date
from recsys.data.item_names import Labels, Product, long_date, short_id
from recsys.data.purchases import Histories, Purchases
from recsys.errors import RunError
from recsys.evaluation.splits import Fold, Split
from recsys.evaluation.tables import read_lists
from recsys.runs import Run
from recsys.schema import DECODER

N_SHOWN = 20
N_WITHOUT_HISTORY = 3
_HISTORY_LINES = 14
_BOUGHT_LINES = 16


class Shown(NamedTuple):
    """A product beside a customer: is it in the other list too (a hit), had the customer bought it before?"""

    product: Product
    hit: bool
    repeat: bool
    reason: str = ""


#: A day's date, and the products bought on it, each with how often it stands in that day's receipts.
Day = tuple[str, list[tuple[Product, int]]]


class Customer(NamedTuple):
    """One customer as the page shows them."""

    id: str
    n_purchases: int
    days: list[Day]  # the newest first
    n_older: int  # purchases before the days shown
    listed: list[Shown]  # recommended or generated
    bought: list[Shown]
    n_bought: int


class Gallery(NamedTuple):
    """Customers shown, and how they were drawn."""

    fold: str
    customers: list[Customer]
    seed: int
    n_eligible: int


#: Says why items (Q, K) are recommended to customers of these histories (Q): a sentence each.
Why = Callable[[Histories, np.ndarray], list[list[str]]]


def load_customers(run: Run, data: Purchases, split: Split, why: Why | None = None) -> Gallery:
    """Return twenty customers of the last held-out window with the decoder's lists, and what ``why`` says of these."""
    if not split.tests:
        raise RunError(f"{run.folder} holds out nothing (split.n_folds is 0), so there is nothing to report")
    fold = split.tests[-1]
    path = run.table_path(DECODER, fold.name)
    if not path.is_file():
        command = f"recsys predict --folds --run {run.name}"
        raise RunError(f"{path} is missing: the decoder's lists for {fold.name}; run `{command}` first")
    chosen = choose_customers(fold, data, run.config.seed)
    lists, histories = read_lists(path, data, fold.user_index)[chosen], fold.histories(data)
    labels = Labels(data.items)
    reasons = why(histories.of(chosen), lists) if why else [[]] * len(chosen)
    customers = []
    for place, items, said in zip(chosen, lists.tolist(), reasons, strict=True):
        targets = fold.target_item[fold.target_offsets[place] : fold.target_offsets[place + 1]].tolist()
        found = customer(labels, histories.of([place]), items, targets, said)
        bought = sorted(found.bought, key=lambda one: (not one.hit, not one.repeat))[:_BOUGHT_LINES]
        customers.append(found._replace(bought=bought))
    return Gallery(fold.name, customers, run.config.seed, len(fold.user_index))


def choose_customers(fold: Fold, data: Purchases, seed: int, n: int = N_SHOWN) -> np.ndarray:
    """Return places (≤ n,) int64 in ``fold.user_index``, drawn by ``seed`` across history lengths, shortest first."""
    rng = np.random.default_rng(seed)
    lengths = fold.histories(data).n_events
    shuffled = rng.permutation(len(lengths))
    new, known = shuffled[lengths[shuffled] == 0], shuffled[lengths[shuffled] > 0]
    new = new[: max(N_WITHOUT_HISTORY, n - len(known))][:n]
    by_length = known[np.argsort(lengths[known], kind="stable")]
    return np.array([*new, *draw_across(by_length, n - len(new), rng)], dtype=np.int64)


def draw_across(order: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
    """Return one element of each of ``n`` parts of equal size, fewer where ``order`` (m,) is shorter."""
    parts = np.array_split(order, n) if n else []
    return [int(rng.choice(part)) for part in parts if len(part)]


def customer(
    labels: Labels, history: Histories, listed: list[int], targets: list[int], reasons: Sequence[str] = ()
) -> Customer:
    """Return the customer of one ``history``: what was ``listed``, padding apart, beside ``targets``, bought then."""
    log, (_, position) = history.log, history.events()
    item, day = log.item[position], log.day[position]
    days: list[Day] = []
    room, n_older = _HISTORY_LINES, len(item)
    for newest in np.unique(day)[::-1]:
        if room == 0:
            break
        products, counts = (found[:room] for found in np.unique(item[day == newest], return_counts=True))
        pairs = [(labels.product(int(one)), int(count)) for one, count in zip(products, counts, strict=True)]
        days.append((long_date(day_date(newest).isoformat()), pairs))
        room -= len(pairs)
        n_older -= int(counts.sum())
    past = set(item.tolist())

    def shown(items: list[int], others: list[int], reasons: Sequence[str] = ()) -> list[Shown]:
        said = zip(items, reasons or [""] * len(items), strict=True)
        return [Shown(labels.product(item), item in others, item in past, reason) for item, reason in said if item]

    bought = shown(targets, listed)
    identifier = short_id(log.user_ids[int(history.user_index[0])].as_py())
    return Customer(identifier, len(item), days, n_older, shown(listed, targets, reasons), bought, len(bought))

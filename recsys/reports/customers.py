"""Twenty customers of the last held-out window: what they had bought, what they were shown, what they then bought."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys.data.days import day_date
from recsys.data.item_names import Labels, Product, long_date, short_id
from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.evaluation.splits import Fold, Split
from recsys.evaluation.tables import read_lists
from recsys.runs import Run
from recsys.schema import DECODER

N_SHOWN = 20
N_WITHOUT_HISTORY = 3
_HISTORY_LINES = 14
_BOUGHT_LINES = 16


@dataclass(frozen=True)
class Shown:
    """A product beside a customer: is it in the other list too (a hit), had the customer bought it before?"""

    product: Product
    hit: bool
    repeat: bool
    reason: str = ""


#: A day's date, and the products bought on it, each with how often it stands in that day's receipts.
Day = tuple[str, list[tuple[Product, int]]]


@dataclass(frozen=True)
class Customer:
    """One customer as the page shows them."""

    id: str
    n_purchases: int
    days: list[Day]
    n_older: int  # purchases before the days shown
    recommended: list[Shown]
    bought: list[Shown]  # hits first, then repeats
    n_bought: int


@dataclass(frozen=True)
class Gallery:
    """Customers shown, and how they were drawn."""

    fold: str
    customers: list[Customer]
    seed: int
    n_eligible: int


#: Says why items (Q, K) are recommended to customers (Q,) at a fold's date: a sentence each.
Why = Callable[[Fold, np.ndarray, np.ndarray], list[list[str]]]


def load_customers(run: Run, data: Purchases, split: Split, why: Why | None = None) -> Gallery:
    """Return twenty customers of the last held-out window with the decoder's lists, and what ``why`` says of these.

    Raises:
        RunError: there is no held-out window, or the decoder's lists for it were not written.
        DataError: the lists are of other items or customers than the data.
    """
    if not split.tests:
        raise RunError(f"{run.folder} holds out nothing (split.n_folds is 0), so there is nothing to report")
    fold = split.tests[-1]
    path = run.table_path(DECODER, fold.name)
    if not path.is_file():
        raise RunError(
            f"{path} is missing: the decoder's lists for {fold.name}; "
            f"run `recsys predict --folds --run {run.name}` first"
        )
    chosen = choose_customers(fold, data, run.config.seed)
    lists = read_lists(path, data, fold.user_index)[chosen]
    labels = Labels(data.items)
    reasons = why(fold, fold.user_index[chosen], lists) if why else [[""] * lists.shape[1]] * len(chosen)
    customers = [
        _customer(data, labels, fold, place, items, said)
        for place, items, said in zip(chosen, lists.tolist(), reasons, strict=True)
    ]
    return Gallery(fold.name, customers, run.config.seed, len(fold.user_index))


def choose_customers(fold: Fold, data: Purchases, seed: int, n: int = N_SHOWN) -> np.ndarray:
    """Return positions (≤ n,) int64 in ``fold.user_index``, drawn by ``seed`` across history lengths, shortest first.

    Up to three customers without a history come first; all others are sorted by history length, cut into parts of
    equal size, and one is drawn from each part. No list and no purchase after the date is looked at.
    """
    rng = np.random.default_rng(seed)
    lengths = (fold.history_end - data.offsets[:-1])[fold.user_index]
    shuffled = rng.permutation(len(lengths))
    new, known = shuffled[lengths[shuffled] == 0], shuffled[lengths[shuffled] > 0]
    new = new[: max(N_WITHOUT_HISTORY, n - len(known))][:n]
    by_length = known[np.argsort(lengths[known], kind="stable")]
    return np.array([*new, *draw_across(by_length, n - len(new), rng)], dtype=np.int64)


def draw_across(order: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
    """Return one element of each of ``n`` parts of equal size, fewer where ``order`` (m,) is shorter."""
    parts = np.array_split(order, n) if n else []
    return [int(rng.choice(part)) for part in parts if len(part)]


def _customer(
    data: Purchases, labels: Labels, fold: Fold, place: int, items: list[int], reasons: list[str]
) -> Customer:
    user = int(fold.user_index[place])
    begin, end = int(data.offsets[user]), int(fold.history_end[user])
    past = set(data.item[begin:end].tolist())
    targets = fold.target_item[fold.target_offsets[place] : fold.target_offsets[place + 1]].tolist()
    days, n_shown = _newest_days(data, labels, begin, end)

    def shown(item: int, others: list[int], reason: str = "") -> Shown:
        return Shown(labels.product(item), item in others, item in past, reason)

    bought = sorted((shown(item, items) for item in targets), key=lambda one: (not one.hit, not one.repeat))
    return Customer(
        id=short_id(data.user_ids[user].as_py()),
        n_purchases=end - begin,
        days=days,
        n_older=end - begin - n_shown,
        recommended=[shown(item, targets, said) for item, said in zip(items, reasons, strict=True) if item],
        bought=bought[:_BOUGHT_LINES],
        n_bought=len(bought),
    )


def _newest_days(data: Purchases, labels: Labels, begin: int, end: int) -> tuple[list[Day], int]:
    """Return the newest days of events ``begin:end`` that fit, newest first, and how many events they show."""
    days: list[Day] = []
    lines = n_shown = 0
    for day in np.unique(data.day[begin:end])[::-1]:
        items, counts = np.unique(data.item[begin:end][data.day[begin:end] == day], return_counts=True)
        room = _HISTORY_LINES - lines
        if room <= 0:
            break
        pairs = [(labels.product(int(i)), int(c)) for i, c in zip(items[:room], counts[:room], strict=True)]
        days.append((long_date(day_date(day).isoformat()), pairs))
        lines += len(pairs)
        n_shown += int(counts[:room].sum())
    return days, n_shown

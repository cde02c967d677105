"""What may be learned from and what is asked: every protocol (weekly, customers, leave-one-out) yields a Split."""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from recsys.config import SPLIT_RULES, DataConfig, SplitConfig
from recsys.data.days import day_date, day_number
from recsys.data.purchases import Histories, Purchases, event_positions
from recsys.errors import DataError

#: Share of users (of texts) that the protocol customers (the text transformer) never learns from, as the original's.
HELD_OUT_SHARE: Final = 0.2
#: What draws them. It is no setting, so runs of any seed are scored on the same users.
HELD_OUT_SEED: Final = 42


@dataclass(frozen=True)
class Fold:
    """Q users asked at a date, what is known of all U users by then, and the n distinct items the asked ones bought."""

    name: str
    start_day: int  # the date asked; events of this day and later are not known
    end_day: int  # first day after the window
    history_end: np.ndarray  # (U,) int64: events offsets[u]:history_end[u] are known
    user_index: np.ndarray  # (Q,) int32, ascending: users with at least one target
    target_offsets: np.ndarray  # (Q+1,) int64
    target_item: np.ndarray  # (n,) int32 item_index, ascending within a user

    def histories(self, log: Purchases) -> Histories:
        """Return what is known of the fold's users at its day."""
        return Histories(log, self.user_index, self.history_end[self.user_index], self.start_day)

    def everybody(self, log: Purchases) -> Histories:
        """Return what is known of all users at the fold's day."""
        return Histories(log, np.arange(log.n_users, dtype=np.int32), self.history_end, self.start_day)

    def of_users(self, chosen: np.ndarray) -> "Fold":
        """Return the same asked of some: ``chosen`` (Q,) bool, or places, among ``user_index``."""
        is_chosen = np.zeros(len(self.user_index), dtype=bool)
        is_chosen[chosen] = True
        return self.of_targets(np.repeat(is_chosen, np.diff(self.target_offsets)))

    def of_targets(self, chosen: np.ndarray) -> "Fold":
        """Return the same with the targets ``chosen`` (n,) bool alone, asked of the users who have one of them."""
        has_one, offsets = targets_left(self.target_offsets, chosen)
        item = self.target_item[chosen]
        return replace(self, user_index=self.user_index[has_one], target_offsets=offsets, target_item=item)


def targets_left(target_offsets: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return who (Q,) bool has one of the targets ``chosen`` (n,) bool, and their offsets among these alone."""
    kept = np.concatenate([[0], np.cumsum(chosen)])[target_offsets]
    has_one = np.diff(kept) > 0
    return has_one, np.concatenate([[0], kept[1:][has_one]])


class Split(NamedTuple):
    """What is learned from, what is chosen on, what is tested on."""

    train_end: np.ndarray  # (U,) int64: events offsets[u]:train_end[u] may be learned from (none for held-out users)
    train_day: int  # first day that may not be learned from
    validation: Fold
    tests: tuple[Fold, ...]

    def with_validation_learned(self, data: Purchases) -> "Split":
        """Return the same with the validation window among what may be learned from; of protocol weekly only."""
        day = self.validation.end_day
        return self._replace(train_end=data.ends_before(day), train_day=day)


def make_split(data: Purchases, config: SplitConfig) -> Split:
    """Return the split that ``config.protocol`` names; DataError where the data hold too little for it."""
    if config.protocol == "weekly":
        return _weekly(data, config)
    return _leave_one_out(data) if config.protocol == "leave_one_out" else _customers(data)


def _weekly(data: Purchases, config: SplitConfig) -> Split:
    """Return ``n_folds`` consecutive test windows at the end of the data and the validation window before them."""
    end = day_number(config.end) if config.end else data.last_day + 1
    horizon = config.horizon_days
    starts = [end - horizon * back for back in range(config.n_folds, 0, -1)]
    validation_start = (starts[0] if starts else end) - horizon
    if validation_start <= data.first_day:
        raise DataError(
            f"the data run from {day_date(data.first_day)} to {day_date(data.last_day)}: too short for "
            f"{config.n_folds} test windows and a validation window of {horizon} days before {day_date(end)}, with "
            "something left to learn from; lower split.n_folds or split.horizon_days, or give more data"
        )
    validation, *tests = (window_fold(data, start, horizon) for start in (validation_start, *starts))
    for fold in (validation, *tests):
        if not len(fold.user_index):
            raise DataError(
                f"nobody bought anything from {day_date(fold.start_day)} to {day_date(fold.end_day - 1)}; the data run "
                f"from {day_date(data.first_day)} to {day_date(data.last_day)}; choose another split.end"
            )
    return Split(data.ends_before(validation_start), validation_start, validation, tuple(tests))


def window_fold(data: Purchases, start_day: int, horizon_days: int) -> Fold:
    """Return the fold that asks at ``start_day`` for everything bought in the ``horizon_days`` from it on."""
    begin, end = data.ends_before(start_day), data.ends_before(start_day + horizon_days)
    user, position = event_positions(begin, end)
    users, items = np.divmod(np.unique(user * (data.n_items + 1) + data.item[position]), data.n_items + 1)
    return _fold(day_date(start_day).isoformat(), start_day, start_day + horizon_days, begin, users, items)


def _leave_one_out(data: Purchases) -> Split:
    """Return the last event of each user with three or more as test target, the one before as validation target."""
    ends, day = data.offsets[1:], data.last_day
    users = np.flatnonzero(np.diff(data.offsets) >= 3).astype(np.int32)
    if not len(users):
        raise DataError("leave-one-out needs users with at least 3 events; none has that many")

    def fold(name: str, back: int) -> Fold:
        known = ends.copy()
        known[users] -= back
        return _fold(name, day, day + 1, known, users, data.item[ends[users] - back])

    validation, test = fold("validation", 2), fold("test", 1)
    return Split(validation.history_end, day + 1, validation, (test,))


def _customers(data: Purchases) -> Split:
    """Return a random split of the users: a fifth of them is never learned from, half of it the validation fold.

    Those with at least two events are asked for the last. Whom the seed draws depends on the number of users alone.
    """
    n_test, day = n_held_out(data.n_users), data.last_day
    held_out = np.random.default_rng(HELD_OUT_SEED).permutation(data.n_users)[:n_test]
    train_end = data.offsets[1:].copy()
    train_end[held_out] = data.offsets[held_out]

    def fold(name: str, users: np.ndarray) -> Fold:
        users = np.sort(users[np.diff(data.offsets)[users] >= 2]).astype(np.int32)
        if not len(users):
            raise DataError(
                f"protocol customers leaves nobody with two events in its {name} part: {data.n_users} users, "
                f"{n_test} held out; give more data"
            )
        known, last = train_end.copy(), data.offsets[users + 1] - 1
        known[users] = last
        return _fold(name, day, day + 1, known, users, data.item[last])

    validation, test = fold("validation", held_out[: n_test // 2]), fold("test", held_out[n_test // 2 :])
    return Split(train_end, day + 1, validation, (test,))


def n_held_out(n_users: int) -> int:
    """Return how many of ``n_users`` the protocol customers never learns from."""
    return round(HELD_OUT_SHARE * n_users)


def with_split_rules(data: DataConfig) -> DataConfig:
    """Return ``data`` with the rules of ``dataset main --split`` wherever it does not say otherwise itself.

    >>> with_split_rules(DataConfig(max_history=20)).folder.as_posix()
    'data/processed/hm-split'
    """
    chosen = {name: getattr(data, name) for name in data.model_fields_set}
    settings = SPLIT_RULES | chosen
    return DataConfig(**settings | {"name": data.name or f"{settings['source']}-split"})


def _fold(name: str, start: int, end: int, known: np.ndarray, users: np.ndarray, items: np.ndarray) -> Fold:
    user_index, counts = np.unique(users, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Fold(name, start, end, known, user_index.astype(np.int32), offsets, items.astype(np.int32))


def histories_to_continue(data: Purchases, config: SplitConfig) -> tuple[Fold, np.ndarray]:
    """Return the last test fold, whole customers cut in the middle, and the flat position (U,) where histories end."""
    tests = make_split(data, config).tests
    if not tests:
        raise DataError("nothing is held out (split.n_folds is 0), so no history has a known end to go on from")
    fold = tests[-1]
    if config.protocol == "weekly":
        return fold, data.ends_before(fold.end_day)
    if config.protocol == "customers":
        begin, end = data.offsets[fold.user_index], data.offsets[fold.user_index + 1]
        known_end = fold.history_end.copy()
        known_end[fold.user_index] = end - (end - begin) // 2
        fold = replace(fold, history_end=known_end)
    return fold, data.offsets[1:]

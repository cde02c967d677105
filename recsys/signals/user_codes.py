"""What the user table says of users, as codes of its columns; having no dates, it is taken as known before any cut."""

from typing import Any, NamedTuple, Self

import narwhals as nw
import numpy as np

from recsys import schema

#: A number with more distinct values than this enters by its band, as many users in each.
MAX_VALUES = 24
N_BANDS = 10
#: A value that fewer users have is too rare to be learned: nothing is said by it.
MIN_USERS = 20


class UserCodes(NamedTuple):
    """Codes of U users in C columns of a user table, counted over all columns from 1.

    A missing value has a code of its own; 0 says nothing: the value is rare. A column in which no two users differ, or
    no value is common, is left out.
    """

    codes: np.ndarray  # (U, C) int32
    has_features: np.ndarray  # (U,) bool: of whom anything at all is said

    @classmethod
    def from_users(cls, users: nw.DataFrame[Any]) -> Self:
        """Choose the columns that say something, and number their values."""
        columns, first = [], 1
        has_features = np.zeros(len(users), dtype=bool)
        for name in users.columns:
            if name == schema.USER_ID or users[name].dtype.is_nested():
                continue
            distinct, place = _values(users[name])
            count = np.bincount(place, minlength=len(distinct))
            common = (count >= MIN_USERS) | (distinct == "")
            if not (common & (distinct != "")).any() or len(distinct) < 2:
                continue
            numbered = np.where(common, np.cumsum(common) + first - 1, 0)
            columns.append(numbered[place].astype(np.int32))
            has_features |= (common & (distinct != ""))[place]
            first += int(common.sum())
        codes = np.stack(columns, axis=1) if columns else np.zeros((len(users), 0), dtype=np.int32)
        return cls(codes, has_features)

    @property
    def n_codes(self) -> int:
        """Number of codes, 0 among them."""
        return int(self.codes.max(initial=0)) + 1

    def of(self, user_index: np.ndarray) -> np.ndarray:
        """Return the codes (Q, C) int32 of ``user_index`` (Q,); 0 of a user who came in later."""
        known = (user_index >= 0) & (user_index < len(self.codes))
        codes = np.zeros((len(user_index), self.codes.shape[1]), dtype=np.int32)
        codes[known] = self.codes[user_index[known]]
        return codes


def _values(column: nw.Series[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values (bands of many numbers) as text, sorted, "" where missing, and users' places (U,)."""
    # Not sorted user by user: a postal code of 64 letters for each of a million is a third of a gigabyte.
    if column.dtype.is_float():
        column = column.fill_nan(None)
    encoded = column.cast(nw.String).fill_null("").to_arrow().dictionary_encode()
    distinct, number = np.unique(np.array(encoded.dictionary.to_pylist(), dtype=str), return_inverse=True)
    place = number[np.asarray(encoded.indices)]
    is_given = distinct != ""
    if is_given.sum() <= MAX_VALUES:
        return distinct, place
    try:  # tables often hold numbers as text
        numbers = np.where(is_given, distinct, "nan").astype(np.float64)
    except ValueError:
        return distinct, place
    edges = np.unique(np.nanquantile(numbers[place], np.arange(1, N_BANDS) / N_BANDS))
    bands = np.where(is_given, np.searchsorted(edges, numbers, side="right").astype(str), "")
    labels, band = np.unique(bands, return_inverse=True)
    return labels, band[place]

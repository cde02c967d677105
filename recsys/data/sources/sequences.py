"""Reader of the text form of S3-Rec (Zhou et al. 2020, "S3-Rec"): a line is a user, then items in order.

There are no dates: the n-th item of a user is given the n-th day from 1970-01-01 on, so that the order is kept
exactly and a gap of one day lies between neighbours. Days of different users cannot be compared.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.config import RAW_DIR, DataConfig
from recsys.data.engine import Engine
from recsys.data.sources.base import RawTables, Source, require_file
from recsys.errors import DataError

_FILE = "sequences.txt"


def read(config: DataConfig, engine: Engine) -> RawTables:
    """Return the events of the text file ``config.raw``, or of ``sequences.txt`` there; DataError where it is wrong."""
    place = config.raw or RAW_DIR / "sequences"
    path = require_file(place / _FILE if place.is_dir() or not place.suffix else place, "lines 'user item item …'")
    users, items, lengths = _parse(path)
    position = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    events = pa.table(
        {
            schema.USER_ID: pa.array(users, pa.string()).take(pa.array(np.repeat(np.arange(len(users)), lengths))),
            schema.ITEM_ID: pa.array(items, pa.string()),
            schema.TIME: pa.array(position.astype(np.int32)).cast(pa.date32()),
        }
    )
    return RawTables(events=engine.from_arrow(events), inputs=(path,))


def _parse(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Return users, items of all users one after another, and the number (U,) of items of each user."""
    users: list[str] = []
    items: list[str] = []
    lengths: list[int] = []
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                user, *history = line.split() or [""]
                if user and not history:
                    raise DataError(f"{path} line {number}: user {user} has no item; expected 'user item item …'")
                if user:
                    users.append(user)
                    items += history
                    lengths.append(len(history))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not encoded as UTF-8 ({error}); save it again as UTF-8") from error
    if len(set(users)) != len(users):
        twice = next(user for user in users if users.count(user) > 1)
        raise DataError(f"{path}: user {twice} has more than one line; expected one line a user")
    if not users:
        raise DataError(f"{path} holds no line 'user item item …'; fetch it again")
    return users, items, np.array(lengths, dtype=np.int64)


SOURCES = {
    "sequences": Source(
        read, "A sequence file of the recommender literature: one line a customer, in order, without dates."
    )
}

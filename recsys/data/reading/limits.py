"""How much of a file may be lost before its reading is taken for wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import narwhals as nw

#: Share of rows that may be lost for reasons that nobody stated.
MOST_LOST = 0.02


@dataclass(frozen=True)
class Limit:
    """What must not befall more than a few rows (:data:`MOST_LOST`): else the file is read in a wrong way.

    ``name`` is what the report counts the rows under, ``rows`` which they are, null counting as False, and ``shown``
    the column of which examples are shown. ``advice`` is what to write, found out when it is needed.
    """

    name: str
    rows: nw.Expr
    shown: str
    advice: Callable[[], str]

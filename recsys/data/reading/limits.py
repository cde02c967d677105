"""How much of a file may be lost before its reading is taken for wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import narwhals as nw

#: Share of rows that may be lost for reasons that nobody stated.
MOST_LOST = 0.02
#: A customer with so large a share of the rows is a till, or nobody; so many who came once suggest that ids are orders.
TILL_SHARE, ONCE_SHARE = 0.2, 0.9


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

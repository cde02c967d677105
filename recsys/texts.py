"""What is written about an item, as one text."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw

from recsys.errors import DataError


def item_texts(items: nw.DataFrame[Any], columns: Sequence[str]) -> list[str]:
    """Return, for each row of the item table, what ``columns`` hold, joined by spaces; what is missing is skipped.

    Null, an empty string and one of spaces are missing. An item of which nothing is known has the empty text.

    >>> import pyarrow as pa
    >>> items = nw.from_native(pa.table({"name": ["Top", "Hat"], "colour": ["Red", None], "price": [3, 4]}))
    >>> item_texts(items, ["colour", "name", "price"])
    ['Red Top 3', 'Hat 4']

    Raises:
        DataError: there is no such column; those there are are named.
    """
    absent = [column for column in columns if column not in items.columns]
    if absent or not columns:
        raise DataError(
            f"the item table has no column {', '.join(absent) or 'of texts'}; found {', '.join(items.columns)}; say "
            f"which hold texts, e.g. --set text.columns=[{','.join(items.columns[1:3])}]"
        )
    values = (items[column].cast(nw.String).to_list() for column in columns)
    return [" ".join(value.strip() for value in row if value and value.strip()) for row in zip(*values, strict=True)]

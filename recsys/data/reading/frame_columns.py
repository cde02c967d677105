"""Columns of data frames as the schema wants them."""

from collections.abc import Mapping
from typing import Any

import narwhals as nw

from recsys import schema
from recsys.data.expressions import clean_text, is_whole_decimal


def event_columns(roles: Mapping[str, str], frame: nw.LazyFrame[Any]) -> list[nw.Expr]:
    """Return the expressions of the schema's columns; ``roles`` says which column of ``frame`` each is made of."""
    types, as_it_is = frame.collect_schema(), (schema.TIME, schema.PRICE, schema.QUANTITY)
    return [
        (nw.col(column) if role in as_it_is else clean_text(column, types[column])).alias(role)
        for role, column in roles.items()
    ]


def mended_ids(roles: Mapping[str, str], frame: nw.LazyFrame[Any]) -> dict[str, nw.Expr]:
    """Return for each id that is text which rows :func:`clean_text` takes the decimals from."""
    types = frame.collect_schema()
    return {
        f"_{role}_written_as_decimal": is_whole_decimal(roles[role])
        for role in (schema.USER_ID, schema.ITEM_ID)
        if types[roles[role]] == nw.String
    }

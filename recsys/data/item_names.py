"""Names a person can read, for items of any catalogue: chosen from whatever attributes the source has."""

import re
from datetime import date
from fnmatch import fnmatch
from typing import Any, NamedTuple

import narwhals as nw

from recsys import schema

#: Patterns of columns that name an item, best first.
_NAMES = ("prod_name", "product_name", "item_name", "name", "title", "description", "*name*", "product_type*", "*type*")
#: Patterns of columns that say more about it.
_DETAILS = ("product_type_name", "*category*", "*type*", "colour_group_name", "*colo*r*name", "package_size")
_LONGEST_LABEL = 60


class Product(NamedTuple):
    """An item as it is shown."""

    label: str
    detail: str
    id: str


class Labels:
    """Gives the readable form of item_index 1 … n_items."""

    def __init__(self, items: nw.DataFrame[Any]) -> None:
        names = [name for name in items.columns if name != schema.ITEM_ID]
        title = next(iter(_matches(names, _NAMES)), None)
        details = [name for name in _matches(names, _DETAILS) if name != title]
        self._ids = items[schema.ITEM_ID].to_list()
        self._titles = None if title is None else items[title].to_list()
        self._details = [items[name].to_list() for name in details]

    def product(self, item_index: int) -> Product:
        """Return the readable form of an item: its id where it has no name."""
        row = item_index - 1
        identifier = short_id(self._ids[row])
        label = "" if self._titles is None else readable(self._titles[row])
        details = dict.fromkeys(readable(column[row]) for column in self._details)
        said = [text for text in details if text not in ("", label)]
        # An id that is a word names the item itself.
        own = f"Item {identifier}" if re.fullmatch("[0-9a-f]+…?", identifier) else identifier
        return Product(label or own, ", ".join(said[:2]), identifier)


def short_id(identifier: object) -> str:
    """Return an id shortened to its beginning where it is a hash, such as H&M's 64 hexadecimal digits.

    >>> short_id("CARD-0000-0000-0003"), short_id("00000dbacae5abe5e23885899a1fa442")
    ('CARD-0000-0000-0003', '00000dba…')
    """
    text = str(identifier)
    return f"{text[:8]}…" if re.fullmatch("[0-9a-f]{32,}", text) else text


def _matches(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Return the names that match a pattern, in the patterns' order; codes and groups of a name are not names."""
    found = (name for pattern in patterns for name in names if fnmatch(name.lower(), pattern))
    return list(dict.fromkeys(name for name in found if not name.lower().endswith(("_code", "_id", "_no"))))


def readable(value: object) -> str:
    """Return a value as text: blanks put in order, a shouted name in sentence case, a cut or long one ended well.

    >>> readable("CAN DOG FOOD  (SKIPPY/PEDIGREE/"), readable("10 OZ")
    ('Can dog food', '10 OZ')
    """
    text = " ".join(str(value).split()) if value is not None else ""
    if text.count("(") > text.count(")"):
        text = text[: text.rindex("(")].rstrip() or text
    if len(text) > 3 and text[0].isalpha() and text == text.upper():
        text = text.capitalize()
    return shortened(text, _LONGEST_LABEL)


def shortened(text: str, longest: int) -> str:
    """Return a text of ``longest`` letters at most."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def long_date(iso: str) -> str:
    """Return an ISO date in words; other text as it is.

    >>> long_date("2017-12-05"), long_date("test")
    ('5 Dec 2017', 'test')
    """
    try:
        day = date.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{day.day} {day:%b %Y}"

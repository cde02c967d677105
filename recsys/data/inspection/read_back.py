"""Purchases read as a configuration says: the proof of what was guessed."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import narwhals as nw
import polars as pl

from recsys import schema
from recsys.config import load_config
from recsys.data.engine import open_engine
from recsys.data.inspection.facts import Facts, facts_of, in_words
from recsys.data.sources import read_source
from recsys.errors import RecsysError

_SHOWN = 5


@dataclass(frozen=True)
class ReadBack:
    """What a configuration makes of its files."""

    facts: Facts | None = None
    sentences: tuple[str, ...] = ()  # purchases in words, from all over the file
    dropped: dict[str, int] | None = None  # rows by the rule that drops them
    problem: str | None = None  # why nothing was read: what is open, or cannot be


def read_back(text: str, path: Path) -> ReadBack:
    """Read the purchases as a configuration ``text``, which is to stand at ``path``, says.

    Raises:
        RecsysError: the folder of ``path`` cannot be written.
    """
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecsysError(f"{folder} cannot be made ({error.strerror}); choose another --write") from error
    if not os.access(folder, os.W_OK):
        raise RecsysError(f"{folder} cannot be written; go to another folder, or choose another --write")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=folder, encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        try:
            config = load_config(Path(stream.name)).data
            with open_engine("polars") as engine:
                tables = read_source(config, engine)
                rows = pl.DataFrame(pl.from_arrow(engine.collect(tables.events)))
                known = None
                if tables.items is not None and not tables.sold_items_only:
                    known = engine.collect(tables.items.select(schema.ITEM_ID))[schema.ITEM_ID]
        except RecsysError as error:
            return ReadBack(problem=str(error).replace(stream.name, str(path)))
    dropped: dict[str, int] = {}
    usable = {
        "no customer": pl.col(schema.USER_ID).fill_null("") != "",
        "no product": pl.col(schema.ITEM_ID).fill_null("") != "",
        "no time that can be read": pl.col(schema.TIME).is_not_null(),
    }
    if known is not None:
        usable["a product without a row in the table of products"] = pl.col(schema.ITEM_ID).is_in(pl.Series(known))
    for name, condition in usable.items():
        left = rows.filter(condition)
        dropped[name], rows = len(rows) - len(left), left
    for rule in tables.rules:
        if rule.drops and rule.table == "events":
            wrapped = nw.from_native(rows, eager_only=True)
            left = wrapped.filter(~rule.rows).to_native()
            dropped[rule.name], rows = len(rows) - len(left), left
    if not len(rows):
        return ReadBack(dropped=dropped, problem="no row is left; is it the right file, and are the columns right?")
    step = max(len(rows) // _SHOWN, 1)
    shown = rows.gather_every(step).head(_SHOWN).with_columns(pl.col(schema.TIME).cast(pl.Datetime("us")))
    return ReadBack(facts_of(rows), tuple(in_words(row) for row in shown.to_dicts()), dropped)

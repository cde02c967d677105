"""Items as they are known by now: those of a log, and new ones behind them."""

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import narwhals as nw
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.data.ids import texts_of
from recsys.data.item_names import Labels
from recsys.data.purchases import Purchases
from recsys.signals.item_codes import ItemCodes
from recsys.signals.promotions import Promotions


class LiveItems:
    """The table of items, their names, codes and promotions."""

    def __init__(self, log: Purchases) -> None:
        self.base = log
        self.items: pa.Table = log.items.to_arrow()
        self.item_row = {item_id: row + 1 for row, item_id in enumerate(log.item_ids.to_pylist())}
        self.codes = ItemCodes.from_items(log.items)
        self.promotions = self._promotions()
        self._names: dict[int, str] = {}  # of items that were named before
        self._new_items: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def knows_item(self, item_id: str) -> bool:
        """Return whether an event may name the item."""
        return item_id in self._new_items or item_id in self.item_row  # in the order in which it moves

    def attribute(self, name: str, value: object) -> Any:  # noqa: ANN401 - of the type that the column has
        """Return an attribute of an item as the table of items has it; None where its column cannot hold it."""
        try:
            return pa.array([value]).cast(self.items[name].type)[0].as_py()
        except (pa.ArrowException, OverflowError):
            return None

    def item_name(self, item: int) -> str:
        """Return the readable name of an item_index."""
        if item not in self._names:
            self._names[item] = self.labels.product(item).label
        return self._names[item]

    @cached_property
    def labels(self) -> Labels:
        """Readable names of items."""
        return Labels(self._frame)

    @cached_property
    def item_ids(self) -> list[str]:
        """External ids; position i is item_index i + 1."""
        return list(self.item_row)

    @cached_property
    def searchable(self) -> pa.Array:
        """All that is said of each item (n,), in small letters."""
        columns = [self.items[name] for name in self.items.column_names if pa.types.is_string(self.items[name].type)]
        whole = pc.binary_join_element_wise(*columns, " ", null_handling="skip")
        return pc.utf8_lower(whole).combine_chunks()

    @cached_property
    def _id_texts(self) -> pa.Array:
        return texts_of(self.items, schema.ITEM_ID)

    @cached_property
    def _frame(self) -> nw.DataFrame[Any]:
        return nw.from_native(self.items, eager_only=True)

    def _promotions(self) -> Promotions | None:
        """Return what was planned; new items have no plans."""
        table = self.base.promotions
        return None if table is None else Promotions.from_table(table, len(self.item_row))

    def _grow(self, items: Mapping[str, Mapping[str, Any]]) -> None:
        """Put new items behind the known ones."""
        new = {
            field.name: pa.array(
                [self.attribute(field.name, about.get(field.name)) for about in items.values()], field.type
            )
            for field in self.items.schema
            if field.name != schema.ITEM_ID
        }
        ids = pa.array(items, self.items[schema.ITEM_ID].type)
        self.items = pa.concat_tables(
            [self.items, pa.table({schema.ITEM_ID: ids} | new).select(self.items.column_names)]
        )
        self.items = self.items.combine_chunks()
        self.codes = self.codes.extended(nw.from_native(self.items, eager_only=True)[len(self.item_row) :])
        with self._lock:
            for item_id in items:
                self.item_row[item_id] = len(self.item_row) + 1
                del self._new_items[item_id]
        self.promotions = self._promotions()
        for name in ("labels", "item_ids", "searchable", "_frame", "_id_texts"):
            vars(self).pop(name, None)

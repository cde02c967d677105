"""The library: fit a system to purchases, ask it, hold it against others, save it and open it again.

>>> import polars as pl
>>> import recsys
>>> rows = [(user, item, f"2024-01-{day:02}") for day in range(1, 29) for user, item in ((7, "tea"), (8, "jam"))]
>>> frame = pl.DataFrame(rows, schema=["who", "what", "when"], orient="row")
>>> shop = recsys.Purchases.from_frame(frame, user="who", item="what", time="when")
>>> model = recsys.fit(shop, "repeat")
>>> model.recommend([8], k=1)["item_id"].to_list()
['jam']
>>> model.recommend(history=[("tea", "2024-01-20")], k=1)["item_id"].to_list()
['tea']
"""

from collections.abc import Sequence
from datetime import date as Date
from typing import Any

#: A day: a date, or text such as 2024-01-31.
Day = Date | str
#: Purchases of one person: pairs of item and day, or triples with a quantity.
History = Sequence[tuple[Any, ...]]

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

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date as Date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recsys.config import Config, load_config
from recsys.data.days import day_date, day_number
from recsys.data.frames import given_histories, id_texts
from recsys.data.purchases import Histories, Purchases
from recsys.errors import ConfigError, DataError, UsageError
from recsys.evaluation.runs import fold_lists, score_lists
from recsys.evaluation.splits import make_split
from recsys.modeling.recommenders.base import Recommendations
from recsys.modeling.recommenders.candidates import Candidates, all_items, candidates_at, known_items, require_enough
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.systems import System, fit_decoder, open_system, rule_system
from recsys.schema import DECODER, ITEM_ID, RANK, REASON, SCORE, USER_ID

#: A day: a date, or text such as 2024-01-31.
Day = Date | str
#: Purchases of one person: pairs of item and day, or triples with a quantity.
History = Sequence[tuple[Any, ...]]

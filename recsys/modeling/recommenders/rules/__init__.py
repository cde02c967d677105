"""The rules and classical models the decoder is held against: each file of this folder holds some, found by listing it.

A file names its systems in ``SYSTEMS``, each with the function that fits it. Where a system needs something that not
every log has, ``CAN_FIT`` holds the check. :mod:`recsys.modeling.recommenders.rules.personal` is what most of them
share.
"""

from collections.abc import Callable

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Recommender

#: Fits a system to what is known of everybody at a day. It may choose its settings on the fold, where there is one.
FitFunction = Callable[[Histories, Config, Fold | None], Recommender]
#: Says whether a log holds what a system needs.
LogCheck = Callable[[Purchases, Config], bool]

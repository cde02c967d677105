"""How good a model ranks what the validation users bought, with temperatures fitted where they help."""

import numpy as np
import torch
from torch import Tensor

from recsys.config import Config
from recsys.data.purchases import Histories
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.segments import bought_before
from recsys.evaluation.splits import Fold
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.training.calibration import fit_temperatures, fold_in
from recsys.signals.snapshot import Snapshots
from recsys.signals.user_codes import UserCodes

#: Length of the lists by which epochs are chosen.
K = 12


class Validation:
    """The validation fold, and how a model is validated on it."""

    def __init__(self, config: Config, snapshots: Snapshots, user_codes: UserCodes | None, fold: Fold) -> None:
        self.config, self.snapshots, self.user_codes, self.fold = config, snapshots, user_codes, fold

    def average_precisions(self, model: PurchaseModel) -> tuple[np.ndarray, Tensor]:
        """Return AP@12 of each user of the fold (Q,), and the temperatures with which it is that.

        A few numbers are fitted to the very purchases that are ranked: where these are few, the mean is too high. Users
        of whom the model knows nothing are not validated on (NaN): their lists are others'. What is most likely need
        not rank best, so the temperatures, those of a copy, are taken only where that ranks better.
        """
        validated_Q, fold, histories = self._validated(model)
        excludes = self.config.predict.exclude_seen
        decoder = DecoderRecommender(model, self.snapshots, self.user_codes)
        fitted = fit_temperatures(decoder, histories, fold, self.config.seed, exclude_seen=excludes)
        plain_A, scaled_A = (self._precisions(one, histories, fold) for one in (model, fold_in(model, fitted)))
        helps = scaled_A.mean() > plain_A.mean()
        precision_Q = np.full(len(validated_Q), np.nan)
        precision_Q[validated_Q] = scaled_A if helps else plain_A
        return precision_Q, fitted if helps else torch.zeros_like(fitted)

    def _validated(self, model: PurchaseModel) -> tuple[np.ndarray, Fold, Histories]:
        """Return the mask (Q,) of users to validate on, their fold without what lists leave out, and histories."""
        fold, log = self.fold, self.snapshots.log
        if self.config.predict.exclude_seen and not (is_repeat_n := bought_before(log, fold)).all():
            fold = fold.of_targets(~is_repeat_n)
        known_A = DecoderRecommender(model, self.snapshots, self.user_codes).knows(fold.histories(log))
        if known_A.any():
            fold = fold.of_users(known_A)
        return np.isin(self.fold.user_index, fold.user_index), fold, fold.histories(log)

    def _precisions(self, model: PurchaseModel, histories: Histories, fold: Fold) -> np.ndarray:
        n_items = self.snapshots.log.n_items
        # With the items of the history in them or without, as lists will be asked for.
        candidates = Candidates(all_items(n_items), self.config.predict.exclude_seen)
        decoder = DecoderRecommender(model, self.snapshots, self.user_codes)
        lists = decoder.recommend(histories, min(K, n_items), candidates)
        if np.isnan(lists.score).any():
            # A training that diverged: in the order of nothing, a small catalogue may even look well ranked.
            return np.zeros(len(fold.user_index))
        listed = np.where(np.isneginf(lists.score), 0, lists.item)  # too few were left: the rest is no recommendation
        return average_precisions(listed, fold, K)

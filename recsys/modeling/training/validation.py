"""How good a model ranks what the validation users bought, with temperatures fitted where they help."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from recsys.config import Config
from recsys.data.purchases import event_positions
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.segments import bought_before
from recsys.evaluation.splits import Fold
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.decoder import DecoderRecommender, Reading
from recsys.modeling.training.calibration import fit_temperatures, fold_in, temperature_names
from recsys.modeling.training.negatives import MixedSampler
from recsys.signals.snapshot import Snapshots
from recsys.signals.user_codes import UserCodes

#: Length of the lists by which epochs are chosen, at most.
_LONGEST = 12
#: Users who are validated on at most, and those of them to whom temperatures are fitted.
_MOST_USERS, _MOST_FITTED = 2048, 1024


class Validation:
    """The validation fold, and how a model is validated on it: always on the same users."""

    def __init__(self, config: Config, snapshots: Snapshots, user_codes: UserCodes | None, fold: Fold) -> None:
        self.config, self.snapshots, self.user_codes = config, snapshots, user_codes
        self.k = min(_LONGEST, config.predict.k)  # of the lists that are asked for
        some = np.random.default_rng(config.seed).permutation(len(fold.user_index))[:_MOST_USERS]
        self.fold, log = fold.of_users(np.sort(some)), snapshots.log
        known = log.item[event_positions(log.offsets[:-1], fold.history_end)[1]]
        self.sampler = MixedSampler(torch.from_numpy(np.bincount(known, minlength=log.n_items + 1)))

    def average_precisions(self, model: PurchaseModel, *, is_trained: bool = True) -> tuple[np.ndarray, Tensor]:
        """Return AP@k of each user of the fold (Q,), and the temperatures with which it is that.

        A few numbers are fitted to the very purchases that are ranked: where these are few, the mean is too high. Users
        of whom the model knows nothing are not validated on (NaN): their lists are others'. What is most likely need
        not rank best, so the temperatures, those of a copy, are left out where ranks without them are better by more
        than two standard errors: the best of many epochs has a lead of one by chance. A model that is not trained has
        none: it learned nothing by heart.
        """
        decoder = DecoderRecommender(model, self.snapshots, self.user_codes)
        validated_Q, fold = self._validated(decoder)
        histories, excludes = fold.histories(self.snapshots.log), self.config.predict.exclude_seen
        with decoder.asking():
            rows, readings = zip(*decoder.readings(histories, model.n_items), strict=True)
        read = [(reading, fold.of_users(some)) for some, reading in zip(rows, readings, strict=True)]
        best_A, temperatures = self._precisions(decoder, read), torch.zeros(len(temperature_names(model)))
        if is_trained:
            # Those read together are of like length: some of every length are fitted to.
            fitted_to = read[:: -(-len(histories) // _MOST_FITTED)]
            fitted = fit_temperatures(model, fitted_to, self.sampler, self.config.seed, exclude_seen=excludes)
            scaled = DecoderRecommender(fold_in(model, fitted), self.snapshots, self.user_codes)
            factor = float(fitted[0].exp()) if model.decoder is not None else 1.0
            scaled_A = self._precisions(scaled, read, factor)
            lead_A = best_A - scaled_A
            error = lead_A.std(ddof=1) / math.sqrt(len(lead_A)) if len(lead_A) > 1 else 0.0
            if lead_A.mean() <= 2 * error:
                best_A, temperatures = scaled_A, fitted
        precision_A = np.empty(len(histories))
        precision_A[np.concatenate(rows)] = best_A
        precision_Q = np.full(len(validated_Q), np.nan)
        precision_Q[validated_Q] = precision_A
        return precision_Q, temperatures

    def _validated(self, decoder: DecoderRecommender) -> tuple[np.ndarray, Fold]:
        """Return the mask (Q,) of users to validate on, and their fold without what lists leave out."""
        fold, log = self.fold, self.snapshots.log
        if self.config.predict.exclude_seen and not (is_repeat_n := bought_before(log, fold)).all():
            fold = fold.of_targets(~is_repeat_n)
        known_A = decoder.knows(fold.histories(log))
        if known_A.any():
            fold = fold.of_users(known_A)
        return np.isin(self.fold.user_index, fold.user_index), fold

    def _precisions(
        self, decoder: DecoderRecommender, read: Sequence[tuple[Reading, Fold]], factor: float = 1.0
    ) -> np.ndarray:
        """Return AP@k (A,) of the users that were ``read``, in that order, by queries longer by ``factor``.

        Else what was read is the same for a ``decoder`` of any temperatures.
        """
        n_items = self.snapshots.log.n_items
        # With the items of the history in them or without, as lists will be asked for.
        excludes = self.config.predict.exclude_seen
        item_N = torch.arange(1, n_items + 1, device=decoder.model.item_bias.device)
        precisions, diverged = [], False
        with decoder.asking():
            for reading, fold in read:
                query_QD = None if reading.query_QD is None else reading.query_QD * factor
                asked = replace(reading, query_QD=query_QD)
                item, score = decoder.best(asked, min(self.k, n_items), item_N, exclude_seen=excludes)
                listed = np.where(np.isneginf(score), 0, item)  # too few were left: the rest is no recommendation
                precisions.append(average_precisions(listed, fold, self.k))
                diverged |= bool(np.isnan(score).any())
        # A training that diverged: in the order of nothing, a small catalogue may even look well ranked.
        return np.concatenate(precisions) * (not diverged)

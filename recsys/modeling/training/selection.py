"""What a run keeps of its training, judged by lists of the validation users: nothing that does not lead beyond chance.

A lead of one standard error or less is chance: epochs and temperatures were chosen on the same users.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.training.calibration import fold_in
from recsys.modeling.training.validation import Validation


class Lead(NamedTuple):
    """By how much some lists are better than others, in AP, a mean over users."""

    mean: float
    standard_error: float
    n_users: int

    @classmethod
    def of(cls, difference_Q: np.ndarray) -> "Lead":
        """Return the lead of ``difference_Q`` (Q,), NaN where a user is not asked; of fewer than two, none."""
        some = difference_Q[np.isfinite(difference_Q)]
        if len(some) < 2:
            return cls(0.0, 0.0, len(some))
        return cls(float(some.mean()), float(some.std(ddof=1) / math.sqrt(len(some))), len(some))


class TransformerChoice(NamedTuple):
    """Whether lists read the transformer, and by what."""

    stays: bool
    value: float | None = None  # mean AP of the validation users with what is kept; None where none are held out
    whole: Lead | None = None  # of whole lists; None where nothing was compared
    new: Lead | None = None  # of lists of first purchases, where whole lists hold past items

    def to_json(self) -> dict[str, Any]:
        leads = {"whole": self.whole, "new": self.new}
        return {"stays": self.stays} | {name: lead._asdict() for name, lead in leads.items() if lead and lead.n_users}


def beats(trained: PurchaseModel, rules: PurchaseModel, validation: Validation) -> bool:
    """Return whether lists are better by ``trained`` than by the untrained ``rules``, by more than a standard error."""
    trained_Q, rules_Q = (validation.average_precisions(one, is_trained=False)[0] for one in (trained, rules))
    lead = Lead.of(trained_Q - rules_Q)
    return lead.mean > lead.standard_error


def choose_transformer(
    model: PurchaseModel,
    without: PurchaseModel,
    validation: Validation,
    discoveries: Validation | None,
    *,
    is_trained: bool,
) -> tuple[TransformerChoice, Tensor]:
    """Return whether the transformer stays, and the temperatures of ``model`` or, where not, of the one ``without``.

    It stays where the mean AP is higher with it by more than one standard error, in whole lists or in those of
    ``discoveries``, and lower by as much in neither; and only if it is trained.
    """
    if not is_trained:
        precision_Q, fitted = validation.average_precisions(without, is_trained=False)
        return TransformerChoice(False, float(np.nanmean(precision_Q))), fitted
    temperatures, precisions = [], []
    for one in (model, without):
        whole_Q, fitted = validation.average_precisions(one)
        temperatures.append(fitted)
        precisions.append([whole_Q])
        if discoveries is not None:
            precisions[-1].append(discoveries.average_precisions(fold_in(one, fitted), is_trained=False)[0])
    leads = [Lead.of(with_Q - without_Q) for with_Q, without_Q in zip(*precisions, strict=True)]
    behind = any(lead.mean < -lead.standard_error for lead in leads)
    stays = not behind and any(lead.mean > lead.standard_error for lead in leads)
    kept = 0 if stays else 1
    return TransformerChoice(stays, float(np.nanmean(precisions[kept][0])), *leads), temperatures[kept]

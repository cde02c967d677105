"""Which system serves a shop: the decoder, only where it beats the best rule by more than chance.

Decided on the customers of the validation window, never on a test window: the decoder serves where its average
precision there exceeds that of the best rule, paired by customer, by more than one standard error. Its epoch was chosen
on the same customers, so a smaller lead says nothing.
"""

import math
from typing import NamedTuple

import numpy as np

from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.splits import make_split
from recsys.modeling.lists import fit_system
from recsys.modeling.recommenders.base import candidates_at
from recsys.modeling.recommenders.registry import systems_of
from recsys.runs import CHOICE_FILE, Run
from recsys.schema import DECODER
from recsys.storage import read_json, write_json


class ChosenSystem(NamedTuple):
    """The system that serves, and why."""

    system: str
    best_rule: str
    metric: str
    difference: float  # the decoder minus the best rule, mean over customers
    standard_error: float
    n_customers: int
    values: dict[str, float]  # of every system


def choose_system(run: Run, log: Purchases) -> ChosenSystem:
    """Return which system serves the shop of a run, and write it to the run's report folder."""
    config = run.config
    fold = make_split(log, config.split).validation
    histories, candidates = fold.histories(log), candidates_at(log, fold.start_day, config.predict)
    k = config.predict.k
    precisions = {}
    for name in systems_of(config, log):
        lists = fit_system(name, run, config, fold.everybody(log)).recommend(histories, k, candidates)
        precisions[name] = average_precisions(lists.item, fold, k)
    values = {name: float(np.nanmean(each)) for name, each in precisions.items()}
    best_rule = max((name for name in values if name != DECODER), key=lambda name: values[name], default=DECODER)
    apart = precisions[DECODER] - precisions[best_rule]
    apart = apart[np.isfinite(apart)]
    error = float(apart.std(ddof=1) / math.sqrt(len(apart))) if len(apart) > 1 else math.inf
    leads = best_rule == DECODER or float(apart.mean()) > error
    difference, finite_error = float(apart.mean()), error if math.isfinite(error) else 0.0
    system = DECODER if leads else best_rule
    choice = ChosenSystem(system, best_rule, f"map@{k}", difference, finite_error, len(apart), values)
    write_json(run.report_folder / CHOICE_FILE, choice._asdict() | {"made_by": run.identity})
    return choice


def chosen_system(run: Run) -> str:
    """Return the system that was chosen for a run; RunError where none was, or is, or for another training."""
    path = run.report_folder / CHOICE_FILE
    about = read_json(path) if path.is_file() else {}
    if run.config.split.protocol != "weekly":
        raise RunError(f"under split.protocol {run.config.split.protocol} no system is chosen; name one with --system")
    if about.get("made_by") != run.identity:
        raise RunError(f"no system is chosen for {run.name} yet; run `recsys predict --folds --run {run.name}` first")
    return str(about["system"])

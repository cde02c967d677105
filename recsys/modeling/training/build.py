"""A fresh model over the training part of the data, its components scaled and begun as rules."""

import torch

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.evaluation.splits import Split
from recsys.modeling.recommenders.decoder import build_purchase_model, signals_of
from recsys.modeling.recommenders.rules.item_knn import nearest_by_cosine
from recsys.modeling.training.batches import TrainingBatches
from recsys.modeling.training.module import PurchaseModule

#: Queries over whose catalogues the even chance of past items is taken.
_N_WEIGHED = 256


def build_purchase_module(config: Config, log: Purchases, split: Split) -> PurchaseModule:
    """Return our model and what trains it on ``log``; random numbers are torch's, as they were seeded."""
    training, has_dates = config.training, config.split.protocol == "weekly"
    held_out = training.until == "validation"
    split = split if held_out else split.with_validation_learned(log)
    snapshots, user_codes = signals_of(config, log)
    model = build_purchase_model(config, snapshots.codes, user_codes, snapshots.n_promoted)
    batches = TrainingBatches(
        snapshots,
        split,
        user_codes=user_codes,
        lifts=model.reads_lifts,
        max_length=config.model.max_length,
        batch_tokens=training.batch_tokens,
        query_windows=training.query_windows if has_dates else 0,
        horizon_days=config.split.horizon_days,
        seed=config.seed,
        recent_days=training.recent_days if has_dates else None,
    )
    queries = batches.first_queries()
    if len(queries):  # else there is no day to scale by: the protocol has none, or no window is to be asked about
        with torch.no_grad():
            model.init_scales(queries, batches.item_rows(), _N_WEIGHED)
    if model.neighbours is not None:
        everybody = Histories(log, log.histories(split.train_day).user_index, split.train_end, split.train_day)
        neighbours = nearest_by_cosine(everybody, model.neighbours.cosine_VK.shape[1])
        model.neighbours.set_neighbours(*(torch.from_numpy(part) for part in neighbours))
    return PurchaseModule(config, model, batches, split.validation if held_out else None)

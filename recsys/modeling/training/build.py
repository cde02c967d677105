"""A fresh model over the training part of the data, its components scaled and begun as rules."""

import torch

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.evaluation.splits import Split
from recsys.modeling.decoder.components.neighbours import NeighbourComponent
from recsys.modeling.recommenders.decoder import build_purchase_model, signals_of
from recsys.modeling.recommenders.rules.item_knn import nearest_by_cosine
from recsys.modeling.training.batches import TrainingBatches
from recsys.modeling.training.module import PurchaseModule


def build_purchase_module(config: Config, log: Purchases, split: Split) -> PurchaseModule:
    """Return our model and what trains it on ``log``; random numbers are torch's, as they were seeded."""
    held_out = config.training.until == "validation"
    split = split if held_out else split.with_validation_learned(log)
    snapshots, user_codes = signals_of(config, log)
    model = build_purchase_model(config, snapshots.codes, user_codes, snapshots.n_promoted)
    batches = TrainingBatches(config, snapshots, split, user_codes, lifts=model.reads_lifts)
    first_inputs = batches.first_inputs()
    if first_inputs is not None:
        model.init_scales(*first_inputs)
    neighbours = model.component(NeighbourComponent)
    if neighbours is not None:
        everybody = Histories(log, log.histories(split.train_day).user_index, split.train_end, split.train_day)
        nearest = nearest_by_cosine(everybody, neighbours.cosine_VK.shape[1])
        neighbours.set_neighbours(*(torch.from_numpy(part) for part in nearest))
    return PurchaseModule(config, model, batches, split.validation if held_out else None)

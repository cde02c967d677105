"""What a configuration trains: a fresh module of each family of runs, and how its training is shown."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

from recsys.config import Config
from recsys.console import TALK_SETTINGS
from recsys.data.purchases import Histories, Purchases
from recsys.evaluation.splits import Split, make_split
from recsys.modeling.original.embeddings import embeddings_folder, load_embeddings
from recsys.modeling.original.module import build_original_module, build_text_module
from recsys.modeling.original.recommender import build_transformer
from recsys.modeling.recommenders.decoder import build_purchase_model, count_transitions_of, signals_of
from recsys.modeling.training.batches import TrainingBatches
from recsys.modeling.training.module import EpochModule, PurchaseModule


def build_module(config: Config, log: Purchases) -> EpochModule:
    """Return a fresh module, seeded, over the training part of ``log``."""
    torch.manual_seed(config.seed)  # the only random numbers that are global: all others have generators of their own
    if config.family == "text":
        return build_text_module(config, log)
    split, vectors = make_split(log, config.split), None
    if config.family == "decoder":
        return build_purchase_module(config, log, split)
    if config.original.family == "bert":
        vectors = torch.from_numpy(load_embeddings(embeddings_folder(config), log))
    return build_original_module(config, log, split, build_transformer(config, log, vectors))


def build_purchase_module(config: Config, log: Purchases, split: Split) -> PurchaseModule:
    """Return our model and what trains it on ``log``; random numbers are torch's, as they were seeded."""
    held_out = config.training.until == "validation"
    split = split if held_out else split.with_validation_learned(log)
    snapshots, user_codes = signals_of(config, log)
    model = build_purchase_model(config, snapshots.codes, user_codes, snapshots.n_promoted)
    batches = TrainingBatches(
        config, snapshots, split, user_codes, lifts=model.reads_lifts, asks=bool(model.components)
    )
    first_inputs = batches.first_inputs()
    if first_inputs is not None:
        model.init_scales(*first_inputs)
    everybody = Histories(log, log.histories(split.train_day).user_index, split.train_end, split.train_day)
    count_transitions_of(model, everybody)
    return PurchaseModule(config, model, batches, split.validation if held_out else None)


@contextmanager
def repeatable() -> Iterator[None]:
    """Let equal runs give equal weights while the context lasts: else threads that add gradients race for the order.

    A GPU only warns where it has no such way. Torch is left as it was found, its random numbers too.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    state = torch.get_rng_state()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.set_rng_state(state)


class TrainingBar(RichProgressBar):
    """The loss of the step and the validation score, in few letters."""

    def __init__(self) -> None:
        super().__init__(console_kwargs={**TALK_SETTINGS})

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = trainer.callback_metrics
        shown = {"train_loss_step": "loss"}
        shown |= {name: name.removeprefix("val_").upper() for name in metrics if name.startswith("val_map@")}
        shown |= dict.fromkeys(("val_loss_epoch", "val_loss"), "validation loss")
        return {label: f"{float(metrics[name]):.4f}" for name, label in shown.items() if name in metrics}

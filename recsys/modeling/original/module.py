"""The LightningModule of the original architectures: loss and entropy a step, Adam, warm-up and linear decay."""

from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.evaluation.splits import Split
from recsys.modeling.original.batches import (
    OriginalBatch,
    OriginalBatches,
    customer_stretches,
    fold_stretches,
    training_stretches,
)
from recsys.modeling.original.decoder import Transformer, loss_and_entropy, next_logits, next_targets
from recsys.modeling.original.text_batches import TextBatches


class EpochModule(pl.LightningModule):
    """Learns from ``batches`` and is validated on ``held_out``; a resumed run equals an uninterrupted one."""

    validation_mode: Literal["min", "max"] = "min"
    config: Config
    batches: OriginalBatches | TextBatches
    held_out: OriginalBatches | TextBatches

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, already assembled."""
        return self._loader(self.batches)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation batches, already assembled, with the same queries every epoch."""
        return self._loader(self.held_out)

    def _loader(self, batches: OriginalBatches | TextBatches) -> DataLoader[Any]:
        batches.rank, batches.world_size = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(batches, batch_size=None)

    def on_train_epoch_start(self) -> None:
        """Fix the order of the epoch by seed and epoch."""
        self.batches.epoch = self.current_epoch

    def on_train_batch_start(self, *_: object) -> None:
        """Fix dropout by seed, step and process."""
        torch.manual_seed(hash((self.config.seed, self.global_step, self.global_rank)))


class OriginalModule(EpochModule):
    """Fit a :class:`Transformer` to the next token at every position that is not padding."""

    validation_metric = "val_loss_epoch"
    log_every_n_steps = 1

    def __init__(self, config: Config, model: Transformer, batches: OriginalBatches, held_out: OriginalBatches) -> None:
        super().__init__()
        self.config, self.model, self.batches, self.held_out = config, model, batches, held_out

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a run keeps of this module's ``state``."""
        return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}

    def training_step(self, batch: OriginalBatch) -> Tensor:
        """Return the cross-entropy of the next token."""
        return self._measured("train", batch)

    def validation_step(self, batch: OriginalBatch) -> None:
        """Log loss and entropy of held-out customers."""
        self._measured("val", batch)

    def _measured(self, part: str, batch: OriginalBatch) -> Tensor:
        loss_M, entropy_M = loss_and_entropy(next_logits(self.model, batch), next_targets(batch))
        loss = loss_M.mean()
        # Weighted by targets, so that an epoch's value is the mean over positions and not over batches.
        for name, value in (("loss", loss.detach()), ("entropy", entropy_M.mean())):
            self.log(f"{part}_{name}", value, on_step=True, on_epoch=True, batch_size=len(loss_M), sync_dist=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam (with decoupled weight decay, where asked), lr rising linearly, then falling linearly to 0."""
        training = self.config.training
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=training.lr, weight_decay=training.weight_decay)
        total = max(len(self.batches) * training.epochs, 1)
        warmup = max(round(training.warmup_fraction * total), 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def lr_factor(step: int, warmup: int, total: int) -> float:
    """Return the share of the highest learning rate at ``step``: up to 1 over ``warmup`` steps, down to 0 at ``total``.

    >>> [lr_factor(step, 2, 6) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return max(total - step, 0) / max(total - warmup, 1)


def build_original_module(config: Config, data: Purchases, split: Split, model: Transformer) -> OriginalModule:
    """Return ``model`` with batches of the training part and of the validation part of ``data``.

    Under protocol customers, validation reads whole histories of held-out customers; under the others, whatever follows
    the history that the validation fold knows.
    """
    chosen, fold = config.original, split.validation
    if config.split.protocol == "customers":
        held_out = customer_stretches(data, fold.user_index, chosen.seq_max_len)
    else:
        last = config.split.protocol == "leave_one_out"
        end = fold.history_end + 1 if last else data.ends_before(fold.end_day)
        n_targets = (end - fold.history_end)[fold.user_index]
        held_out = fold_stretches(data, fold, n_targets, chosen.seq_max_len)
    learned = training_stretches(data, split, chosen.seq_max_len)
    batches = OriginalBatches(data, learned, chosen.batch_size, seed=config.seed, shuffled=True)
    return OriginalModule(config, model, batches, OriginalBatches(data, held_out, chosen.batch_size))

"""The LightningModules of the original architectures: what they learn from, their losses and learning rates."""

from typing import Any, Final

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.errors import DataError
from recsys.evaluation.splits import HELD_OUT_SEED, HELD_OUT_SHARE, Split
from recsys.modeling.decoder.losses import full_softmax_loss
from recsys.modeling.original.batches import EpochBatches, OriginalBatch, history_batches, whole_histories
from recsys.modeling.original.decoder import Transformer, loss_and_entropy, next_tokens
from recsys.modeling.original.text_transformer import TextTransformer
from recsys.modeling.original.texts import TextBatch, text_batches, tokenised_items
from recsys.modeling.training.module import EpochModule

#: Share of the target that is spread over all tokens, as in the original: losses compare only where it is the same.
_LABEL_SMOOTHING: Final = 0.1
#: Places whose logits are made at a time where a held-out text is judged.
_CHUNK_PLACES = 256


class HeldOutModule(EpochModule):
    """Is validated by the loss on ``held_out``."""

    validation_mode = "min"

    def __init__(self, config: Config, model: nn.Module, batches: EpochBatches, held_out: EpochBatches) -> None:
        super().__init__(config, model, batches)
        self.held_out = held_out

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.held_out, batch_size=None)


class OriginalModule(HeldOutModule):
    """Fit a :class:`Transformer` to the next token at every position that is not padding."""

    model: Transformer
    validation_metric = "val_loss_epoch"
    log_every_n_steps = 1

    def training_step(self, batch: OriginalBatch) -> Tensor:
        return self._measured("train", batch)

    def validation_step(self, batch: OriginalBatch) -> None:
        self._measured("val", batch)

    def _measured(self, part: str, batch: OriginalBatch) -> Tensor:
        loss_M, entropy_M = loss_and_entropy(*next_tokens(self.model, batch))
        loss = loss_M.mean()
        # Weighted by targets, so that an epoch's value is the mean over positions and not over batches.
        for name, value in (("loss", loss.detach()), ("entropy", entropy_M.mean())):
            self.log(f"{part}_{name}", value, on_step=True, on_epoch=True, batch_size=len(loss_M), sync_dist=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        training = self.config.training
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=training.lr, weight_decay=training.weight_decay)
        return self.scheduled(optimizer, lambda step, steps: max(steps - step, 0) / max(steps, 1))


def build_original_module(config: Config, data: Purchases, split: Split, model: Transformer) -> OriginalModule:
    """Return ``model`` with batches of the training part and of the validation part of ``data``."""
    fold, known_end = split.validation, None
    end = whole_histories(data, fold.user_index)  # of held-out customers; of others, what the fold does not know
    if config.split.protocol != "customers":
        known_end, last = fold.history_end, config.split.protocol == "leave_one_out"
        ends = known_end + 1 if last else data.ends_before(fold.end_day)
        end[fold.user_index] = ends[fold.user_index]
    batches = history_batches(data, split.train_end, config.original, seed=config.seed)
    return OriginalModule(config, model, batches, history_batches(data, end, config.original, known_end))


class TextModule(HeldOutModule):
    """Fit a :class:`TextTransformer` to the next token of texts, as ``config.text_model.objective`` has it."""

    model: TextTransformer
    validation_metric = "val_loss"

    def training_step(self, batch: TextBatch) -> Tensor:
        states_MD, head = self.model.states_at(batch), self.model.output_layer
        loss = full_softmax_loss(states_MD, head.weight, batch.target_M, head.bias, label_smoothing=_LABEL_SMOOTHING)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(batch.target_M))
        return loss

    def validation_step(self, batch: TextBatch) -> None:
        """Log the loss that training has, and beside it cross-entropy without smoothing and the share said right."""
        states_MD, n_targets = self.model.states_at(batch), len(batch.target_M)
        sums = dict.fromkeys(("val_loss", "val_cross_entropy", "val_accuracy"), 0.0)
        # The logits of all places at once would be gigabytes.
        for begin in range(0, n_targets, _CHUNK_PLACES):
            places = slice(begin, begin + _CHUNK_PLACES)
            logits_CV, target_C = self.model.output_layer(states_MD[places]).float(), batch.target_M[places]
            for name, smoothing in (("val_loss", _LABEL_SMOOTHING), ("val_cross_entropy", 0.0)):
                sums[name] += float(cross_entropy(logits_CV, target_C, reduction="sum", label_smoothing=smoothing))
            sums["val_accuracy"] += float((logits_CV.argmax(-1) == target_C).sum())
        means = {name: total / max(n_targets, 1) for name, total in sums.items()}
        self.log_dict(means, batch_size=n_targets, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam; early stopping ends the run, so the rate stays up."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.config.training.lr, fused=True)
        return self.scheduled(optimizer)


def build_text_module(config: Config, data: Purchases) -> TextModule:
    """Return a fresh text transformer with batches of the distinct texts of the items."""
    texts, _ = tokenised_items(config, data)
    if len(texts) < 2:
        raise DataError(f"{data.folder}: found {len(texts)} distinct item texts, expected at least 2 to learn from")
    order = np.random.default_rng(HELD_OUT_SEED).permutation(len(texts))
    n_held_out = min(max(round(HELD_OUT_SHARE * len(texts)), 1), len(texts) - 1)
    learned = text_batches(texts.take(order[n_held_out:]), config.text_model, config.seed)
    held_out = text_batches(texts.take(order[:n_held_out]), config.text_model, config.seed + 1)
    return TextModule(config, TextTransformer(config.text_model, texts.vocabulary_size), learned, held_out)

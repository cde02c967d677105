"""The text transformer: learns from the catalogue's texts alone, and gives every item a vector for the item map."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from recsys.config import Config
from recsys.evaluation.splits import HELD_OUT_SEED, HELD_OUT_SHARE
from recsys.modeling.decoder.losses import full_softmax_loss
from recsys.modeling.original.module import EpochModule
from recsys.modeling.original.text_batches import MAX_TOKENS, TextBatch, TextBatches, Texts, split_rows

#: Share of activations dropped while training, as in the original.
_DROPOUT: Final = 0.2
#: Share of the target that is spread over all tokens, as in the original: losses compare only where it is the same.
_LABEL_SMOOTHING: Final = 0.1
#: Tokens, padding included, that are read at a time when items get their vectors.
_CHUNK_TOKENS = 16_384
#: Places whose logits are made at a time where a held-out text is judged.
_CHUNK_PLACES = 256


class PositionalEncoding(nn.Module):
    """Add to each position its sines (even columns) and cosines (odd columns), divided by √D, then drop out.

    ``PE[t, 2i] = sin(t / 10000^(2i/D))``, ``PE[t, 2i+1] = cos(t / 10000^(2i/D))`` (Vaswani et al., 2017, Attention Is
    All You Need, section 3.5); the division by √D, as in the original system, is a deviation from the paper.
    """

    encoding_TD: Tensor

    def __init__(self, d_model: int, dropout: float, max_tokens: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        angle_TI = torch.arange(max_tokens)[:, None] * torch.exp(
            torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model)
        )
        encoding_TD = torch.stack([angle_TI.sin(), angle_TI.cos()], dim=-1).flatten(1)
        self.register_buffer("encoding_TD", encoding_TD / math.sqrt(d_model), persistent=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return ``x_BTD`` with its positions, after dropout."""
        encoded: Tensor = self.dropout(x_BTD + self.encoding_TD[: x_BTD.shape[1]])
        return encoded


class TextTransformer(EpochModule):
    """Read an item's text; learn by saying the next token, as ``config.objective`` has it.

    Without texts it can be loaded and asked for vectors, but not trained.
    """

    validation_metric = "val_loss"
    log_every_n_steps = 10

    def __init__(self, config: Config, texts: Texts | None = None, vocabulary_size: int = 30_522) -> None:
        super().__init__()
        self.config, text_model = config, config.text_model
        self.objective = text_model.objective
        self.item_embeddings = nn.Embedding(vocabulary_size, text_model.width)
        self.positional_encoding = PositionalEncoding(text_model.width, _DROPOUT, MAX_TOKENS)
        width, n_heads = text_model.width, text_model.n_heads
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, n_heads, dropout=_DROPOUT, batch_first=True)
            for _ in range(text_model.n_layers)
        )
        self.output_layer = nn.Linear(text_model.width, vocabulary_size)
        if texts is not None:
            learned, held_out = split_rows(len(texts), HELD_OUT_SHARE, HELD_OUT_SEED)
            self.batches = TextBatches(texts, learned, text_model, config.seed)
            self.held_out = TextBatches(texts, held_out, text_model, config.seed + 1)

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a run keeps of this module's ``state``: all, since it is the model (and prints as published)."""
        return state

    def forward(self, token_BT: Tensor, is_padding_BT: Tensor | None = None) -> Tensor:
        """Return the last layer's states (B, T, D); ``is_padding_BT`` bool are positions that nobody may attend to."""
        x_BTD: Tensor = self.positional_encoding(self.item_embeddings(token_BT))
        n_tokens = token_BT.shape[1]
        later_TT = None
        if self.objective == "causal":
            later_TT = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=x_BTD.device).triu(1)
        for layer in self.layers:
            x_BTD = layer(x_BTD, src_mask=later_TT, src_key_padding_mask=is_padding_BT)
        return x_BTD

    def target_states(self, batch: TextBatch) -> Tensor:
        """Return the states (M, D) at the places of the targets: logits are made there alone, which saves most work."""
        states_BTD: Tensor = self(batch.token_BT, batch.is_padding_BT)
        return states_BTD.flatten(0, 1)[batch.place_M]

    def training_step(self, batch: TextBatch) -> Tensor:
        """Return the smoothed cross-entropy of what the batch asks."""
        head = self.output_layer
        states_MD = self.target_states(batch)
        loss = full_softmax_loss(states_MD, head.weight, batch.target_M, head.bias, label_smoothing=_LABEL_SMOOTHING)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(batch.target_M))
        return loss

    def validation_step(self, batch: TextBatch) -> None:
        """Log the loss that training has, and beside it cross-entropy without smoothing and the share said right."""
        states_MD, n_targets = self.target_states(batch), len(batch.target_M)
        smoothed, plain, right = 0.0, 0.0, 0.0
        # The logits of all places at once would be gigabytes.
        chunks = torch.split(states_MD, _CHUNK_PLACES), torch.split(batch.target_M, _CHUNK_PLACES)
        for states_CD, target_C in zip(*chunks, strict=True):
            logits_CV = self.output_layer(states_CD).float()
            loss_sum = partial(nn.functional.cross_entropy, logits_CV, target_C, reduction="sum")
            smoothed += float(loss_sum(label_smoothing=_LABEL_SMOOTHING))
            plain += float(loss_sum())
            right += float((logits_CV.argmax(-1) == target_C).sum())
        values = {"val_loss": smoothed, "val_cross_entropy": plain, "val_accuracy": right}
        means = {name: value / max(n_targets, 1) for name, value in values.items()}
        self.log_dict(means, batch_size=n_targets, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam with a linear warm-up; early stopping ends the run, so the rate stays up afterwards."""
        training = self.config.training
        optimizer = torch.optim.Adam(self.parameters(), lr=training.lr, fused=True)
        warmup = max(round(training.warmup_fraction * len(self.batches) * training.epochs), 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warmup, 1.0))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def text_vectors(
    model: TextTransformer, texts: Texts, advance: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Return the vector (n, D) float32 of each text: the mean of the last layer over its words.

    A text without a word has the mean over all that is no padding. Independent of what else is in a batch.
    ``advance`` is called with how many texts were read, and of how many.
    """
    model.eval()
    n_read = 0
    vectors = np.zeros((len(texts), model.output_layer.in_features), dtype=np.float32)
    with torch.inference_mode():
        for rows in _chunks(texts.lengths):
            token_BT = texts.batch(rows).to(model.device)
            is_padding_BT = token_BT == texts.padding
            states_BTD = model(token_BT, is_padding_BT)
            counted_BT = texts.is_word(token_BT)
            counted_BT = torch.where(counted_BT.any(1, keepdim=True), counted_BT, ~is_padding_BT)
            weight_BT1 = counted_BT.unsqueeze(-1).to(states_BTD.dtype)
            mean_BD = (states_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
            vectors[rows] = mean_BD.float().cpu().numpy()
            n_read += len(rows)
            advance(n_read, len(texts))
    return vectors


def _chunks(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all rows, those of like length together, as many at a time as make ``_CHUNK_TOKENS``."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        longest = max(int(lengths[order[min(begin + _CHUNK_TOKENS // 4, len(order) - 1)]]), 1)
        size = max(_CHUNK_TOKENS // longest, 1)
        yield order[begin : begin + size]
        begin += size

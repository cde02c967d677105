"""The text transformer: learns from the catalogue's texts alone, and gives every item a vector for the item map."""

import hashlib
import json
import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from recsys.config import Config, TextModelConfig
from recsys.console import Advance, unheard
from recsys.data.purchases import Purchases
from recsys.modeling.decoder.weights import load_weights
from recsys.modeling.original.embeddings import read_vectors, write_vectors
from recsys.modeling.original.recommender import tensor_shape
from recsys.modeling.original.texts import MAX_TOKENS, TextBatch, Texts, tokenised_items
from recsys.runs import TEXT_VECTORS_FILE, WEIGHTS_FILE, Run
from recsys.storage import file_hash, replacing

#: Share of activations dropped while training, as in the original.
_DROPOUT: Final = 0.2
#: Texts that are read at a time when items get their vectors: 23,040 tokens at most.
_CHUNK_TEXTS = 256
#: Raised whenever the same weights and texts would give other vectors.
_MAKING = 1


class PositionalEncoding(nn.Module):
    """Add sines (even columns) and cosines (Vaswani et al., 2017, section 3.5), here over √D; then drop out."""

    encoding_TD: Tensor

    def __init__(self, d_model: int, dropout: float, max_tokens: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        frequency_I = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
        angle_TI = torch.arange(max_tokens)[:, None] * frequency_I
        encoding_TD = torch.stack([angle_TI.sin(), angle_TI.cos()], dim=-1).flatten(1)
        self.register_buffer("encoding_TD", encoding_TD / math.sqrt(d_model), persistent=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.dropout(x_BTD + self.encoding_TD[: x_BTD.shape[1]])


class TextTransformer(nn.Module):
    """Read an item's text; ``config.objective`` says which positions each sees."""

    def __init__(self, config: TextModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.objective = config.objective
        self.item_embeddings = nn.Embedding(vocabulary_size, config.width)
        self.positional_encoding = PositionalEncoding(config.width, _DROPOUT, MAX_TOKENS)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(config.width, config.n_heads, dropout=_DROPOUT, batch_first=True)
            for _ in range(config.n_layers)
        )
        self.output_layer = nn.Linear(config.width, vocabulary_size)

    def forward(self, token_BT: Tensor, is_padding_BT: Tensor) -> Tensor:
        """Return the last layer's states (B, T, D); ``is_padding_BT`` bool are positions that nobody may attend to."""
        x_BTD: Tensor = self.positional_encoding(self.item_embeddings(token_BT))
        n_tokens = token_BT.shape[1]
        later_TT = None
        if self.objective == "causal":
            later_TT = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=x_BTD.device).triu(1)
        for layer in self.layers:
            x_BTD = layer(x_BTD, src_mask=later_TT, src_key_padding_mask=is_padding_BT)
        return x_BTD

    def states_at(self, batch: TextBatch) -> Tensor:
        """Return the states (M, D) at the places of the targets: logits are made there alone, which saves most work."""
        return self(batch.token_BT, batch.is_padding_BT).flatten(0, 1)[batch.place_M]


def run_text_vectors(
    run: Run, data: Purchases, rows: np.ndarray | None = None, advance: Advance = unheard
) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1 by a run's text transformer; those of all are kept."""
    weights, kept, config = run.folder / WEIGHTS_FILE, run.folder / TEXT_VECTORS_FILE, run.config.text_model
    texts, text_of_item = tokenised_items(run.config, data)
    # All that decides the vectors: weights, shape of the model, tokens of the distinct texts.
    settings = [_MAKING, file_hash(weights), config.model_dump(mode="json")]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    offsets = np.cumsum([0, *texts.lengths])
    for array in (torch.cat(texts.tokens).int().numpy(), offsets, texts.special.numpy()):
        digest.update(array.tobytes())
    vectors = read_vectors(kept, (len(texts), config.width), digest.hexdigest())
    if vectors is not None:
        return vectors[text_of_item if rows is None else text_of_item[rows]]
    model = TextTransformer(config, tensor_shape(weights, "item_embeddings.weight", "text transformer")[0])
    load_weights(model, weights)
    if rows is not None:
        return _vectors_of(model, texts, text_of_item[rows], advance)
    vectors = text_vectors(model, texts, advance)
    with replacing(kept) as aside:
        write_vectors(vectors, aside, digest.hexdigest())
    return vectors[text_of_item]


def untrained_text_vectors(
    config: Config, data: Purchases, rows: np.ndarray | None = None, advance: Advance = unheard
) -> np.ndarray:
    """Return the same by a text transformer that has learned nothing yet."""
    texts, text_of_item = tokenised_items(config, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = TextTransformer(config.text_model, texts.vocabulary_size)
    return _vectors_of(model, texts, text_of_item if rows is None else text_of_item[rows], advance)


def _vectors_of(model: TextTransformer, texts: Texts, wanted: np.ndarray, advance: Advance) -> np.ndarray:
    used, place = np.unique(wanted, return_inverse=True)
    return text_vectors(model, texts.take(used), advance)[place]


def text_vectors(model: TextTransformer, texts: Texts, advance: Advance = unheard) -> np.ndarray:
    """Return the vector (n, D) float32 of each text: the mean of the last layer over its words, or else its marks."""
    model.eval()
    vectors = np.zeros((len(texts), model.output_layer.in_features), dtype=np.float32)
    with torch.inference_mode():
        by_length = np.argsort(texts.lengths, kind="stable")  # so that little padding is computed
        for begin in range(0, len(texts), _CHUNK_TEXTS):
            rows = by_length[begin : begin + _CHUNK_TEXTS]
            token_BT = texts.batch(rows).to(model.output_layer.weight.device)
            is_padding_BT = token_BT == texts.padding
            states_BTD = model(token_BT, is_padding_BT)
            counted_BT = ~torch.isin(token_BT, texts.special.to(token_BT.device))
            counted_BT = torch.where(counted_BT.any(1, keepdim=True), counted_BT, ~is_padding_BT)
            weight_BT1 = counted_BT.unsqueeze(-1).to(states_BTD.dtype)
            mean_BD = (states_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
            vectors[rows] = mean_BD.float().cpu().numpy()
            advance(begin + len(rows), len(texts))
    return vectors

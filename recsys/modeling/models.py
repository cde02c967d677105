"""The decoders that can be asked, untrained or with the weights of a run; of training this knows nothing.

Nothing here imports Lightning, which takes longer to load than a small run takes to answer.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recsys.config import Config, ModelConfig
from recsys.errors import ConfigError, RunError
from recsys.features import ItemSales
from recsys.modeling.batches import customers_told
from recsys.modeling.purchase_model import PurchaseModel
from recsys.modeling.recommend import DecoderRecommender
from recsys.modeling.seed_batches import N_SPECIAL
from recsys.modeling.seed_models import Transformer
from recsys.modeling.seed_recommend import SeedRecommender
from recsys.modeling.weights import load_weights
from recsys.prepared import PreparedData
from recsys.runs import WEIGHTS_FILE, Run

#: Width of the published decoder on ids.
_ID_WIDTH = 256


def load_decoder(found: Run, data: PreparedData) -> DecoderRecommender | SeedRecommender:
    """Return the decoder of a run, with its weights, as a system that can be asked.

    Raises:
        RunError: the run's weights do not fit its configuration, or it fitted the text transformer.
    """
    if found.config.text_model.objective is not None:
        raise RunError(
            f"{found.folder} holds a text transformer, which knows no customers and recommends nothing; "
            f"draw its map with `recsys plots map --run {found.name} --embeddings text`, or name a run of a decoder"
        )
    if found.config.seed_model.kind is not None:
        return SeedRecommender(load_transformer(found, data), found.config.seed_model.seq_max_len)
    model = build_purchase_model(found.config.model, data)
    load_weights(model, found.folder / WEIGHTS_FILE)
    return DecoderRecommender(model, ItemSales(data))


def build_purchase_model(config: ModelConfig, data: PreparedData) -> PurchaseModel:
    """Return our model for ``data``, not trained."""
    return PurchaseModel(
        config,
        torch.from_numpy(data.attributes),
        torch.from_numpy(data.kinds),
        n_customer_codes=int(customers_told(data, config).max(initial=0)) + 1,
        n_promoted=len(data.promotions.features) if config.promotions and data.promotions is not None else 0,
    )


def load_transformer(found: Run, data: PreparedData) -> Transformer:
    """Return the published architecture that a run fitted, with its weights and, where it reads any, its text vectors.

    Raises:
        RunError: the run's weights do not fit its configuration.
    """
    path = found.folder / WEIGHTS_FILE
    vectors = None
    if found.config.seed_model.kind == "bert":
        vectors = _room_for_texts(path)
    model = build_transformer(found.config, data, vectors)
    load_weights(model, path)
    return model


def _room_for_texts(path: Path) -> Tensor:
    """Return zeros of the shape of the text vectors that are stored with the weights in ``path``."""
    try:
        with safe_open(path, framework="pt") as file:
            return torch.zeros(file.get_slice("vectors").get_shape())
    except SafetensorError as error:
        raise RunError(f"{path} holds no text vectors ({error}); train again with --force") from error


def build_transformer(config: Config, data: PreparedData, vectors: Tensor | None = None) -> Transformer:
    """Return the published architecture for ``data``, on frozen ``vectors`` (V, D) where the kind is bert.

    Raises:
        ConfigError: ``num_embeds``, ``hidden_size`` or ``num_heads`` does not fit; the message says what does.
    """
    chosen, n_tokens = config.seed_model, data.n_items + N_SPECIAL
    if chosen.num_embeds not in (None, n_tokens):
        raise ConfigError(
            f"seed_model.num_embeds is {chosen.num_embeds}, but {data.folder} holds {data.n_items} items and there are "
            f"{N_SPECIAL} special tokens; set num_embeds: {n_tokens}, or leave it out"
        )
    width = (chosen.hidden_size or _ID_WIDTH) if vectors is None else vectors.shape[1]
    if chosen.hidden_size not in (None, width):
        raise ConfigError(
            f"seed_model.hidden_size is {chosen.hidden_size}, but the text vectors of {data.folder} are {width} wide; "
            f"set hidden_size: {width}, or leave it out"
        )
    if width % chosen.num_heads:
        raise ConfigError(
            f"seed_model.num_heads is {chosen.num_heads}, which does not divide the width {width}; "
            f"set num_heads: {np.gcd(width, 8)}, for example"
        )
    return Transformer(
        n_tokens,
        width,
        num_heads=chosen.num_heads,
        num_layers=chosen.num_layers,
        dropout=chosen.dropout,
        vectors=vectors,
    )

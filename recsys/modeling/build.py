"""What a configuration trains: the only place that knows all categories of training."""

import pytorch_lightning as pl
import torch

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.evaluation.splits import make_split
from recsys.modeling.original.embeddings import embeddings_folder, load_embeddings
from recsys.modeling.original.module import OriginalModule, build_original_module
from recsys.modeling.original.recommender import build_transformer
from recsys.modeling.original.text_transformer import TextTransformer
from recsys.modeling.original.text_vectors import build_text_transformer
from recsys.modeling.training.build import _make_repeatable, _purchase_module
from recsys.modeling.training.module import PurchaseModule

Module = PurchaseModule | OriginalModule | TextTransformer


def build_module(config: Config, data: Purchases) -> Module:
    """Return a fresh module, seeded, over the training part of ``data``.

    Raises:
        ConfigError: the configuration does not fit the data.
        DataError: the data are too short for the split, or what the model reads beside them is missing.
    """
    pl.seed_everything(config.seed, verbose=False)
    _make_repeatable()
    if config.text_model.objective is not None:
        return build_text_transformer(config, data)
    split = make_split(data, config.split)
    if config.original.kind is None:
        return _purchase_module(config, data, split)
    vectors = None
    if config.original.kind == "bert":
        vectors = torch.from_numpy(load_embeddings(embeddings_folder(config), data))
    return build_original_module(config, data, split, build_transformer(config, data, vectors))

"""Vectors of all items, out of a run or of the data: what the item map is drawn from."""

from typing import Literal

import numpy as np
import pytorch_lightning as pl

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.modeling.load import load_decoder
from recsys.modeling.original.embeddings import embeddings_folder, load_embeddings
from recsys.modeling.original.recommender import load_transformer
from recsys.modeling.original.text_vectors import (
    build_text_transformer,
    encode_texts,
    run_text_vectors,
    tokenised_items,
)
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.runs import Run

Embeddings = Literal["text", "bert", "items"]


def item_vectors(kind: Embeddings, found: Run, data: Purchases, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1; of all n_items without ``rows``.

    Args:
        kind: text, by the text transformer that the run fitted; bert, the stored text vectors that the run's
            configuration means; items, those by which the run's decoder scores items.
        found: the run.
        data: its prepared data.
        rows: (R,) the items asked for.

    Raises:
        RunError: the run fitted no such model.
        DataError: the stored text vectors are missing, or do not cover the items.
    """
    is_text = found.config.text_model.objective is not None
    asked = slice(None) if rows is None else rows
    if kind == "bert":
        stored: np.ndarray = load_embeddings(embeddings_folder(found.config), data)[1 : data.n_items + 1][asked]
        return stored
    if kind == "text" and not is_text:
        raise RunError(
            f"{found.folder} holds a decoder, which does not read texts; name a run of the text transformer "
            "(`recsys train --config configs/text.yaml`), or take --embeddings items"
        )
    if kind == "items" and is_text:
        raise RunError(f"{found.folder} holds a text transformer, which has no decoder; take --embeddings text")
    if kind == "items":
        own: np.ndarray = _decoder_items(found, data)[asked]
        return own
    return run_text_vectors(found, data, rows)


def untrained_text_vectors(config: Config, data: Purchases, rows: np.ndarray) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1 by a text transformer that has learned nothing yet.

    Raises:
        ConfigError: there is no tokenizer.
        DataError: the items have no texts.
    """
    pl.seed_everything(config.seed, verbose=False)
    model = build_text_transformer(config, data)
    texts, text_of_item = tokenised_items(config, data)
    used, place = np.unique(text_of_item[rows], return_inverse=True)
    vectors: np.ndarray = encode_texts(model, texts.take(used))[place]
    return vectors


def _decoder_items(found: Run, data: Purchases) -> np.ndarray:
    """Return what a decoder's query is multiplied by; the original ones have other vectors at their input."""
    if found.config.original.kind is None:
        decoder = load_decoder(found, data)
        if not isinstance(decoder, DecoderRecommender):
            raise TypeError(f"expected our own decoder, found {type(decoder).__name__}")
        weight = decoder.model.item_vectors_VD
    else:
        weight = load_transformer(found, data).fc_out.weight
    vectors: np.ndarray = weight[1 : data.n_items + 1].detach().float().cpu().numpy()
    return vectors

"""Vectors of all items, out of a run or of the data: what the item map is drawn from."""

from typing import Literal

import numpy as np
import pytorch_lightning as pl

from recsys.config import Config
from recsys.embeddings import embeddings_folder, load_embeddings
from recsys.errors import RunError
from recsys.modeling.checkpoint import load_weights
from recsys.modeling.factory import build_text_transformer, load_decoder, load_transformer, tokenised_items
from recsys.modeling.recommend import DecoderRecommender
from recsys.modeling.text_model import TextTransformer, text_vectors
from recsys.prepared import PreparedData
from recsys.runs import WEIGHTS_FILE, Run

Embeddings = Literal["text", "bert", "items"]


def item_vectors(kind: Embeddings, found: Run, data: PreparedData) -> np.ndarray:
    """Return the vector (n_items, D) float32 of each item; row i is item_index i+1.

    Args:
        kind: text, by the text transformer that the run fitted; bert, the stored text vectors that the run's
            configuration means; items, those by which the run's decoder scores items.
        found: the run.
        data: its prepared data.

    Raises:
        RunError: the run fitted no such model.
        DataError: the stored text vectors are missing, or do not cover the items.
    """
    is_text = found.config.text_model.objective is not None
    if kind == "bert":
        return load_embeddings(embeddings_folder(found.config), data)[1 : data.n_items + 1]
    if kind == "text" and not is_text:
        raise RunError(
            f"{found.folder} holds a decoder, which does not read texts; name a run of the text transformer "
            "(`recsys train --config configs/text.yaml`), or take --embeddings items"
        )
    if kind == "items" and is_text:
        raise RunError(f"{found.folder} holds a text transformer, which has no decoder; take --embeddings text")
    if kind == "items":
        return _decoder_items(found, data)
    return _read_texts(_load_text(found), found.config, data, np.arange(data.n_items))


def untrained_text_vectors(config: Config, data: PreparedData, rows: np.ndarray) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1 by a text transformer that has learned nothing yet.

    Raises:
        ConfigError: there is no tokenizer.
        DataError: the items have no texts.
    """
    pl.seed_everything(config.seed, verbose=False)
    return _read_texts(build_text_transformer(config, data), config, data, rows)


def _load_text(found: Run) -> TextTransformer:
    vocabulary_size = _vocabulary_size(found)
    model = TextTransformer(found.config, vocabulary_size=vocabulary_size)
    load_weights(model, found.folder / WEIGHTS_FILE)
    return model


def _vocabulary_size(found: Run) -> int:
    from safetensors import SafetensorError, safe_open

    path = found.folder / WEIGHTS_FILE
    try:
        with safe_open(path, framework="np") as file:
            return int(file.get_slice("item_embeddings.weight").get_shape()[0])
    except SafetensorError as error:
        raise RunError(f"{path} holds no text transformer ({error}); train again with --force") from error


def _read_texts(model: TextTransformer, config: Config, data: PreparedData, rows: np.ndarray) -> np.ndarray:
    texts, text_of_item = tokenised_items(config, data)
    used, place = np.unique(text_of_item[rows], return_inverse=True)
    vectors: np.ndarray = text_vectors(model, texts.take(used))[place]
    return vectors


def _decoder_items(found: Run, data: PreparedData) -> np.ndarray:
    """Return what a decoder's query is multiplied by; the published ones have other vectors at their input."""
    if found.config.seed_model.kind is None:
        decoder = load_decoder(found, data)
        if not isinstance(decoder, DecoderRecommender):
            raise TypeError(f"expected our own decoder, found {type(decoder).__name__}")
        weight = decoder.model.item_vectors_VD
    else:
        weight = load_transformer(found, data).fc_out.weight
    vectors: np.ndarray = weight[1 : data.n_items + 1].detach().float().cpu().numpy()
    return vectors

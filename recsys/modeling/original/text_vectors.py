"""What a text transformer says of every text, made once and kept in its run's folder."""

import hashlib
import json

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys.config import Config
from recsys.console import progress
from recsys.data.purchases import Purchases
from recsys.errors import DataError, RunError
from recsys.modeling.decoder.weights import load_weights
from recsys.modeling.original.embeddings import item_texts
from recsys.modeling.original.encoder import packaged_model
from recsys.modeling.original.text_batches import Texts, load_tokenizer, tokenise
from recsys.modeling.original.text_transformer import TextTransformer, text_vectors
from recsys.runs import TEXT_VECTORS_FILE, WEIGHTS_FILE, Run
from recsys.storage import file_hash, replacing

_TENSOR, _MARK = "vectors", "made_from"
#: Raised whenever the same weights and texts would give other vectors.
_MAKING = 1


def run_text_vectors(found: Run, data: Purchases, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1, or of all, by the text transformer of a run.

    Vectors of all texts are kept beside the weights, and read from there as long as weights, texts and tokens are those
    that they were made from. For some ``rows`` whose vectors are not there, only their texts are read; nothing is kept.

    Raises:
        RunError: the run's weights are no text transformer's.
        RecsysError: the vectors cannot be written.
    """
    texts, text_of_item = tokenised_items(found.config, data)
    mark = _mark(found, texts)
    vectors = _kept(found, mark, len(texts))
    if vectors is None and rows is not None:
        used, place = np.unique(text_of_item[rows], return_inverse=True)
        some: np.ndarray = encode_texts(load_text_transformer(found), texts.take(used))[place]
        return some
    if vectors is None:
        vectors = encode_texts(load_text_transformer(found), texts)
        with replacing(found.folder / TEXT_VECTORS_FILE) as aside:
            save_file({_TENSOR: vectors}, aside, metadata={_MARK: mark})
    result: np.ndarray = vectors[text_of_item if rows is None else text_of_item[rows]]
    return result


def encode_texts(model: TextTransformer, texts: Texts) -> np.ndarray:
    """Return the vector (n, D) float32 of each text, while a bar says how far it is."""
    with progress() as bar:
        task = bar.add_task("texts", total=len(texts))
        return text_vectors(model, texts, lambda n_read: bar.advance(task, n_read))


def load_text_transformer(found: Run) -> TextTransformer:
    """Return the text transformer that a run fitted.

    Raises:
        RunError: the run's weights are no text transformer's.
    """
    path = found.folder / WEIGHTS_FILE
    try:
        with safe_open(path, framework="np") as file:
            vocabulary_size = int(file.get_slice("item_embeddings.weight").get_shape()[0])
    except SafetensorError as error:
        raise RunError(f"{path} holds no text transformer ({error}); train again with --force") from error
    model = TextTransformer(found.config, vocabulary_size=vocabulary_size)
    load_weights(model, path)
    return model


def _mark(found: Run, texts: Texts) -> str:
    """Return a hash of all that decides the vectors: weights, shape of the model, tokens of the distinct texts."""
    digest = hashlib.sha256()
    settings = found.config.text_model.model_dump(mode="json")
    digest.update(json.dumps([_MAKING, file_hash(found.folder / WEIGHTS_FILE), settings], sort_keys=True).encode())
    for array in (texts.token, texts.offsets, texts.special):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _kept(found: Run, mark: str, n_texts: int) -> np.ndarray | None:
    """Return the vectors (n, D) in the run's folder; None where there are none, or they were made from other things."""
    path = found.folder / TEXT_VECTORS_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            fresh = (file.metadata() or {}).get(_MARK) == mark
            vectors: np.ndarray | None = file.get_tensor(_TENSOR) if fresh else None
    except SafetensorError:  # cut short or no such file: made anew
        return None
    return vectors if vectors is not None and len(vectors) == n_texts else None


def build_text_transformer(config: Config, data: Purchases) -> TextTransformer:
    """Return a fresh text transformer over the distinct texts of the items.

    Raises:
        ConfigError: there is no tokenizer.
        DataError: the items have no text, or only one.
    """
    texts, _ = tokenised_items(config, data)
    if len(texts) < 2:
        raise DataError(f"{data.folder}: found {len(texts)} distinct item texts, expected at least 2 to learn from")
    return TextTransformer(config, texts, texts.vocabulary_size)


def tokenised_items(config: Config, data: Purchases) -> tuple[Texts, np.ndarray]:
    """Return the distinct texts of the items as tokens, and the row (n_items,) among them of each item's text."""
    distinct, row = np.unique(np.array(item_texts(data.items, config.text.columns)), return_inverse=True)
    tokenizer = load_tokenizer(config.text_model.tokenizer or packaged_model())
    return tokenise(distinct.tolist(), tokenizer), row

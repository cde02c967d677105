"""What a text transformer says of every text, made once and kept in its run's folder."""

import hashlib
import json

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys.console import progress
from recsys.errors import RunError
from recsys.modeling.factory import tokenised_items
from recsys.modeling.text_batches import Texts
from recsys.modeling.text_model import TextTransformer, text_vectors
from recsys.modeling.weights import load_weights
from recsys.prepared import PreparedData
from recsys.runs import TEXT_VECTORS_FILE, WEIGHTS_FILE, Run
from recsys.storage import file_hash, replacing

_TENSOR, _MARK = "vectors", "made_from"
#: Raised whenever the same weights and texts would give other vectors.
_MAKING = 1


def run_text_vectors(found: Run, data: PreparedData, rows: np.ndarray | None = None) -> np.ndarray:
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
        some: np.ndarray = told_vectors(load_text_transformer(found), texts.take(used))[place]
        return some
    if vectors is None:
        vectors = told_vectors(load_text_transformer(found), texts)
        with replacing(found.folder / TEXT_VECTORS_FILE) as aside:
            save_file({_TENSOR: vectors}, aside, metadata={_MARK: mark})
    result: np.ndarray = vectors[text_of_item if rows is None else text_of_item[rows]]
    return result


def told_vectors(model: TextTransformer, texts: Texts) -> np.ndarray:
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

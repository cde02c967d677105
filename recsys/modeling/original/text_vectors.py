"""What a text transformer says of every text, made once and kept in its run's folder."""

import hashlib
import json
from collections.abc import Callable

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.errors import DataError
from recsys.modeling.decoder.weights import load_weights
from recsys.modeling.original.embeddings import item_texts
from recsys.modeling.original.encoder import packaged_model
from recsys.modeling.original.recommender import tensor_shape
from recsys.modeling.original.text_batches import Texts, load_tokenizer, tokenise
from recsys.modeling.original.text_transformer import TextTransformer, text_vectors
from recsys.runs import TEXT_VECTORS_FILE, WEIGHTS_FILE, Run
from recsys.storage import file_hash, replacing

_TENSOR, _MARK = "vectors", "made_from"
#: Raised whenever the same weights and texts would give other vectors.
_MAKING = 1


def run_text_vectors(
    run: Run,
    data: Purchases,
    rows: np.ndarray | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1, or of all, by the text transformer of a run.

    Vectors of all texts are kept beside the weights, and read from there as long as weights, texts and tokens are those
    that they were made from. For some ``rows`` whose vectors are not there, only their texts are read; nothing is kept.

    Raises:
        RunError: the run's weights are no text transformer's.
        RecsysError: the vectors cannot be written.
    """
    texts, text_of_item = tokenised_items(run.config, data)
    mark = _mark(run, texts)
    vectors = _kept(run, mark, len(texts))
    wanted = text_of_item if rows is None else text_of_item[rows]
    if vectors is None and rows is not None:
        used, wanted = np.unique(wanted, return_inverse=True)
        vectors = text_vectors(load_text_transformer(run), texts.take(used), advance)
    elif vectors is None:
        vectors = text_vectors(load_text_transformer(run), texts, advance)
        with replacing(run.folder / TEXT_VECTORS_FILE) as aside:
            save_file({_TENSOR: vectors}, aside, metadata={_MARK: mark})
    result: np.ndarray = vectors[wanted]
    return result


def load_text_transformer(run: Run) -> TextTransformer:
    """Return the text transformer that a run fitted.

    Raises:
        RunError: the run's weights are no text transformer's.
    """
    path = run.folder / WEIGHTS_FILE
    vocabulary_size = tensor_shape(path, "item_embeddings.weight", "text transformer")[0]
    model = TextTransformer(run.config, vocabulary_size=vocabulary_size)
    load_weights(model, path)
    return model


def _mark(run: Run, texts: Texts) -> str:
    """Return a hash of all that decides the vectors: weights, shape of the model, tokens of the distinct texts."""
    digest = hashlib.sha256()
    settings = run.config.text_model.model_dump(mode="json")
    digest.update(json.dumps([_MAKING, file_hash(run.folder / WEIGHTS_FILE), settings], sort_keys=True).encode())
    for array in (texts.token, texts.offsets, texts.special):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _kept(run: Run, mark: str, n_texts: int) -> np.ndarray | None:
    """Return the vectors (n, D) in the run's folder; None where there are none, or they were made from other things."""
    try:
        with safe_open(run.folder / TEXT_VECTORS_FILE, framework="np") as file:
            if (file.metadata() or {}).get(_MARK) != mark:
                return None
            vectors: np.ndarray = file.get_tensor(_TENSOR)
    except (OSError, SafetensorError):  # cut short, or none: made anew
        return None
    return vectors if len(vectors) == n_texts else None


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

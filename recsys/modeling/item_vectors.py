"""Vectors of all items, out of a run or of the data: what the item map is drawn from, and what is alike."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.modeling.families import family_of, load_purchase_decoder
from recsys.modeling.original.embeddings import embeddings_folder, load_embeddings
from recsys.modeling.original.recommender import load_transformer
from recsys.modeling.original.text_transformer import TextTransformer, run_text_vectors, text_vectors
from recsys.modeling.original.texts import tokenised_items
from recsys.runs import Run

#: text: by the text transformer that the run fitted; bert: the stored text vectors that the run's configuration means;
#: items: those by which the run's decoder scores items.
Embeddings = Literal["text", "bert", "items"]


def item_vectors(
    embeddings: Embeddings,
    run: Run,
    log: Purchases,
    rows: np.ndarray | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1 of a run's data ``log``; of all without ``rows``.

    ``advance`` is called with how many texts were read, and of how many.

    Raises:
        RunError: the run fitted no such model.
        DataError: the stored text vectors are missing, or do not cover the items.
    """
    if embeddings == "bert":
        stored: np.ndarray = load_embeddings(embeddings_folder(run.config), log)[1 : log.n_items + 1]
        return stored if rows is None else stored[rows]
    family = family_of(run.config)
    if embeddings == "text":
        if family.name != "text":
            raise RunError(
                f"{run.folder} holds {family.title}, which does not read texts; name a run of the text transformer "
                "(`recsys train --config configs/text.yaml`), or take --embeddings items"
            )
        return run_text_vectors(run, log, rows, advance)
    if family.load is None:
        raise RunError(f"{run.folder} holds {family.title}, which has no decoder; take --embeddings text")
    with torch.inference_mode():
        if family.name == "decoder":
            weight_VD = load_purchase_decoder(run, log).model.item_vectors()
        else:  # what the state is multiplied by: at its input the original has other vectors
            weight_VD = load_transformer(run, log).fc_out.weight
    vectors: np.ndarray = weight_VD[1 : log.n_items + 1].detach().float().cpu().numpy()
    return vectors if rows is None else vectors[rows]


def untrained_text_vectors(
    config: Config, log: Purchases, rows: np.ndarray, advance: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1 by a text transformer that has learned nothing yet.

    Raises:
        ConfigError: there is no tokenizer.
        DataError: the items have no texts.
    """
    texts, text_of_item = tokenised_items(config, log)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = TextTransformer(config.text_model, texts.vocabulary_size)
    used, place = np.unique(text_of_item[rows], return_inverse=True)
    vectors: np.ndarray = text_vectors(model, texts.take(used), advance)[place]
    return vectors

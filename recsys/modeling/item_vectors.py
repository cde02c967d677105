"""Vectors of all items, out of a run or of the data: what the item map is drawn from, and what is alike."""

import numpy as np
import torch

from recsys.console import Advance, unheard
from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.lists import TITLES, load_decoder
from recsys.modeling.original.embeddings import embeddings_folder, load_embeddings
from recsys.modeling.original.text_transformer import run_text_vectors, untrained_text_vectors
from recsys.runs import Run, Vectors


def item_vectors(
    embeddings: Vectors, run: Run, log: Purchases, rows: np.ndarray | None = None, advance: Advance = unheard
) -> np.ndarray:
    """Return the vector (R, D) float32 of each item ``rows`` + 1 of a run's data ``log``; of all without ``rows``."""
    family = run.config.family
    if embeddings == "text" and family != "text":
        raise RunError(
            f"{run.folder} holds {TITLES[family]}, which does not read texts; name a run of the text transformer "
            "(`recsys train --config configs/text.yaml`), or take --embeddings items"
        )
    if embeddings == "items" and family == "text":
        raise RunError(f"{run.folder} holds {TITLES[family]}, which has no decoder; take --embeddings text")
    if embeddings == "text":
        return run_text_vectors(run, log, rows, advance)
    if embeddings == "untrained":
        return untrained_text_vectors(run.config, log, rows, advance)
    vectors: np.ndarray
    if embeddings == "bert":
        vectors = load_embeddings(embeddings_folder(run.config), log)
    else:
        model = load_decoder(run, log).model
        with torch.inference_mode():
            # Of an original what the state is multiplied by: at its input it has other vectors.
            weight_VD = model.item_vectors() if isinstance(model, PurchaseModel) else model.fc_out.weight
        vectors = weight_VD.detach().float().cpu().numpy()
    vectors = vectors[1 : log.n_items + 1]
    return vectors if rows is None else vectors[rows]

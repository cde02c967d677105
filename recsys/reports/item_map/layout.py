"""Vectors of items → points on a plane and in space, by t-SNE; kept as a table, since it takes minutes.

Distances between far groups, and sizes of groups, say nothing. (van der Maaten and Hinton, 2008, Visualizing data
using t-SNE; openTSNE: Poličar et al., 2024.)
"""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.decomposition import PCA

from recsys import schema
from recsys.errors import DataError, UsageError
from recsys.storage import replacing

try:
    from openTSNE import TSNE, TSNEEmbedding
except ModuleNotFoundError:  # it is in the extra `text`
    TSNE = None

#: Fewer items have no neighbourhoods to speak of.
MIN_ITEMS = 50
#: Items whose points in space are found by t-SNE; the others stand at the median of their neighbours among these. In
#: three dimensions openTSNE has only the tree, whose cost for a whole catalogue would be an hour.
SPACE_ITEMS = 6_000
_PERPLEXITY = 30
_COMPONENTS = 50
_ITERATIONS = (250, 500)
_SHOWN_EVERY = 10
_COLUMNS = ("x", "y", "x3", "y3", "z3")
_FINGERPRINT = b"recsys.vectors"
#: Called with the name of a map, and how many iterations of how many are done.
Advance = Callable[[str, int, int], object]


class Layout(NamedTuple):
    """Points of all items, in the order of the items."""

    plane: np.ndarray  # (N, 2) float32
    space: np.ndarray  # (N, 3) float32

    def columns(self) -> dict[str, np.ndarray]:
        """Return its coordinates by name (N,)."""
        return dict(zip(_COLUMNS, [*self.plane.T, *self.space.T], strict=True))


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return ``vectors`` (N, D) less their mean, scaled to length 1, float32: their distance is then that of angles.

    The mean says nothing of an item, and in a transformer's states it is most of the length.
    """
    if not np.isfinite(vectors).all():
        raise DataError("the item vectors hold values that are not finite; train the run again with --force")
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return (centred / np.where(length > 0, length, 1)).astype(np.float32)


def compute_layout(points: np.ndarray, seed: int, advance: Advance = lambda *_: None) -> Layout:
    """Return the map of ``points`` (N, D), equal for an equal seed, machine and number of threads."""
    few = np.sort(np.random.default_rng(seed).permutation(len(points))[:SPACE_ITEMS])
    points = _reduced(points, seed)
    on_plane = plane(points, seed, advance=advance)
    found = _embed(points[few], 3, seed, partial(advance, "map in space"))
    space = np.zeros((len(points), 3), dtype=np.float32)
    space[few] = found
    rest = np.setdiff1d(np.arange(len(points)), few)
    if len(rest):
        space[rest] = found.prepare_partial(points[rest], initialization="median", k=10, perplexity=5)
    return Layout(on_plane, space)


def plane(points: np.ndarray, seed: int, name: str = "map", advance: Advance = lambda *_: None) -> np.ndarray:
    """Return the place (N, 2) float32 of each of ``points`` (N, D) on a map."""
    return np.asarray(_embed(_reduced(points, seed), 2, seed, partial(advance, name)), dtype=np.float32)


def _embed(points: np.ndarray, n_components: int, seed: int, advance: Callable[[int, int], object]) -> "TSNEEmbedding":
    """Return the places (N, ``n_components``) of ``points`` (N, D), an array that can place more points."""
    if TSNE is None:
        raise UsageError("a map needs openTSNE; run `pip install 'recsys[text]'`")
    if len(points) < MIN_ITEMS:
        raise DataError(f"found {len(points)} items, expected at least {MIN_ITEMS} for a map")
    calls = count(1)  # iterations begin anew after the first phase
    tsne = TSNE(
        n_components=n_components,
        perplexity=min(_PERPLEXITY, (len(points) - 1) / 3),
        early_exaggeration_iter=_ITERATIONS[0],
        n_iter=_ITERATIONS[1],
        negative_gradient_method="auto" if n_components == 2 else "bh",
        n_jobs=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        random_state=seed,
        callbacks=lambda iteration, error, embedding: advance(next(calls) * _SHOWN_EVERY, sum(_ITERATIONS)),
        callbacks_every_iters=_SHOWN_EVERY,
    )
    return tsne.fit(points)


def _reduced(points: np.ndarray, seed: int) -> np.ndarray:
    """Return the principal components of ``points`` at most 50 wide: neighbours are found in a fraction of the time."""
    if points.shape[1] <= _COMPONENTS:
        return points
    return PCA(min(_COMPONENTS, len(points)), random_state=seed).fit_transform(points)


def kept_layout(
    path: Path, points: np.ndarray, item_ids: pa.Array, seed: int, advance: Advance = lambda *_: None
) -> Layout:
    """Return the map in ``path`` where it was made from the same ``points`` (N, D); else compute and write it."""
    made_from = hashlib.sha256(np.ascontiguousarray(points).tobytes() + str((points.shape, seed)).encode()).hexdigest()
    if path.is_file():
        table = pq.read_table(path)
        if (table.schema.metadata or {}).get(_FINGERPRINT) == made_from.encode():
            return Layout(*np.split(np.stack([table[name].to_numpy() for name in _COLUMNS], axis=1), [2], axis=1))
    layout = compute_layout(points, seed, advance)
    table = pa.table({schema.ITEM_ID: item_ids, **layout.columns()})
    with replacing(path) as aside:
        pq.write_table(table.replace_schema_metadata({_FINGERPRINT: made_from.encode()}), aside)
    return layout

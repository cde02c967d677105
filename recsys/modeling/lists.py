"""Lists of any system of a run: for everybody at a day, or for the test folds. It loads no Lightning, which is slow."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.console import Advance, progress, talk, unheard
from recsys.data.purchases import Histories, Purchases
from recsys.errors import RunError
from recsys.evaluation.splits import Fold
from recsys.evaluation.tables import MADE_BY, RECOMMENDATIONS_SCHEMA, list_rows
from recsys.modeling.original.recommender import OriginalRecommender, load_transformer
from recsys.modeling.recommenders.base import Candidates, Recommender, candidates_at
from recsys.modeling.recommenders.decoder import DecoderRecommender, WithColdStart, load_purchase_decoder, snapshots_of
from recsys.modeling.recommenders.registry import systems_of
from recsys.modeling.recommenders.rules.popularity import WEEK_DAYS, Popularity
from recsys.modeling.rule_system import fit_rule
from recsys.runs import Run
from recsys.schema import DECODER, RANK
from recsys.storage import code_version, replacing

#: What messages call a ``Config.family``.
TITLES: Final = {"decoder": "our decoder", "original": "an original decoder", "text": "a text transformer"}
#: Users whose lists are made, and written, at a time.
CHUNK_USERS = 16_384


def fit_system(name: str, run: Run, config: Config, known: Histories) -> Recommender:
    """Return the system called ``name``, ready to be asked at the day of ``known``, the histories of everybody."""
    if name != DECODER:
        return fit_rule(name, config, known)
    return with_cold_start(load_decoder(run, known), config, known)


def load_decoder(run: Run, known: Purchases | Histories) -> DecoderRecommender | OriginalRecommender:
    """Return the decoder of a run as a system for lists and continuations; a RunError where it is none.

    Of the histories of everybody its transitions are counted anew; over a log they are those of the training part.
    """
    config, log = run.config, known.log if isinstance(known, Histories) else known
    if config.family == "text":
        raise RunError(
            f"{run.folder} holds {TITLES['text']}, which knows no customers and recommends nothing; "
            f"draw its map with `recsys plots map --run {run.name} --embeddings text`, or name a run of a decoder"
        )
    if config.family == "original":
        return OriginalRecommender(load_transformer(run, log), config.original.seq_max_len)
    decoder = load_purchase_decoder(run, snapshots_of(config, log))
    return decoder.renewed(known) if isinstance(known, Histories) else decoder


def with_cold_start(decoder: Recommender, config: Config, known: Histories) -> WithColdStart:
    """Return a decoder that gives users of whom it knows nothing what most of their segment bought last week."""
    segment = config.predict.segment
    return WithColdStart(decoder, Popularity.fit("cold_start", known, days=WEEK_DAYS, segment=segment, pieces=False))


def write_fold_lists(run: Run, log: Purchases, folds: tuple[Fold, ...], *, keep: bool = False) -> int:
    """Write the lists of all systems for ``folds``, but for those that stand if ``keep``; return how many were written.

    Only users who bought in a fold's window are asked: others have no bearing on the metrics, and no list depends
    on whom else was asked. A bar shows how many are done.
    """
    config, systems = run.config, systems_of(run.config, log)
    if len(systems) <= len(config.baselines.systems):
        talk.print(f"variants are left out: the items have no column {config.baselines.variant_column}")
    wanted = [(fold, name, run.table_path(name, fold.name)) for fold in folds for name in systems]
    wanted = [table for table in wanted if not (keep and table[2].is_file())]
    with progress() as bar:
        task = bar.add_task("systems × folds", total=len(wanted))
        for fold, name, path in wanted:
            bar.update(task, description=f"{fold.name} {name}")
            recommender = fit_system(name, run, config, fold.everybody(log))
            asked = fold.histories(log), config.predict.k, candidates_at(log, fold.start_day, config.predict)
            write_lists(recommender, *asked, path, made_by=run.identity)
            bar.advance(task)
    return len(wanted)


def write_lists(
    recommender: Recommender,
    histories: Histories,
    k: int,
    candidates: Candidates,
    path: Path,
    advance: Advance = unheard,
    made_by: str = "",
    kept: Path | None = None,
) -> int:
    """Write lists to Parquet, chunk by chunk, ``made_by`` a run; return how many users get fewer than ``k``.

    Each chunk is kept in the folder ``kept`` too, and what stands there is not made anew: a killed command goes on.
    """
    n_full, columns = 0, RECOMMENDATIONS_SCHEMA.with_metadata({MADE_BY: made_by} if made_by else None)
    with replacing(path) as aside, pq.ParquetWriter(aside, columns) as writer:
        for begin in range(0, len(histories), CHUNK_USERS):
            some = histories.of(slice(begin, begin + CHUNK_USERS))
            chunk = None if kept is None else kept / f"{begin}.parquet"
            if chunk is not None and chunk.is_file():
                rows = pq.read_table(chunk)
            else:
                lists = recommender.recommend(some, k, candidates)
                rows = list_rows(some, lists.item, lists.score)
                if chunk is not None:
                    with replacing(chunk) as whole:
                        pq.write_table(rows, whole)
            writer.write_table(rows.cast(columns))
            n_full += int(np.count_nonzero(rows[RANK].to_numpy() == k))
            if len(histories) > CHUNK_USERS:  # else it is done at once
                advance(begin + len(some), len(histories))
    return len(histories) - n_full


@contextmanager
def kept_chunks(
    run: Run, config: Config, system: str, histories: Histories, candidates: Candidates, path: Path
) -> Iterator[Path]:
    """Yield the folder where the finished chunks of the lists in ``path`` stand until all are; then remove it.

    Its name tells these lists from any others: the run, the data, who is asked when for what, and the code.
    """
    what = run.identity, histories.log.fingerprint, config.model_dump_json(), system
    name = hashlib.sha256(repr((*what, histories.day, CHUNK_USERS, code_version())).encode())
    for array in (histories.user_index, histories.end, candidates.allowed):
        name.update(array.tobytes())
    folder = path.with_name(f".{path.name}.{name.hexdigest()[:16]}.chunks")
    n_kept = len(list(folder.glob("*.parquet")))
    if n_kept:
        n_chunks = -(-len(histories) // CHUNK_USERS)
        talk.print(f"{n_kept:,} of {n_chunks:,} chunks of these lists stand since an earlier command; going on")
    yield folder
    for each in path.parent.glob(f".{path.name}.*.chunks"):  # also of lists that nobody went on with
        shutil.rmtree(each, ignore_errors=True)

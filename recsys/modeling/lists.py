"""Lists of any system of a run: for everybody at a day, or for the test folds. It loads no Lightning, which is slow."""

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import __version__
from recsys.config import Config
from recsys.console import Advance, progress, talk, unheard
from recsys.data.purchases import Histories, Purchases
from recsys.errors import RunError
from recsys.evaluation.splits import Fold
from recsys.evaluation.tables import MADE_BY, RECOMMENDATIONS_SCHEMA, list_rows
from recsys.modeling.original.recommender import OriginalRecommender, load_transformer
from recsys.modeling.recommenders.base import Candidates, Recommender, candidates_at
from recsys.modeling.recommenders.decoder import DecoderRecommender, WithColdStart, load_purchase_decoder, signals_of
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
    decoder = load_purchase_decoder(run, *signals_of(config, log))
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

    With a folder ``kept`` all chunks are made there first, and what stands there already is not made anew.
    """
    begins = range(0, len(histories), CHUNK_USERS)

    def made(begin: int) -> pa.Table:
        some = histories.of(slice(begin, begin + CHUNK_USERS))
        lists = recommender.recommend(some, k, candidates)
        if len(histories) > CHUNK_USERS:  # else it is done at once
            advance(begin + len(some), len(histories))
        return list_rows(some, lists.item, lists.score)

    if kept is not None:
        for begin in begins:
            if not _is_table(chunk := kept / f"{begin}.parquet"):
                with replacing(chunk) as whole:
                    pq.write_table(made(begin), whole)
    n_full, columns = 0, RECOMMENDATIONS_SCHEMA.with_metadata({MADE_BY: made_by} if made_by else None)
    with replacing(path) as aside, pq.ParquetWriter(aside, columns) as writer:
        for begin in begins:
            rows = made(begin) if kept is None else pq.read_table(kept / f"{begin}.parquet")
            writer.write_table(rows.cast(columns))
            n_full += int(np.count_nonzero(rows[RANK].to_numpy() == k))
    return len(histories) - n_full


def _is_table(path: Path) -> bool:
    """Return whether a Parquet file stands there, whole: after a power cut it may be empty."""
    try:
        return bool(pq.read_metadata(path).num_columns)
    except (pa.ArrowException, OSError):
        return False


def identity_of_lists(run: Run, config: Config, system: str, histories: Histories, candidates: Candidates) -> str:
    """Return what tells lists from any others: run, data, who is asked when and for what, and the code."""
    asked = histories.user_index, histories.end, candidates.allowed
    arrays = hashlib.sha256(b"".join(array.tobytes() for array in asked)).hexdigest()
    code = __version__, code_version(), CHUNK_USERS
    return repr((run.identity, histories.log.manifest, config.model_dump_json(), system, histories.day, arrays, code))

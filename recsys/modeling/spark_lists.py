"""Lists made in the executors of Spark, some customers a task, and written by Spark as a table."""

import os
import tempfile
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from recsys.config import Config
from recsys.data.purchases import Histories
from recsys.errors import RunError
from recsys.evaluation.tables import list_rows
from recsys.modeling.lists import CHUNK_USERS, fit_system, with_cold_start
from recsys.modeling.recommenders.base import Candidates, Recommender
from recsys.modeling.recommenders.decoder import load_purchase_decoder, signals_of
from recsys.runs import SNAPSHOT_FOLDER, Run, find_run
from recsys.schema import DECODER
from recsys.signals.snapshot import Snapshot
from recsys.signals.user_codes import UserCodes
from recsys.spark import Spark, local_place, spark_errors, spark_session
from recsys.storage import replacing

#: The recommendations table: Spark takes rows of these very types, and casts none.
_ROWS: Final = pa.schema(
    [("user_id", pa.string()), ("rank", pa.int32()), ("item_id", pa.string()), ("score", pa.float32())]
)
_ENDS: Final = "end.npy"
_USERS: Final = "users.npy"
_SPARK_ROWS: Final = "user_id string, rank int, item_id string, score float"


class Task(NamedTuple):
    """What a task opens."""

    place: str  # the current folder
    run: str
    identity: str  # of the run's training
    config: str  # JSON, the run's changed as asked
    system: str
    day: int
    counted: str  # a folder: where known histories end, whose are asked, and what the decoder reads of items
    n_users: int  # of a chunk


def write_lists(
    run: Run,
    config: Config,
    system: str,
    everybody: Histories,
    histories: Histories,
    candidates: Candidates,
    path: Path,
    spark: Spark,
    chunk_users: int = CHUNK_USERS,
) -> int:
    """Write lists of ``histories`` to the folder of Parquet (or Delta) files ``path``; return how many fall short."""
    n_tasks, form = -(-len(histories) // chunk_users), "delta" if path.suffix == ".delta" else "parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".recsys-", dir=path.parent) as counted,
        spark_session(spark) as session,
        spark_errors(f"the lists in {path}"),
    ):
        np.save(Path(counted) / _ENDS, everybody.end)
        np.save(Path(counted) / _USERS, histories.user_index)
        if system == DECODER and config.family == "decoder":
            signals_of(config, everybody.log)[0].at(everybody.day).save(Path(counted) / SNAPSHOT_FOLDER)
        opened = os.getcwd(), str(run.folder), run.identity, config.model_dump_json(), system  # noqa: PTH109
        task = Task(*opened, everybody.day, counted, chunk_users)
        make = partial(lists_of_task, task=task, k=config.predict.k, candidates=candidates)
        with replacing(path, "_SUCCESS") as aside:
            chunks = session.range(0, n_tasks, 1, n_tasks)
            chunks.mapInArrow(make, _SPARK_ROWS).write.format(form).save(local_place(aside))
            (aside / "_SUCCESS").touch()  # Delta leaves none
            if path.is_file():  # lists of another engine
                path.unlink()
        written = session.read.format(form).load(local_place(path, to_read=True))
        return len(histories) - int(written.filter(f"rank = {config.predict.k}").count())


def lists_of_task(
    batches: Iterator[pa.RecordBatch], *, task: Task, k: int, candidates: Candidates
) -> Iterator[pa.RecordBatch]:
    """Yield the lists of the chunks of customers that ``batches`` number, rows of the recommendations table."""
    torch.set_num_threads(1)  # Spark runs as many tasks as there are cores
    recommender, histories = _opened(task)
    for chunk in (number for batch in batches for number in batch.column(0).to_pylist()):
        some = histories.of(slice(chunk * task.n_users, (chunk + 1) * task.n_users))
        lists = recommender.recommend(some, k, candidates)
        yield from list_rows(some, lists.item, lists.score).cast(_ROWS).combine_chunks().to_batches()


@lru_cache(maxsize=1)
def _opened(task: Task) -> tuple[Recommender, Histories]:
    """Return the system and the histories that are asked: opened once by a process, which runs many tasks."""
    os.chdir(task.place)
    run, config = find_run(task.run), Config.model_validate_json(task.config)
    if run.identity != task.identity:
        raise RunError(f"{task.run} was trained anew while lists were made; run the command again")
    log, counted = run.open_data(), Path(task.counted)
    ends = np.load(counted / _ENDS, mmap_mode="r")
    everybody = Histories(log, np.arange(log.n_users, dtype=np.int32), ends, task.day)
    histories = everybody.of(np.load(counted / _USERS))
    if not (counted / SNAPSHOT_FOLDER).is_dir():
        return fit_system(task.system, run, config, everybody), histories
    codes = UserCodes.from_users(log.users) if config.model.customer else None
    decoder = load_purchase_decoder(run, Snapshot.open(counted / SNAPSHOT_FOLDER), codes)
    return with_cold_start(decoder.renewed(everybody), config, everybody), histories

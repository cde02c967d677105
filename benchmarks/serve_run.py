"""The run that the benchmark of the service serves, and its bare model part: ``python -m benchmarks.serve_run``.

The bare part is timed in a process of its own, on one thread: the tensors of real histories, made beforehand, go
through the decoder, the item product and the choice of the best. Beside it stands the library, which makes them too.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.process import ROOT, run
from recsys.config import PredictConfig
from recsys.data.synthetic.write import synthesize
from recsys.library import Model, load
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.decoder_system import DecoderSystem
from recsys.modeling.recommenders.base import Candidates, candidates_at
from recsys.signals.queries import query_at

#: Items of a list, and the most requests that the server answers at a time.
K, BATCH = 12, 64
_END, _LATELY_DAYS, _LATELY = date(2020, 9, 22), 30, 0.2
#: Its speed is measured, not its lists.
_CHEAP: Final = ("training.epochs=1", "training.recent_days=7", "training.query_windows=1")


def make_run(folder: Path, n_customers: int, n_articles: int) -> None:
    """Make the run ``hm`` in ``folder``, unless it is there."""
    if (folder / "models/hm/weights.safetensors").is_file():
        return
    raw, config = folder / "raw", ["--config", str(ROOT / "configs/hm.yaml"), "--force"]
    synthesize(raw, n_customers=n_customers, n_articles=n_articles, end=_END, force=True)
    sell_the_rest(raw)
    run(["recsys.dataset", "main", *config, "--raw", str(raw)], folder, "2")
    run(["recsys.modeling.train", *config, *(f"--set={setting}" for setting in _CHEAP)], folder, "2")


def sell_the_rest(raw: Path, seed: int = 42) -> None:
    """Append a purchase of each article that nobody bought: it would not be of the catalogue else.

    As many of these are of the last 30 days as make a fifth of all articles, where that is possible.
    """
    path, rng = raw / "transactions_train.csv", np.random.default_rng(seed)
    sold = pl.read_csv(path, infer_schema=False)
    n_lately = sold.filter(pl.col("t_dat") > str(_END - timedelta(_LATELY_DAYS)))["article_id"].n_unique()
    articles = pl.read_csv(raw / "articles.csv", infer_schema=False)["article_id"]
    unsold = articles.filter(~articles.is_in(sold["article_id"].unique().implode())).shuffle(seed)
    n_lately = int(np.clip(_LATELY * len(articles) - n_lately, 0, len(unsold)))
    ago = np.append(rng.integers(_LATELY_DAYS, size=n_lately), rng.integers(_LATELY_DAYS, 730, len(unsold) - n_lately))
    rest = {
        "t_dat": [str(_END - timedelta(days)) for days in ago.tolist()],
        "customer_id": sold["customer_id"].unique().sort().sample(len(unsold), with_replacement=True, seed=seed),
        "article_id": unsold,
    }
    with path.open("ab") as stream:
        pl.DataFrame(rest).with_columns(price=pl.lit("0.05"), channel=pl.lit("2")).write_csv(
            stream, include_header=False
        )


class Bare:
    """A model, histories drawn at random in batches of ``size``, and their tensors."""

    def __init__(self, model: Model, size: int, n_batches: int) -> None:
        assert isinstance(model.system, DecoderSystem)
        self.decoder, day, rng = model.system.decoder, model.log.last_day + 1, np.random.default_rng(42)
        known, longest = model.log.histories(day), self.decoder.model.config.max_length
        drawn = rng.choice(np.flatnonzero(known.n_events), (n_batches, size))
        self.histories, self.tensors = [known.of(rows) for rows in drawn], []
        for one in self.histories:
            codes, lifts = self.decoder.user_codes, self.decoder.model.reads_lifts
            sequences, queries = query_at(self.decoder.snapshots, one, longest, codes, lifts=lifts)
            self.tensors.append((SequenceTensors.from_arrays(sequences), QueryTensors.from_arrays(queries)))

    def choose(self, item_N: Tensor, batch: int) -> None:
        """Do the model's part of a batch."""
        sequences, queries = self.tensors[batch]
        with self.decoder.asking():
            query_QD = self.decoder.model.read(sequences, queries)
            self.decoder.model.listed_logits(query_QD, queries, item_N).topk(K, dim=-1)

    def recommend(self, candidates: Candidates, batch: int) -> None:
        """Do the library's part of a batch: the tensors too."""
        self.decoder.recommend(self.histories[batch], K, candidates)


def bare_rows(seconds: float) -> list[dict[str, Any]]:
    """Return the rows of the model part and of the library, by candidates and by size of the batches."""
    torch.set_num_threads(1)
    model, rows = load("models/hm"), []
    pools = {"all": PredictConfig(), "on_sale": model.config.predict}
    for (pool, settings), (size, n_batches) in product(pools.items(), ((BATCH, 16), (1, 64))):
        bare, candidates = Bare(model, size, n_batches), candidates_at(model.log, model.log.last_day + 1, settings)
        item_N = torch.from_numpy(np.flatnonzero(candidates.allowed))
        parts = {"bare": partial(bare.choose, item_N), "library": partial(bare.recommend, candidates)}
        for system, part in parts.items():
            times = timed(part, n_batches, seconds)
            row: dict[str, Any] = {"work": f"serve/{pool}/batches of {size}", "system": system}
            row |= {"value": size / np.mean(times), "unit": "requests/s", "items": len(item_N)}
            rows.append(row | {f"p{cut}_ms": 1000 * np.percentile(times, cut) for cut in (50, 99)})
    return rows


def timed(part: Callable[[int], object], n_batches: int, seconds: float) -> list[float]:
    """Return the seconds of each batch, done in turns for so long, once all of them were done before."""
    times: list[float] = []
    for number in range(n_batches):
        part(number)
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        part(len(times) % n_batches)
        times.append(time.perf_counter() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each row")
    arguments = parser.parse_args()
    print(json.dumps(bare_rows(arguments.seconds)))


if __name__ == "__main__":
    main()

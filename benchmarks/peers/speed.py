"""How fast RecTools trains its SASRec on sequences: ``.venv-peers/bin/python benchmarks/peers/speed.py sequences.txt``.

Two blocks of width 128, the newest 200 events of each user, batches of 64 users, float32, as the library trains by
default; the last item of each user is held out to test, the one before to validate. It prints JSON: events, seconds of
the fit alone, and HR@10 of the test items among those not yet seen.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sequences", type=Path, help="text, a line a user: user item item …")
    parser.add_argument("--loss", choices=("full", "sampled"), default="full")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    import pandas as pd
    from pytorch_lightning import Trainer, seed_everything
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel
    from rectools.models.nn.item_net import IdEmbeddingsItemNet

    from benchmarks.peers.models.sequence import keep_freed_memory

    seed_everything(42, verbose=False)
    keep_freed_memory()
    histories = [line.split()[1:] for line in arguments.sequences.read_text(encoding="utf-8").splitlines()]

    def dataset(until: int) -> Dataset:
        kept = [history[:until] for history in histories]
        user = np.repeat(np.arange(len(kept)), [len(history) for history in kept])
        columns = {"user_id": user, "item_id": np.concatenate(kept), "weight": 1.0}
        columns["datetime"] = pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(len(user)), unit="s")
        return Dataset.construct(pd.DataFrame(columns))

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=arguments.epochs,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = SASRecModel(
        n_blocks=2,
        n_heads=2,
        n_factors=128,
        dropout_rate=0.1,
        session_max_len=200,
        loss="softmax" if arguments.loss == "full" else "sampled_softmax",
        n_negatives=1 if arguments.loss == "full" else 256,
        lr=1e-3,
        batch_size=64,
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=trainer,
    )
    began = time.perf_counter()
    model.fit(dataset(-2))
    seconds = time.perf_counter() - began
    n_events = arguments.epochs * sum(min(len(history) - 3, 200) for history in histories)
    users = np.arange(len(histories))
    table = model.recommend(users, dataset(-1), 10, filter_viewed=True)
    last = table["user_id"].map(lambda user: histories[user][-1])
    hits = int((table["item_id"] == last).sum())
    print(json.dumps({"n_events": n_events, "seconds": seconds, "hr@10": hits / len(histories)}))


if __name__ == "__main__":
    main()

"""What longer continuations cost, with keys and values kept and without: ``python -m benchmarks.generation``.

Decoders with initial weights on made-up purchases: what an item costs does not depend on what was learned. The same
customers' eight newest purchases are continued by 16 to 256 items, each the likeliest, and the end is never chosen.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.process import run
from benchmarks.results import machine, write_section
from recsys.config import ModelConfig
from recsys.console import talk
from recsys.data.purchases import Histories, Purchases, open_purchases
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.generation import SamplingConfig
from recsys.modeling.generation.generate import continue_histories
from recsys.modeling.original.batches import N_SPECIAL, end_token, tokens
from recsys.modeling.original.decoder import Transformer
from recsys.modeling.original.recommender import OriginalRecommender
from recsys.modeling.recommenders.base import all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.signals.snapshot import Snapshots
from recsys.storage import code_version

_LENGTHS = (16, 32, 64, 128, 256)
_N_READ = 8
_REPEATS = 3
_GREEDY = SamplingConfig("greedy")


def original_decoder(data: Purchases) -> Transformer:
    """Return the original decoder on ids with initial weights; it never chooses the end of a history."""
    torch.manual_seed(42)
    model = Transformer(data.n_items + N_SPECIAL, 256).eval()
    with torch.no_grad():
        model.fc_out.bias[end_token(data.n_items)] = -1e9
    return model


def own_decoder(data: Purchases, max_length: int) -> DecoderRecommender:
    """Return this project's decoder in its default size, but for the positions it has, with initial weights."""
    torch.manual_seed(42)
    snapshots = Snapshots(data)
    model = PurchaseModel(
        ModelConfig(max_length=max_length), snapshots.codes, has_dates=True, n_promoted=snapshots.n_promoted
    )
    return DecoderRecommender(model.eval(), snapshots)


def kept(decoder: DecoderRecommender | OriginalRecommender, histories: Histories, n_new: int) -> np.ndarray:
    """Return the items (Q, L) by which the command's own loop continues ``histories``."""
    allowed = all_items(histories.log.n_items)
    return continue_histories(decoder, histories, _GREEDY._replace(max_items=n_new), allowed, chunk=len(histories)).item


def anew(model: Transformer, histories: Histories, n_new: int) -> np.ndarray:
    """Return the same items (Q, L) of the original decoder, which reads all before each of them again.

    Each of ``histories`` has eight purchases or more, so that no sequence is padded.
    """
    end, n_items = histories.end, histories.log.n_items
    token_QT = torch.from_numpy(tokens(histories.log, end - _N_READ, end))[:, : _N_READ + 1]
    with torch.inference_mode():
        for _ in range(n_new):
            logits_QV = model.fc_out(model(token_QT)[:, -1])[:, 1 : n_items + 1]
            token_QT = torch.cat([token_QT, 1 + logits_QV.argmax(-1, keepdim=True)], dim=1)
    return token_QT[:, _N_READ + 1 :].numpy()


def processor_seconds(work: Callable[[], np.ndarray], repeats: int) -> float:
    """Return the least processor time of some runs: what else the machine does can only lengthen one."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def _row(histories: Histories, length: int) -> list[float]:
    """Return seconds at a length: the original decoder with keys and values kept, and anew, and our own with them."""
    model = original_decoder(histories.log)
    original = OriginalRecommender(model, _N_READ + length)
    own = own_decoder(histories.log, _N_READ + length)
    return [
        processor_seconds(lambda: kept(original, histories, length), _REPEATS),
        processor_seconds(lambda: anew(model, histories, length), 1),
        processor_seconds(lambda: kept(own, histories, length), _REPEATS),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=4, help="customers continued together")
    n_customers = parser.parse_args().customers
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="bench-generation-") as temporary:
        folder = Path(temporary)
        run(["recsys.dataset", "synthesize", "--customers", "2000", "--out", "raw"], folder, "1")
        source = ["--source", "hm", "--raw", "raw", "--top-k-items", "1000"]
        run(["recsys.dataset", "main", *source], folder, "1")
        data = open_purchases(folder / "data" / "processed" / "hm")
        known = data.histories(data.last_day + 1)
        histories = known.of(np.flatnonzero(known.n_events >= _N_READ)[:n_customers])
        kept(OriginalRecommender(original_decoder(data), _N_READ + 1), histories, 1)  # what is done only once
        table = {length: _row(histories, length) for length in _LENGTHS}
    lines = [
        f"| {length} | "
        + " | ".join(f"{seconds:.2f} | {1000 * seconds / length:.1f}" for seconds in row)
        + f" | {row[1] / row[0]:.1f} |"
        for length, row in table.items()
    ]
    many = f"{threads} thread{'s' if threads > 1 else ''}"
    section = f"""## What longer continuations cost

`python -m benchmarks.generation`: the {_N_READ} newest purchases of {len(histories)} customers continued together, the
likeliest item each time, with initial weights. The original decoder on ids (8 blocks of width 256) over
{data.n_items:,} items, by the loop of `recsys generate`, which keeps keys and values, and by reading everything before
each item anew; and this project's decoder (2 blocks of width 128) by the former. Seconds of processor time, the least
of {_REPEATS} runs (anew: one), {many}, and milliseconds an item. {machine()}; load average
of the last 15 minutes {os.getloadavg()[2]:.1f}; {time.strftime("%Y-%m-%d")}, commit {code_version()}.

| items | original, kept: s | ms an item | anew: s | ms an item | own, kept: s | ms an item | anew ÷ kept |
|---:|---:|---:|---:|---:|---:|---:|---:|
{chr(10).join(lines)}
"""
    write_section("bench-generation", section)
    talk.print(section)


if __name__ == "__main__":
    main()

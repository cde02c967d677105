"""A training loop that runs the decoder and the item product alone: ``python -m benchmarks.bare_loop --set …``.

It learns the next item of the same events in the same batches as ``recsys train`` with the same settings; all batches
are assembled beforehand, and nothing is validated, logged or written. Prints JSON.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from recsys.config import load_config
from recsys.data.purchases import open_purchases
from recsys.evaluation.splits import make_split
from recsys.modeling.build import build_purchase_module, repeatable


def epoch(config_file: Path | None, settings: list[str]) -> dict[str, float]:
    """Return the targets of the next-item loss of an epoch, its seconds, and their ratio."""
    alone = ["training.query_windows=0", "model.components=[sequence]", "training.epochs=1"]
    config = load_config(config_file, [*settings, *alone])
    log = open_purchases(config.data.folder, config.data.prepare_command)
    with repeatable():
        torch.manual_seed(config.seed)
        module = build_purchase_module(config, log, make_split(log, config.split)).train()
        batches = list(module.batches)
        optimizer = torch.optim.AdamW(module.parameters(), config.training.lr, fused=True)
        began = time.perf_counter()
        for batch in batches:
            loss = module.next_item_loss(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        seconds = time.perf_counter() - began
    n_events = module.batches.n_events
    return {"events": n_events, "seconds": seconds, "rate": n_events / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    print(json.dumps(epoch(arguments.config, arguments.settings)))


if __name__ == "__main__":
    main()

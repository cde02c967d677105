"""The yardstick of ``benchmarks.train``: a next-item transformer in as few lines as it takes, with no framework.

``python -m benchmarks.plain_loop sequences.txt --negatives 256`` prints events per second over one epoch (0: full
softmax). Two pre-norm blocks of width 128, sequences cut to the newest 200 events, batches of 64, AdamW.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, LENGTH, BATCH = 128, 200, 64


def read(path: Path) -> tuple[Tensor, int]:
    """Return padded item numbers (users, LENGTH + 1) int64, and the number of rows of the catalogue."""
    numbers: dict[str, int] = {}
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        items = [numbers.setdefault(item, len(numbers) + 1) for item in line.split()[1:]][-LENGTH - 1 :]
        rows.append(items + [0] * (LENGTH + 1 - len(items)))
    return torch.tensor(rows), len(numbers) + 1


def epoch(sequences: Tensor, n_rows: int, n_negatives: int) -> float:
    """Train one epoch and return events per second."""
    items, positions = nn.Embedding(n_rows, WIDTH, padding_idx=0), nn.Embedding(LENGTH, WIDTH)
    nn.init.normal_(items.weight, std=0.02)
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, 0.1, "gelu", batch_first=True, norm_first=True)
    blocks = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    parameters = [*items.parameters(), *positions.parameters(), *blocks.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    began, n_events = time.perf_counter(), 0
    starts = tuple(range(BATCH, len(sequences), BATCH))
    for rows in torch.tensor_split(torch.randperm(len(sequences)), starts):
        inputs, targets = sequences[rows, :-1], sequences[rows, 1:]
        states = blocks(items(inputs) + positions.weight, mask=mask, is_causal=True)[targets > 0]
        target = targets[targets > 0]
        if n_negatives:
            negatives = torch.randint(1, n_rows, (n_negatives,))
            positive = (states * items(target)).sum(-1, keepdim=True)
            logits = torch.cat([positive, states @ items(negatives).T], dim=1)
            loss = functional.cross_entropy(logits, torch.zeros_like(target))
        else:
            loss = functional.cross_entropy(states @ items.weight.T, target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        n_events += len(target)
    return n_events / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--negatives", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"{epoch(*read(arguments.sequences), arguments.negatives):.0f}")


if __name__ == "__main__":
    main()

"""The processes of a training, as torchrun tells each of them; one that stands alone is the first of one."""

import os
from typing import Any, NamedTuple

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed


class World(NamedTuple):
    """This process among all."""

    rank: int  # its number, from 0
    size: int  # how many there are
    on_machine: int  # how many of these on this machine

    @classmethod
    def of_environment(cls) -> "World":
        """Return what the variables say that torchrun sets."""
        rank, size, local = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return cls(int(rank or 0), int(size or 1), int(local or 1))

    def trainer_options(self, *, on_gpu: bool) -> dict[str, Any]:
        """Return what Lightning's trainer must be told of it."""
        if self.size == 1:
            return {"devices": 1}
        # A part of the model that answers a query rests in a process that has none.
        backend = "nccl" if on_gpu else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
        return {"devices": self.on_machine, "num_nodes": self.size // self.on_machine, "strategy": strategy}


def of_all(loss: Tensor, n: int | Tensor) -> tuple[Tensor, int]:
    """Return ``loss``, a mean over ``n``, so that the mean over processes is that over all they have; and how many.

    A process may have none, and then a loss of 0.
    """
    if not distributed.is_initialized():
        return loss, int(n)
    total = torch.as_tensor(n, dtype=torch.float64, device=loss.device).clone()
    distributed.all_reduce(total)
    share = float(n) * distributed.get_world_size() / max(float(total), 1)
    return loss * share if share else loss.nan_to_num() * 0, int(total)  # a mean over nothing is no number

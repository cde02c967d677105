"""The processes of a training, as torchrun tells each of them; one that stands alone is the first of one."""

import os
from typing import NamedTuple


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

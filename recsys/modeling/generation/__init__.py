"""Histories continued item by item, and how; without torch, which takes long to load."""

from typing import Literal, NamedTuple

Method = Literal["greedy", "sample"]


class SamplingConfig(NamedTuple):
    """How many items follow a history at most, and how each is chosen."""

    method: Method = "sample"  # a draw, or the likeliest item
    temperature: float = 1.0  # above 0: logits are divided by it before a draw
    top_k: int | None = None  # draw among this many of the likeliest only
    top_p: float | None = None  # only among the likeliest that add up to this, the one that reaches it included
    no_repeat: bool = False  # an item is not generated twice for a user
    max_items: int = 12
    seed: int = 42  # of the draws

"""The flat form of a configuration: the eight keys of the published system's ``model_config.yaml``.

What such a file does not say is what the published training on ids did.
"""

import copy
import difflib
from collections.abc import Collection
from typing import Any, Final

from recsys.errors import ConfigError

#: Flat key → section and key of ours.
FLAT_KEYS: Final = {
    "lr": ("training", "lr"),
    "epochs": ("training", "epochs"),
    "batch_size": ("seed_model", "batch_size"),
    "seq_max_len": ("seed_model", "seq_max_len"),
    "hidden_size": ("seed_model", "hidden_size"),
    "num_heads": ("seed_model", "num_heads"),
    "num_layers": ("seed_model", "num_layers"),
    "num_embeds": ("seed_model", "num_embeds"),
}

#: What ``configs/seed_id.yaml`` says, for a file that says only the keys above.
PUBLISHED: Final[dict[str, Any]] = {
    "name": "seed_id",
    "data": {"source": "hm", "name": "hm-split", "top_k_items": 1000, "min_history": 2, "max_history": 10},
    "split": {"protocol": "customers"},
    "seed_model": {"kind": "id"},
    "training": {"lr": 1e-4, "epochs": 100, "warmup_fraction": 0.1, "weight_decay": 0.0, "patience": 100},
}


def is_flat(settings: dict[str, Any], sections: Collection[str]) -> bool:
    """Return whether a file is written in the flat form: it has flat keys, and none of the ``sections`` of ours.

    >>> is_flat({"lr": 0.001, "epoch": 3}, ["name", "model"]), is_flat({"name": "mine", "lr": 0.001}, ["name", "model"])
    (True, False)
    """
    return not settings.keys().isdisjoint(FLAT_KEYS) and settings.keys().isdisjoint(sections)


def from_flat(settings: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return flat ``settings`` in sections, over what the published training on ids did.

    >>> from_flat({"hidden_size": 128}, "model_config.yaml")["seed_model"]
    {'kind': 'id', 'hidden_size': 128}

    Raises:
        ConfigError: a key is not one of the flat ones; ``origin`` says where it was written.
    """
    nested = copy.deepcopy(PUBLISHED)
    for key, value in settings.items():
        if key not in FLAT_KEYS:
            close = difflib.get_close_matches(str(key), FLAT_KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"the flat form knows {', '.join(FLAT_KEYS)}"
            raise ConfigError(f"{origin}: unknown key {key}; {hint}")
        section, name = FLAT_KEYS[key]
        nested[section][name] = value
    return nested

"""Recommend what each customer will buy next: the public names, loaded when they are first used.

``import recsys`` loads nothing heavy; ``recsys.fit`` loads what it fits with.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.data.purchases import Purchases
    from recsys.errors import ConfigError, DataError, OutputExistsError, RecsysError, RunError, UsageError
    from recsys.library import Model, evaluate, fit, load
    from recsys.signals.snapshot import Snapshot

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DataError",
    "Model",
    "OutputExistsError",
    "Purchases",
    "RecsysError",
    "RunError",
    "Snapshot",
    "UsageError",
    "__version__",
    "evaluate",
    "fit",
    "load",
]

#: Modules of what is no error.
_HOMES = {
    "Purchases": "recsys.data.purchases",
    "Snapshot": "recsys.signals.snapshot",
    **dict.fromkeys(("Model", "evaluate", "fit", "load"), "recsys.library"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in __all__:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_HOMES.get(name, "recsys.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

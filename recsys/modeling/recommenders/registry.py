"""All rules and classical models by name: NumPy, SciPy and `implicit`, no training loop of ours."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.errors import ConfigError
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders import rules
from recsys.modeling.recommenders.base import Recommender
from recsys.schema import DECODER, in_report_order

#: Fits a system to what is known of everybody at a day. It may choose its settings on the fold, where there is one.
FitFunction = Callable[[Histories, Config, Fold | None], Recommender]


def collect_systems() -> dict[str, FitFunction]:
    """Return what fits each system of ``rules``, by name, in the order in which reports show them."""
    systems: dict[str, FitFunction] = {}
    for module in iter_modules(rules.__path__):
        found = getattr(import_module(f"{rules.__name__}.{module.name}"), "SYSTEMS", {})
        if twice := systems.keys() & found.keys():
            raise ConfigError(f"{module.name}.py holds {', '.join(twice)}, as another file of rules does; rename one")
        systems |= found
    return {name: systems[name] for name in in_report_order(systems)}


def systems_of(config: Config, log: Purchases) -> list[str]:
    """Return the decoder and the configured baselines, which exist; variants only where ``log`` has their column."""
    has_variants = config.baselines.variant_column in log.items.columns
    for name in config.baselines.systems:
        require_baseline(name)
    return [DECODER, *(name for name in config.baselines.systems if name != "variants" or has_variants)]


def require_baseline(name: str) -> None:
    """Refuse a name that no file of ``rules`` holds with a ConfigError."""
    if name not in BASELINES:
        known = ", ".join(BASELINES)
        raise ConfigError(f"there is no system {name!r} among the rules; beside {DECODER} there are {known}")


BASELINES: Final = collect_systems()

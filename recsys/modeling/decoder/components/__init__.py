"""The components of the logit: each file of this folder holds one, and is found by listing the folder."""

from importlib import import_module
from pkgutil import iter_modules

from recsys.errors import ConfigError
from recsys.modeling.decoder.components.base import Component, Sizes

__all__ = ["SEQUENCE", "Component", "Sizes", "chosen_components", "component_classes"]

#: What ``model.components`` calls the transformer: its query times the item's vector. The model itself holds it.
SEQUENCE = "sequence"


def component_classes() -> dict[str, type[Component]]:
    """Return all components by name, in the order in which they stand in the model."""
    classes: list[type[Component]] = []
    for module in iter_modules(__path__):
        if module.name != "base":
            members = vars(import_module(f"{__name__}.{module.name}")).values()
            classes += [
                member
                for member in members
                if isinstance(member, type) and issubclass(member, Component) and member is not Component
            ]
    return {one.name: one for one in sorted(classes, key=lambda one: (one.position, one.name))}


def chosen_components(wanted: tuple[str, ...] | None, sizes: Sizes, *, has_dates: bool) -> list[type[Component]]:
    """Return the components of a model, without the transformer.

    Args:
        wanted: names as ``model.components`` lists them; None takes all that fit.
        sizes: what they are built from.
        has_dates: whether the protocol asks at dates.

    Raises:
        ConfigError: there is no such component, or it does not fit the protocol.
    """
    classes = component_classes()
    fitting = {name: one for name, one in classes.items() if one.needs in ("anything", _needs(has_dates))}
    for name in wanted or ():
        if name not in classes and name != SEQUENCE:
            raise ConfigError(f"model.components names {name!r}; expected some of {', '.join([SEQUENCE, *classes])}")
        if name in classes and name not in fitting:
            why = "looks at a date, which this split.protocol does not have"
            if has_dates:
                why = "counts whole histories, among them the windows that split.protocol weekly asks for"
            raise ConfigError(
                f"model.components names {name!r}, which {why}; expected some of {', '.join([SEQUENCE, *fitting])}"
            )
    return [one for name, one in fitting.items() if (wanted is None or name in wanted) and one.fits(sizes)]


def _needs(has_dates: bool) -> str:
    return "dates" if has_dates else "no_dates"

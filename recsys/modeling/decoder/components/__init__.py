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
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    members = [member for module in modules for member in vars(module).values() if isinstance(member, type)]
    classes = [member for member in members if issubclass(member, Component) and member is not Component]
    return {one.name: one for one in sorted(classes, key=lambda one: (one.position, one.name))}


def chosen_components(wanted: tuple[str, ...] | None, sizes: Sizes, *, has_dates: bool) -> list[type[Component]]:
    """Return the components but the transformer: the ``wanted``, or all that fit; a ConfigError where one does not."""
    classes = component_classes()
    needs = ("anything", "dates" if has_dates else "no_dates")
    fitting = {name: one for name, one in classes.items() if one.needs in needs}
    for name in wanted or ():
        if name not in classes and name != SEQUENCE:
            raise ConfigError(f"model.components names {name!r}; expected some of {', '.join([SEQUENCE, *classes])}")
        if name in classes and name not in fitting:
            of_histories = "counts whole histories, among them the windows that split.protocol weekly asks for"
            why = of_histories if has_dates else "looks at a date, which this split.protocol does not have"
            raise ConfigError(
                f"model.components names {name!r}, which {why}; expected some of {', '.join([SEQUENCE, *fitting])}"
            )
    return [one for name, one in fitting.items() if (wanted is None or name in wanted) and one.fits(sizes)]

"""The sections of a run's report: each file of this folder holds one, ``SECTION``; they are found by listing it."""

from importlib import import_module
from pkgutil import iter_modules

from recsys.reports.sections.base import Section


def all_sections() -> list[Section]:
    """Return all sections in the order of the page."""
    files = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found = [file.SECTION for file in files if hasattr(file, "SECTION")]
    return sorted(found, key=lambda section: (section.position, section.name))

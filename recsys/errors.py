"""The errors this project raises at its borders: each says what was found, what was expected, what to do."""

import difflib
from collections.abc import Iterable


class RecsysError(Exception):
    """Base of all errors a user can cause and mend; the command line prints it as one line and exits with its code."""

    exit_code = 1


class DataError(RecsysError):
    """The input tables cannot be used as they are."""


class RunError(RecsysError):
    """A run folder, its weights or its configuration do not fit together."""


class UsageError(RecsysError):
    """The command was asked for something it cannot mean."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration has an unknown key, a value out of range, or is not a configuration."""


class OutputExistsError(UsageError):
    """The output is already there and ``--force`` was not given."""


def nearest(name: object, known: Iterable[object]) -> str | None:
    """Return which of the ``known`` names is written most like ``name``, whatever the case; None where none is."""
    lower = {str(each).lower(): str(each) for each in known}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    return lower[close[0]] if close else None

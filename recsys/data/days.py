"""Days as whole numbers since 1970-01-01, as all arrays hold them."""

from datetime import date, timedelta

from recsys.errors import ConfigError

EPOCH = date(1970, 1, 1)


def day_number(value: date) -> int:
    """Return the days from 1970-01-01 to ``value``.

    >>> day_number(date(1970, 1, 8))
    7
    """
    return (value - EPOCH).days


def parse_day(text: str | None, default: int, option: str = "--date") -> int:
    """Return the day that ``option`` names, by default ``default``; a ConfigError where it names none."""
    try:
        return default if text is None else day_number(date.fromisoformat(text))
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} is not a date; expected YYYY-MM-DD, such as 2020-09-23") from error


def day_date(day: int) -> date:
    """Return the date that lies ``day`` days after 1970-01-01.

    >>> day_date(7).isoformat()
    '1970-01-08'
    """
    return EPOCH + timedelta(days=int(day))

"""Times written in a shop's own way, as ISO text, by string expressions that never fail on a row.

Narwhals' own parser stops at the first value that does not fit; here such a value stays as it is and is counted as a
bad date later on.
"""

import re

import narwhals as nw

from recsys.sources.column_map import TIME_PARTS


def iso_time(column: str, time_format: str) -> nw.Expr:
    """Return text like ``2010-12-01 08:26:00`` from a text ``column`` written as ``time_format``; else the text itself.

    Numbers may lack leading zeros; a year of two digits is of this century. What the calendar does not have (a 31st of
    June) is not noticed here.
    """
    text = nw.col(column).str.strip_chars()
    pieces = re.split("(%.)", time_format.strip())
    patterns = [TIME_PARTS.get(piece, re.escape(piece)) for piece in pieces]
    part = {
        piece: text.str.replace_all(f"^{''.join(patterns[:place])}", "").str.replace_all(
            f"{''.join(patterns[place + 1 :])}$", ""
        )
        for place, piece in enumerate(pieces)
        if piece in TIME_PARTS
    }
    year = part["%Y"] if "%Y" in part else nw.concat_str(nw.lit("20"), part["%y"])
    joined = [year]
    for piece, mark in (("%m", "-"), ("%d", "-"), ("%H", " "), ("%M", ":"), ("%S", ":")):
        joined += [nw.lit(mark), _two_digits(part[piece]) if piece in part else nw.lit("00")]
    fits = text.str.contains(f"^{''.join(patterns)}$")
    return nw.when(fits).then(nw.concat_str(*joined)).otherwise(text).alias(column)


def _two_digits(text: nw.Expr) -> nw.Expr:
    return nw.concat_str(nw.lit("0"), text).str.tail(2)

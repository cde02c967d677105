"""Times as people and programs write them: found out by evidence, never assumed.

A form is a ``strptime`` format, or one of the words ``seconds``, ``milliseconds`` and ``microseconds``: since 1970;
or ``excel_days``: since 1899-12-30.
Which of two numbers is the day is decided by those above 12, by the order of the rows, by what would lie in the
future, and by a weekday on which nothing is sold; else it is asked.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast

import polars as pl
import yaml

#: What a format may hold; weekdays are English, months of the languages in ``months.yaml``.
DIRECTIVES: Final = tuple(f"%{letter}" for letter in "YymdHMSfIpbBaAzZj")
SINCE_1970: Final = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
#: Days as Excel counts them where it does not know that they are days.
EXCEL_DAYS: Final = "excel_days"
_EXCEL_DAY: Final = r"[23456][0-9]{4}([.,][0-9]{1,15})?"
_EXCEL_BEGIN: Final = datetime(1899, 12, 30)
#: A shop's log has no purchases before it, or after :func:`tomorrow`.
FIRST_TIME: Final = datetime(1980, 1, 1)
_NAMED_MONTHS: Final = [
    (name, month[0][:3].capitalize())
    for month in yaml.safe_load((Path(__file__).parent / "months.yaml").read_text(encoding="utf-8"))
    for name in month
]
#: Names of months, of two that begin alike the longer first, and what they are in English.
_MONTHS: Final = {
    written: english
    for name, english in sorted(_NAMED_MONTHS, key=lambda pair: -len(pair[0]))
    for written in (name, name.capitalize(), name.upper())
}
#: A year of two digits up to this one is of this century.
PIVOT: Final = 68
_PLAIN: Final = {"\u00a0": " ", "\u2007": " ", "\u202f": " ", "年": "-", "月": "-", "日": ""}
_ZONE: Final = r"\s*(Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)$"
_CLOCK: Final = re.compile(
    r"(?P<gap>^|[T ,]+\s*)(?P<hour>[0-9]{1,2})(?P<mark>[:.h])[0-9]{2}(?P<second>[:.][0-9]{2}(?P<part>[.,][0-9]+)?)?"
    r"(?P<half>\s?[AaPp]\.?\s?[Mm]\.?)?(?P<zone>\s*(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?$"
)
_EPOCHS: Final = ((9, 10, "seconds"), (12, 13, "milliseconds"), (15, 16, "microseconds"))
#: Share of neighbouring rows in order by which a file counts as sorted.
_SORTED, _UNSORTED = 0.98, 0.9
_FEW: Final = 20_000
#: So many dates and texts must speak for it that a program has exchanged day and month in the dates.
_EXCHANGED: Final = 3


@dataclass(frozen=True)
class TimeForms:
    """How the times of a column are written."""

    formats: tuple[str, ...]  # a text is read by the first that fits
    evidence: str = ""  # why these, where it was found out
    question: str = ""  # what is open, as one line; empty where nothing is


def time_of(text: pl.Expr, formats: Sequence[str], timezone: str | None = None) -> pl.Expr:
    """Return texts as Datetime in microseconds without a zone, null where none of ``formats``, in this order, fits.

    Times with a zone and those since 1970 are brought to the shop's ``timezone``; without one the clock stays as it is
    written, and times since 1970 are those of UTC.
    """
    text = _plain(text.str.strip_chars()).str.replace(r"(?i)\b([ap])\.\s?m\.?$", "${1}m")
    text = text.str.replace(r"(:[0-9]{2}),([0-9]+)", "${1}.${2}")  # parts of a second behind a comma
    # A year of one or two digits where four are meant is none.
    found = (_one_form(text, form, timezone) for form in formats)
    return pl.coalesce([pl.when(one.dt.year() >= 1000).then(one) for one in found])


def _plain(text: pl.Expr) -> pl.Expr:
    """Return texts with plain spaces and short English names of months, without a point behind them."""
    text = text.str.replace_many(_PLAIN)
    english = text.str.replace_many(_MONTHS, leftmost=True).str.replace(r"([A-Z][a-z]{2})\.", "${1}")
    return pl.when(text.str.contains(r"\p{L}{3}")).then(english).otherwise(text)


def _one_form(text: pl.Expr, form: str, timezone: str | None) -> pl.Expr:
    for found, other in _PLAIN.items():  # as in the text
        form = form.replace(found, other)
    if form in SINCE_1970:
        whole = pl.when(text.str.contains(r"^[0-9]{6,17}([.][0-9]*)?$")).then(text.str.replace(r"[.][0-9]*$", ""))
        utc = (whole.cast(pl.Int64, strict=False) * SINCE_1970[form]).cast(pl.Datetime("us", "UTC"))
        return utc.dt.convert_time_zone(timezone or "UTC").dt.replace_time_zone(None)
    if form == EXCEL_DAYS:
        number = pl.when(text.str.contains(f"^{_EXCEL_DAY}$")).then(text.str.replace(",", ".", literal=True))
        since = (number.cast(pl.Float64, strict=False) * 86_400).round()  # a millionth of a day is what is written
        return pl.lit(_EXCEL_BEGIN, pl.Datetime("us")) + pl.duration(seconds=since.cast(pl.Int64))
    with_zone = re.search(r"(%z|%Z|Z|UTC|GMT)$", form)
    if with_zone is None:
        return _strptime(text, form)
    plain, form = text.str.replace(_ZONE, ""), form[: with_zone.start()].rstrip()
    local = _strptime(plain, form)
    zone = text.str.extract(_ZONE, 1)
    local = pl.when(zone.is_not_null()).then(local)
    if timezone is None:
        return local
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    digits = zone.str.replace_all("[^0-9]", "")
    hours, minutes = (digits.str.slice(at, 2).cast(pl.Int64, strict=False).fill_null(0) for at in (0, 2))
    utc = local - pl.duration(minutes=sign * (60 * hours + minutes))
    return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(timezone).dt.replace_time_zone(None)


def _strptime(text: pl.Expr, form: str) -> pl.Expr:
    read = text.str.strptime(pl.Datetime("us"), _chrono(form), strict=False)
    # Polars reads 69 as 2069.
    late = read.dt.year() > 2000 + PIVOT if "%y" in form else pl.lit(value=False)
    return pl.when(late).then(read.dt.offset_by("-100y")).otherwise(read)


def _chrono(form: str) -> str:
    """Return a format in the words of Polars: full names of months and weekdays there stand for short ones too."""
    form = form.replace(".%f", "%.f").replace(",%f", "%.f").replace("%b", "%B").replace("%a", "%A")
    return form.replace("%B.", "%B")


def find_forms(texts: pl.Series) -> TimeForms:
    """Return how ``texts``, the times of a file in the order of its rows, are written.

    Texts that are no time at all are passed over: how many of them may be is not decided here.
    """
    shown = texts.drop_nulls().str.strip_chars().alias("text").to_frame()
    present = shown.select(_plain(pl.col("text"))).to_series()
    if _are_excel_days(present):
        return TimeForms((EXCEL_DAYS,), f"{EXCEL_DAYS} (days since {_EXCEL_BEGIN:%Y-%m-%d}, as Excel counts them)")
    families: dict[tuple[str, ...], list[str]] = {}
    for text in present.unique().sort():
        if forms := tuple(_forms_of(text)):
            families.setdefault(forms, []).append(text)
    families = {_may_be_exchanged(forms, families): members for forms, members in families.items()}
    chosen: list[str] = []
    evidence: list[str] = []
    # What most are written in is decided first; then what is open, with the help of the others.
    waiting = sorted(families.items(), key=lambda pair: -len(pair[1]))
    for known in ([], chosen):
        asked = []
        for forms, members in waiting:
            form, why = _decide(forms, members, present, known)
            if form is None:
                asked.append((forms, members))
            elif form and form not in chosen:  # empty: whichever it is, no text fits
                chosen.append(form)
                evidence += [f"{form} ({why})" if why else form]
        waiting = asked
    for forms, members in waiting[:1]:
        lines = " or ".join(f'time_format: "{one}"' for one in forms)
        question = f"times such as {', '.join(members[:3])} may be read in two ways; write {lines}"
        return TimeForms(tuple(chosen), "; ".join(evidence), question)
    if any(re.search(r"(%z|Z|UTC|GMT)$", form) or form in SINCE_1970 for form in chosen):
        evidence.append(
            "the clock is that of the file, in UTC since 1970; for the shop's say timezone: Europe/Berlin or so"
        )
    return TimeForms(tuple(chosen), "; ".join(evidence))


def _are_excel_days(present: pl.Series) -> bool:
    """Return whether all are days as Excel counts them, from 1980 to tomorrow."""
    if not len(present) or not present.str.contains(f"^{_EXCEL_DAY}$").all():
        return False
    days = present.to_frame("text").select(_one_form(pl.col("text"), EXCEL_DAYS, None)).to_series()
    return bool(days.is_between(FIRST_TIME, tomorrow()).all())


def _may_be_exchanged(forms: tuple[str, ...], families: Mapping[tuple[str, ...], list[str]]) -> tuple[str, ...]:
    """Return ``forms``, exchanged too where Excel may have read texts so: it leaves such as 13/2/2024 as they are."""
    others = [text for other, texts in families.items() if _order(other[0]) for text in texts]
    if not forms[0].startswith("%Y-%m-%d") or len(others) < _EXCHANGED or len(families[forms]) < _EXCHANGED:
        return forms
    are_low = all(int(re.findall("[0-9]+", text)[2]) <= 12 for text in families[forms])
    are_high = all(int(re.findall("[0-9]+", text)[0]) > 12 for text in others)
    return (*forms, forms[0].replace("%m-%d", "%d-%m")) if are_low and are_high else forms


def tomorrow() -> datetime:
    """Return the time a day from now, by UTC: shops have other zones."""
    return datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)


def _order(form: str) -> str | None:
    """Return the order of day and month, and what stands between, in a form that begins with them."""
    match = re.match(r"(?:%A\W+)?%([dm].%[dm])", form)
    return match and match[1]


def _decide(
    forms: tuple[str, ...], members: list[str], present: pl.Series, known: Sequence[str]
) -> tuple[str | None, str]:
    """Return the form among ``forms`` that is meant, None where that is open, "" where nothing fits one, and why.

    ``known`` are those of other times in the column.
    """
    if len(forms) == 1:
        return forms[0], ""
    frame = pl.DataFrame({"text": members})
    n_read = {one: int(frame.select(time_of(pl.col("text"), [one]).is_not_null().sum()).item()) for one in forms}
    if not any(n_read.values()):
        return "", ""
    if forms[-1].startswith("%y"):  # of two numbers the one that changes less is the year
        firsts_and_thirds = (re.findall("[0-9]+", text)[:3:2] for text in members)
        n_first, n_last = (len(set(numbers)) for numbers in zip(*firsts_and_thirds, strict=True))
        if n_first != n_last:
            forms = tuple(one for one in forms if one.startswith("%y") == (n_first < n_last)) or forms
    best = [one for one in forms if n_read[one] == max(n_read[form] for form in forms)]
    others = max((n_read[one] for one in forms if one not in best), default=0)
    if len(best) == 1:
        return best[0], f"{n_read[best[0]] - others:,} of {len(members):,} fit nothing else"
    alike = [one for one in best if _order(one) in {_order(other) for other in known}]
    if len(alike) == 1:
        return alike[0], "in the order of the others"
    frame = present.to_frame("text").head(_FEW)
    times = {one: frame.select(time_of(pl.col("text"), [one, *known])).to_series().drop_nulls() for one in best}
    past = [one for one in best if (cast("datetime | None", times[one].max()) or datetime.max) <= tomorrow()]
    if len(past) == 1:
        return past[0], "else some would lie in the future"
    if len(times[best[0]]) > 3:
        order = {one: max(_share_in_order(times[one]), _share_in_order(times[one].reverse())) for one in best}
        ordered = [one for one in best if order[one] >= _SORTED]
        if len(ordered) == 1 and all(order[one] < _UNSORTED for one in best if one not in ordered):
            return ordered[0], "the rows are in its order"
        closed = [one for one in best if _has_closed_weekday(times[one])]
        if len(closed) == 1:
            return closed[0], "one weekday is free of purchases"
    return None, ""


def _share_in_order(times: pl.Series) -> float:
    steps = times.diff().drop_nulls()
    return float((steps >= timedelta()).mean() or 0) if len(steps) else 0.0  # type: ignore[arg-type]


def _has_closed_weekday(times: pl.Series) -> bool:
    days = times.dt.date().unique()
    return len(days) >= 60 and days.dt.weekday().n_unique() < 7


def _forms_of(text: str) -> Iterator[str]:
    """Yield the forms in which ``text`` may be written; those of one shape yield the same."""
    if re.fullmatch(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])[0-3][0-9][0-2][0-9][0-5][0-9]([0-5][0-9])?", text):
        yield "%Y%m%d%H%M" + "%S" * (len(text) > 12)
        return
    for least, most, word in _EPOCHS:
        if re.fullmatch(rf"[1-9][0-9]{{{least - 1},{most - 1}}}([.][0-9]{{1,6}})?", text):
            yield word
            return
    if re.fullmatch(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}", text):
        yield "%a %b %d %H:%M:%S %Y"
        return
    clock = _CLOCK.search(text)
    day = text if clock is None or not clock.start() else text[: clock.start()]
    behind = "" if day == text or clock is None else _clock_form(clock)
    for form in _day_forms(day.strip()):
        yield form + behind


def _clock_form(clock: re.Match[str]) -> str:
    half, zone = clock["half"], clock["zone"]
    form = clock["gap"] + ("%I" if half else "%H") + clock["mark"] + "%M"
    if clock["second"]:
        form += clock["second"][0] + "%S" + (".%f" if clock["part"] else "")
    if half:
        form += (" " if half[0] == " " else "") + "%p"
    if zone:
        form += " %z" if zone[0] == " " else "%z"
    return form


_WORD: Final = "[A-Za-z]{3,9}"
_WEEKDAY: Final = re.compile(rf"({_WORD}day,? |(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\.?,? )?(.*)")
#: Shapes of a day of three numbers, and what these may be.
_ORDERS: Final = {
    r"[0-9]{4}([-./ ])[0-9]{1,2}\1[0-9]{1,2}": ("Ymd",),
    r"[0-9]{1,2}([-./ ])[0-9]{1,2}\1[0-9]{4}": ("dmY", "mdY"),
    r"[0-9]{1,2}([-./ ])[0-9]{1,2}\1[0-9]{2}": ("dmy", "mdy", "ymd"),
}


def _day_forms(day: str) -> list[str]:
    """Return the forms of a day; two or three where the order of its numbers is open."""
    weekday, rest = _WEEKDAY.fullmatch(day).groups()  # type: ignore[union-attr]
    before = "" if not weekday else "%A" + weekday.lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if re.fullmatch("(19|20)[0-9]{6}", rest):
        return [before + "%Y%m%d"]
    for shape, orders in _ORDERS.items():
        if match := re.fullmatch(shape, rest):
            return [before + match[1].join(f"%{part}" for part in order) for order in orders]
    for shape, first, second in ((rf"[0-9]{{1,2}}GAP{_WORD}", "%d", "%b"), (rf"{_WORD}GAP[0-9]{{1,2}}", "%b", "%d")):
        gap = "([-./, ]+(?:de )?)"  # Spanish: 5 de marzo de 2024
        if match := re.fullmatch(shape.replace("GAP", gap) + gap + "([0-9]{4}|[0-9]{2})", rest):
            return [before + first + match[1] + second + match[2] + ("%Y" if len(match[3]) == 4 else "%y")]
    return []

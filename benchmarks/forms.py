"""Purchases written in any mixture of forms, and read again: ``python -m benchmarks.forms --forms 2000``.

Each form is a draw of separator, quoting, encoding, date form, decimal sign, header, order of columns, line ends,
packing and dirt. A file must come back as the purchases that were written, or end in one line that says what is
asked. Anything else is a silent difference, or a traceback; both must be 0.
"""

import argparse
import csv
import gzip
import io
import random
import tempfile
import time
import zipfile
from collections import Counter
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.results import machine, write_section
from recsys.config import DataConfig
from recsys.console import progress, talk
from recsys.data.prepare import prepare
from recsys.data.purchases import open_purchases
from recsys.errors import RecsysError
from recsys.storage import code_version

SEPARATORS: Final = (",", ";", "\t", "|")
ENCODINGS: Final = ("utf-8", "utf-8-sig", "utf-16", "cp1252")
DATE_FORMS: Final = (
    *("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y/%m/%d", "%Y%m%d"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d.%m.%y", "%m/%d/%y", "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p"),
    *(
        "%d-%b-%Y",
        "%d %B %Y",
        "%b %d, %Y",
        "%A, %B %d, %Y",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S UTC",
        "seconds",
        "milliseconds",
    ),
)
NAMES: Final = (
    "Mug",
    'Screen 19" wide',
    "Crème brûlée",
    "Käse; alt",
    "Tea, green",
    "Big bag",
    "Pan 12'",
    "Brötchen",
    "Oat  bar",
    '"Best" soap',
)
HEADERS: Final = (
    ("customer", "product", "date", "price", "quantity", "name"),
    ("Customer ID", "StockCode", "InvoiceDate", "UnitPrice", "Qty", "Description"),
    ("kunde", "artikel", "datum", "preis", "menge", "text"),
)
ROLES: Final = ("user_id", "item_id", "time", "price", "quantity", "name")


@dataclass(frozen=True)
class Form:
    """How one file is written."""

    seed: int
    file_type: str  # text, or the ending of a workbook or a typed file
    separator: str
    quoting: str  # minimal, all, or bare: names with their marks and no quoting
    encoding: str
    date_form: str
    decimal: str
    thousands: bool
    currency: str
    header: str  # names, none, title, sep
    line_end: str
    packing: str  # plain, gz, zip, upper
    dirt: tuple[str, ...]
    stated: tuple[str, ...]  # what the map says

    @classmethod
    def drawn(cls, seed: int) -> "Form":
        """Draw a form."""
        draw = random.Random(seed)  # noqa: S311
        dirt = ("blank_lines", "empty_rows", "trailing", "spaces", "no_break", "null_words", "footer", "negative")
        return cls(
            seed=seed,
            file_type=draw.choices(("text", "xlsx", "parquet", "jsonl"), (85, 5, 5, 5))[0],
            separator=draw.choice(SEPARATORS),
            quoting=draw.choices(("minimal", "all", "bare"), (5, 3, 2))[0],
            encoding=draw.choices(ENCODINGS, (5, 2, 1, 2))[0],
            date_form=draw.choice(DATE_FORMS),
            decimal=draw.choices(".,", (2, 1))[0],
            thousands=draw.random() < 0.2,
            currency=draw.choices(("", "€ ", " EUR", "$"), (7, 1, 1, 1))[0],
            header=draw.choices(("names", "none", "title", "sep"), (7, 1, 1, 1))[0],
            line_end=draw.choices(("\n", "\r\n", "\r"), (5, 4, 1))[0],
            packing=draw.choices(("plain", "gz", "zip", "upper"), (7, 1, 1, 1))[0],
            dirt=tuple(one for one in dirt if draw.random() < 0.12),
            stated=tuple(
                one for one in ("separator", "encoding", "time_format", "decimal", "header") if draw.random() < 0.3
            ),
        )


Purchase = tuple[str, str, datetime, float, float, str]


def purchases(form: Form) -> list[Purchase]:
    """Return made-up purchases: user, item, time to the minute, price, quantity, name."""
    draw = random.Random(form.seed * 7 + 1)  # noqa: S311
    items = [(f"{draw.randrange(10_000, 99_999)}{draw.choice(('', 'A', 'B'))}", draw.choice(NAMES)) for _ in range(12)]
    numbers = draw.random() < 0.5
    users = [str(12_000 + n) if numbers else f"U{n:03}" for n in range(15)]
    begin = datetime(2023, draw.randrange(1, 13), 1)
    n_days = draw.choices((200, 9), (6, 1))[0]  # of nine days none leaves it beyond doubt which number is the month
    prices = draw.choices(((0.5, 2.95, 12.0, 1234.5, 7.25), (1234.0, 2500.0), (1.234, 2.5, 12.0)), (6, 1, 1))[0]
    rows = []
    for _ in range(draw.randrange(60, 160)):
        item, name = draw.choice(items)
        at = begin + timedelta(minutes=draw.randrange(n_days * 1440))
        rows.append((draw.choice(users), item, at, draw.choice(prices), float(draw.randrange(1, 9)), name))
    return sorted(rows, key=lambda row: row[2]) if draw.random() < 0.7 else rows


def write(form: Form, rows: list[Purchase], folder: Path) -> tuple[Path, dict[str, Any], list[Purchase]]:
    """Write ``rows`` in a form; return the file, the map that reads it, and the purchases that it holds."""
    draw = random.Random(form.seed * 13 + 5)  # noqa: S311
    order = list(range(len(ROLES)))
    draw.shuffle(order)
    names = draw.choice(HEADERS)
    headed = form.file_type != "text" or form.header != "none"
    columns = {ROLES[place]: names[place] if headed else str(at + 1) for at, place in enumerate(order)}
    settings: dict[str, Any] = {role: columns[role] for role in ROLES[:-1]} | {
        "items": {"attributes": [columns["name"]]}
    }
    if "negative" in form.dirt:
        rows = [(u, i, t, p, -q if draw.random() < 0.1 else q, n) for u, i, t, p, q, n in rows]
    truth = list(rows)
    cells = [[_cell(form, role, value) for role, value in zip(ROLES, row, strict=True)] for row in rows]
    if "null_words" in form.dirt:
        for row in draw.sample(range(len(cells)), 5):
            cells[row][0] = draw.choice(("NULL", "nan", "NA", "", r"\N"))
            truth[row] = ("", *truth[row][1:])
        truth = [row for row in truth if row[0]]
    if form.file_type != "text":
        return (
            _typed(form, rows, order, names, folder),
            settings,
            truth if "null_words" not in form.dirt else list(rows),
        )
    lines = [[row[place] for place in order] for row in cells]
    path = folder / ("SHOP.CSV" if form.packing == "upper" else "shop.csv")
    path = _packed(form, path, _text(form, [names[place] for place in order], lines))
    stated: dict[str, Any] = {
        "separator": form.separator,
        "encoding": form.encoding,
        "time_format": form.date_form.replace("SZ", "S%z").replace(" UTC", " %Z"),
        "decimal": form.decimal,
        "header": headed,
    }
    return path, settings | {key: stated[key] for key in form.stated}, truth


def _cell(form: Form, role: str, value: Any) -> str:  # noqa: ANN401 - whatever a purchase holds
    if role == "time":
        if form.date_form in ("seconds", "milliseconds"):
            second = int(value.replace(tzinfo=UTC).timestamp())
            return str(second if form.date_form == "seconds" else second * 1000)
        return str(value.strftime(form.date_form))
    if role in ("price", "quantity"):
        text = f"{value:,}" if role == "price" else f"{value:g}"
        text = text.removesuffix(".0")
        if not form.thousands:
            text = text.replace(",", "")
        if form.decimal == ",":
            text = text.replace(",", "_").replace(".", ",").replace("_", ".")
        if role == "price":
            text = text + form.currency if form.currency.startswith(" ") else form.currency + text
        return text
    if "spaces" in form.dirt:
        return f" {value} "
    return str(value).replace(" ", "\u00a0") if "no_break" in form.dirt and role != "name" else str(value)


def _text(form: Form, names: list[str], lines: list[list[str]]) -> str:
    trailing = "trailing" in form.dirt
    rows = [names] * (form.header != "none") + lines
    out = io.StringIO()
    amounts = any(form.separator in field for row in lines for field in row if any(c.isdigit() for c in field))
    if form.quoting == "bare" and not amounts:
        # Nothing is quoted, so that a name must not hold the separator; its marks stand as they are.
        for row in rows:
            out.write(
                form.separator.join(field.replace(form.separator, " ") for field in row)
                + form.separator * trailing
                + "\n"
            )
    else:
        quoting: Any = csv.QUOTE_ALL if form.quoting == "all" else csv.QUOTE_MINIMAL
        writer = csv.writer(out, delimiter=form.separator, quoting=quoting, lineterminator="\n")
        writer.writerows([*row, ""] if trailing else row for row in rows)
    text = out.getvalue().split("\n")[:-1]
    if "blank_lines" in form.dirt:
        text[len(text) // 2 : len(text) // 2] = [""]
    if "empty_rows" in form.dirt:
        text += [form.separator * (len(names) - 1 + trailing)] * 2
    if form.header == "title":
        text[:0] = ["Sales of 2023", ""]
    if form.header == "sep":
        text[:0] = [f"sep={form.separator}"]
    if "footer" in form.dirt:
        text += [""]
    return form.line_end.join(text) + form.line_end


def _packed(form: Form, path: Path, text: str) -> Path:
    data = text.encode(form.encoding, errors="replace")
    if form.packing == "gz":
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(data))
    elif form.packing == "zip":
        path = path.with_suffix(".zip")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("shop.csv", data)
            archive.writestr("__MACOSX/._shop.csv", b"\0\1")
    else:
        path.write_bytes(data)
    return path


def _typed(form: Form, rows: list[Purchase], order: list[int], names: tuple[str, ...], folder: Path) -> Path:
    table = pl.DataFrame({names[place]: [row[place] for row in rows] for place in order})
    path = folder / f"shop.{form.file_type}"
    if form.file_type == "parquet":
        table.write_parquet(path)
    elif form.file_type == "jsonl":
        table.with_columns(pl.col(names[2]).dt.to_string("%Y-%m-%d %H:%M:%S")).write_ndjson(path)
    else:
        from openpyxl import Workbook

        book = Workbook()
        sheet = book.active
        sheet.append([names[place] for place in order])
        for row in rows:
            sheet.append([row[place] for place in order])
        book.save(path)
    return path


def outcome(seed: int) -> tuple[str, str]:
    """Return how the form of a seed is read: ``same``, ``asked``, ``DIFFERENT`` or ``TRACEBACK``, and what was said."""
    form = Form.drawn(seed)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        path, settings, truth = write(form, purchases(form), Path(folder))
        try:
            prepare(DataConfig(source="table", name="shop", raw=path, columns=settings))
        except RecsysError as error:
            said = str(error)
            return ("asked" if "\n" not in said and len(said) < 900 else "TRACEBACK"), said
        except Exception as error:  # any other is a fault
            return "TRACEBACK", f"{type(error).__name__}: {error}"
        found = _found(Path("data/processed/shop"))
        expected = Counter(_expected(form, row) for row in truth)
    if found == expected:
        return "same", ""
    return (
        "DIFFERENT",
        f"only read {list((found - expected).items())[:2]}, only written {list((expected - found).items())[:2]}",
    )


def _expected(form: Form, row: Purchase) -> tuple[Any, ...]:
    user, item, at, price, quantity, _ = row
    return user, item, (at.date() - datetime(1970, 1, 1).date()).days, round(price, 3), quantity


def _found(folder: Path) -> Counter[tuple[Any, ...]]:
    log = open_purchases(folder)
    users, items = log.user_ids.to_pylist(), log.item_ids.to_pylist()
    rows = zip(log.user_of_event(), log.item, log.day, log.price, log.quantity, strict=True)
    return Counter((users[u], items[i - 1], int(d), round(float(p), 3), float(q)) for u, i, d, p, q in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forms", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    arguments = parser.parse_args()
    began, counts = time.perf_counter(), Counter[str]()
    asked = Counter[str]()
    with progress() as bar:
        for seed in bar.track(range(arguments.first, arguments.first + arguments.forms), description="forms"):
            result, said = outcome(seed)
            counts[result] += 1
            if result == "asked":
                asked[_question_of(said)] += 1
            elif result != "same":
                talk.print(f"{seed}: {result}: {said}\n  {Form.drawn(seed)}", markup=False)
    lines = [
        "## Purchases in any form",
        "",
        f"`python -m benchmarks.forms --forms {arguments.forms} --first {arguments.first}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, commit {code_version()}, {machine()}, {time.perf_counter() - began:,.0f} s.",
        "",
        "| outcome | forms |",
        "|---|---:|",
        *(f"| {name} | {counts[name]:,} |" for name in ("same", "asked", "DIFFERENT", "TRACEBACK")),
        *(f"| asked: {name} | {count:,} |" for name, count in asked.most_common()),
    ]
    write_section("bench-forms", "\n".join(lines) + "\n")
    talk.print("\n".join(lines))


def _question_of(said: str) -> str:
    questions = {
        "two ways": "order of day and month, or decimal sign",
        "encoding": "encoding",
        "header": "header",
        "separator": "separator",
        "line ": "a line",
    }
    return next((file_type for words, file_type in questions.items() if words in said), said[-60:])


if __name__ == "__main__":
    main()

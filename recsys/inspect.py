"""Say what a shop's files hold, and write the configuration that reads them."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from recsys import schema
from recsys.console import ForceOption, run, talk
from recsys.data.inspection.columns import Column
from recsys.data.inspection.facts import Facts
from recsys.data.inspection.read_back import ReadBack, read_back
from recsys.data.inspection.shop_file import shop_file
from recsys.data.inspection.tables import Shop, open_shop
from recsys.data.reading.databases import PASSWORD_VARIABLE, is_database, open_database, without_password
from recsys.data.reading.layout import FileForm
from recsys.data.reading.times import TimeForms
from recsys.errors import UsageError
from recsys.storage import require_absent, write_text

app = typer.Typer(add_completion=False)

FilesArgument = Annotated[
    list[str], typer.Argument(metavar="FILE…", help="Files of one shop, or a database's address.")
]
SheetOption = Annotated[str | None, typer.Option("--sheet", help="Sheet of a workbook; all by default.")]
TableOption = Annotated[str | None, typer.Option("--table", help="Table of a database.")]
QueryOption = Annotated[str | None, typer.Option("--query", help="SELECT … of a database.")]
SeparatorOption = Annotated[str | None, typer.Option("--separator", help="Of a text file; found out by default.")]
EncodingOption = Annotated[str | None, typer.Option("--encoding", help="Of a text file; found out by default.")]


@app.command()
def main(
    files: FilesArgument,
    write: Annotated[Path | None, typer.Option("--write", help="Configuration to write, such as shop.yaml.")] = None,
    sheet: SheetOption = None,
    table: TableOption = None,
    query: QueryOption = None,
    separator: SeparatorOption = None,
    encoding: EncodingOption = None,
    force: ForceOption = False,
) -> None:
    """Say what files hold: form, columns, roles, purchases in words; write the configuration that reads them."""
    form = FileForm(separator, encoding, sheet=sheet, table=table, query=query)
    inspect_files(files, form, write, force=force)


def inspect_files(files: list[str], form: FileForm, write: Path | None, *, force: bool = False) -> bool:
    """Print what ``files`` hold, write the configuration to ``write``, and return whether nothing is open.

    What is open is asked where there is a terminal.
    """
    if write is not None:
        require_absent(write, force=force)
    with tempfile.TemporaryDirectory(prefix="recsys-") as scratch:
        databases = [without_password(place) for place in files if is_database(place)]
        if databases and len(files) > 1:
            raise UsageError("a database stands alone; join its tables with --query 'SELECT …', without further files")
        database = open_database(databases[0], form, Path(scratch)) if databases else None
        shop = open_shop([Path(place) for place in files if not is_database(place)], form, Path(scratch), database)
        _show_form(shop)
        _show_columns(shop)
        _ask(shop)
    path, database_url = write or Path("shop.yaml"), databases[0] if databases else None
    text = shop_file(path, shop, None, database_url, form)
    read = read_back(text, path)
    if read.facts is not None:
        text = shop_file(path, shop, read.facts, database_url, form)
        _show_facts(read.facts, read)
    for doubt in shop.guess.doubts:
        talk.print(f"look at: {doubt}", style="yellow", markup=False)
    if databases and databases[0] not in files:
        talk.print(f"the password is not written: set the environment variable {PASSWORD_VARIABLE} to it", markup=False)
    if write is not None:
        write_text(write, text)
        talk.print(f"wrote {write}; next: recsys dataset main --config {write}", markup=False)
    else:
        talk.print("\nwith --write shop.yaml this is written:\n")
        sys.stdout.write(text)
    if read.problem is not None:
        talk.print(f"open: {read.problem}", style="yellow", markup=False)
    return read.problem is None


def _show_form(shop: Shop) -> None:
    notes = "; ".join(shop.table.opened.notes)
    talk.print(f"{shop.table.opened.origin}: {len(shop.frame):,} rows" + (f" ({notes})" if notes else ""), markup=False)
    for join in shop.joins:
        talk.print(f"{join.path}: joined on {join.on}; it brings {', '.join(join.brings)}", markup=False)
    for what, joined in (("products", shop.items), ("customers", shop.users)):
        if joined is not None:
            talk.print(f"{joined.path}: a table of {what}, by {joined.on}", markup=False)
    for path in shop.unused:
        why = "no column that differs in all its rows has the name of one of the purchases, or another file says it"
        talk.print(f"{path}: not used; {why}", style="yellow", markup=False)


def _show_columns(shop: Shop) -> None:
    roles = {name: role for role, name in shop.guess.roles.items()}
    roles |= dict.fromkeys(shop.guess.item_attributes, "of the product")
    roles |= dict.fromkeys(shop.guess.user_attributes, "of the customer")
    if shop.guess.clock:
        roles[shop.guess.clock] = schema.TIME
    table = Table(box=None, pad_edge=False)
    for name in ("column", "holds", "missing", "distinct", "examples", "read as"):
        table.add_column(name, justify="right" if name in ("missing", "distinct") else "left", overflow="fold")
    for column in shop.columns:
        table.add_row(
            escape(column.name),
            _content(column),
            f"{column.share_missing:.1%}" if column.share_missing else "",
            f"{column.n_distinct:,}",
            escape(", ".join(text[:24] for text in column.examples)),
            roles.get(column.name, ""),
        )
    talk.print(table)
    for role, why in shop.guess.reasons.items():
        talk.print(f"{role} is {shop.guess.roles[role]}: {why}", markup=False)
    for role, why in shop.guess.open.items():
        talk.print(f"{role}: {why}", style="yellow", markup=False)


def _content(column: Column) -> str:
    if column.content == "number":
        sign = {",": ", decimal comma", "?": ", decimal sign open"}.get(column.decimal, "")
        return "whole numbers" if column.is_whole else f"numbers{sign}"
    if column.content == "time" and column.times is not None:
        forms = ", ".join(column.times.formats)
        return "times" + (f" {forms}" if forms else "") + (" (open)" if column.times.question else "")
    return {"text": "text", "clock": "clock", "empty": "nothing", "time": "times"}[column.content]


def _ask(shop: Shop) -> None:
    """Ask for what is open, where somebody can answer."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    names = [column.name for column in shop.columns]
    for role in schema.EVENT_REQUIRED:
        if role in shop.guess.open:
            talk.print(f"{role}: {shop.guess.open[role]}", markup=False)
            answer = typer.prompt(f"which column is the {role}? (empty: decide later)", default="", show_default=False)
            if answer in names:
                shop.guess.roles[role], shop.guess.reasons[role] = answer, "as you said"
                del shop.guess.open[role]
    time = next((column for column in shop.columns if column.name == shop.guess.roles.get(schema.TIME)), None)
    if time is not None and time.times is not None and time.times.question:
        talk.print(time.times.question, markup=False)
        answer = typer.prompt("which form? (empty: decide later)", default="", show_default=False).strip('"')
        if answer:
            formats = tuple(dict.fromkeys([*time.times.formats, answer]))
            shop.columns[shop.columns.index(time)] = replace(time, times=TimeForms(formats, "as you said"))


def _show_facts(facts: Facts, read: ReadBack) -> None:
    talk.print("\nread back:")
    for sentence in read.sentences:
        talk.print(f"  {sentence}", markup=False)
    for name, n_rows in (read.dropped or {}).items():
        if n_rows:
            talk.print(f"  left out: {n_rows:,} rows ({name})", markup=False)
    gap = "nobody came twice" if facts.gap_days is None else f"half of all gaps are at most {facts.gap_days:g} days"
    talk.print(
        f"{facts.n_rows:,} purchases of {facts.n_items:,} products by {facts.n_users:,} customers, "
        f"{facts.first:%Y-%m-%d} to {facts.last:%Y-%m-%d}; {gap}; {facts.share_repeats:.0%} of purchases are repeats"
    )
    talk.print(f"lists for the next {facts.horizon_days} days; {facts.n_folds} test windows of that length")
    for doubt in facts.doubts:
        talk.print(f"look at: {doubt}", style="yellow", markup=False)
    for reason in facts.lacking:
        talk.print(f"hardly enough to learn from: {reason}", style="yellow", markup=False)


if __name__ == "__main__":
    run(app)

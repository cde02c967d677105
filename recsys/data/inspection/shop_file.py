"""The file that ``recsys inspect --write`` writes: configuration and column map, with the reasons as comments."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import polars as pl
import yaml

from recsys.data.inspection.columns import Column
from recsys.data.inspection.facts import Facts
from recsys.data.inspection.guess import OPTIONAL
from recsys.data.inspection.tables import Shop
from recsys.data.reading.column_map import UNDECIDED
from recsys.data.reading.layout import FileForm
from recsys.schema import EVENT_REQUIRED

#: Codes of what is no product, in shops that number their products.
_FEES: Final = (
    r"(?i)^(post(age)?|dot(com)?( postage)?|m|manual|d|discount|bank ?charges|c2|carriage|s|samples?|cruk|pads"
    r"|adjust\w*|amazonfee|b|fee|test\w*|gift\w*)$"
)
_SUMS: Final = r"(?i)^((grand|sub|sous)?[ -]?totale?s?|(zwischen|gesamt)?summe|gesamt|suma|итого)( g[eé]n[eé]ral)?:?$"
#: Longer ones stand on a line of their own.
_LONG_COMMENT: Final = 80


def column_map_of(shop: Shop) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the column map that reads ``shop``, and a comment for each of its keys."""
    guess, columns = shop.guess, {column.name: column for column in shop.columns}
    settings: dict[str, Any] = {}
    comments: dict[str, str] = {}
    folder = _folder_of(shop)
    if len(shop.table.paths) > 1 or shop.joins or shop.items or shop.users:
        names = [_within(folder, path) for path in shop.table.paths]
        settings["file"] = names if len(names) > 1 else names[0]
        comments["file"] = f"{len(shop.frame):,} rows"
    if all(name.isdecimal() for name in shop.table.opened.columns):
        settings["header"] = False
        comments["header"] = "the first line is a purchase already; columns are called 1, 2, …"
    if shop.joins:
        settings["join"] = [{"file": _within(folder, join.path), "on": join.on} for join in shop.joins]
        brought = [name for join in shop.joins for name in join.brings if name in guess.roles.values()]
        comments["join"] = f"bring {', '.join(brought)}"
    for role in EVENT_REQUIRED:
        settings[role] = UNDECIDED if role in guess.open else guess.roles.get(role, UNDECIDED)
        comments[role] = guess.reasons.get(role) or f"NOT DECIDED: {guess.open.get(role, '')}"
    time = columns.get(guess.roles.get("time", ""))
    if guess.clock is not None:  # how both are written together is found out when they are read
        settings["time"] = [settings["time"], guess.clock]
    elif time is not None and time.times is not None:
        if time.times.question:
            settings["time_format"] = UNDECIDED
            comments["time_format"] = f"NOT DECIDED: {time.times.question}"
        elif time.times.formats:
            settings["time_format"] = list(time.times.formats) if len(time.times.formats) > 1 else time.times.formats[0]
            comments["time_format"] = time.times.evidence
    for role in OPTIONAL:
        if role in guess.roles:
            settings[role], comments[role] = guess.roles[role], guess.reasons[role]
    _decimal(settings, comments, [columns[settings[role]] for role in ("price", "quantity") if role in settings])
    _attributes(settings, comments, shop)
    drop = list(_drop_rules(shop, columns))
    if drop:
        settings["drop"] = [rule for rule, _ in drop]
        comments["drop"] = "; ".join(why for _, why in drop)
    return settings, comments


def _decimal(settings: dict[str, Any], comments: dict[str, str], numbers: list[Column]) -> None:
    # Whole numbers say nothing of the sign, and what is open has that of the others.
    clear = {column.decimal for column in numbers if column.decimal == "," or column.share_whole < 1} - {"?"}
    if clear == {","}:
        points = any("." in text for one in numbers if one.decimal == "." for text in one.examples)  # 2.000 is two
        signs = {column.name: "," for column in numbers if column.decimal == ","} if points else ","
        settings["decimal"], comments["decimal"] = signs, "by numbers that leave no doubt"
    elif len(clear) != 1 and any(column.decimal == "?" for column in numbers):
        shown = next(column for column in numbers if column.decimal == "?").examples[0]
        settings["decimal"], comments["decimal"] = UNDECIDED, f'NOT DECIDED: numbers such as {shown}; write "," or "."'


def _attributes(settings: dict[str, Any], comments: dict[str, str], shop: Shop) -> None:
    own_of = {"items": shop.guess.item_attributes, "users": shop.guess.user_attributes}
    for place, joined in (("items", shop.items), ("users", shop.users)):
        if joined is not None:
            settings[place] = {
                "file": _within(_folder_of(shop), joined.path),
                "attributes": list(joined.brings),
            }
            comments[place] = f"a row for each {joined.on}"
        elif own_of[place]:
            settings[place] = {"attributes": own_of[place]}
            comments[place] = "they hardly differ among the rows of one id"


def _drop_rules(shop: Shop, columns: dict[str, Column]) -> Iterable[tuple[dict[str, Any], str]]:
    """Yield rules for rows that look like no purchases, each with how many there are."""
    roles, frame = shop.guess.roles, shop.frame
    for role, name, said in (
        ("quantity", "returned", "with no or a negative quantity: returns and corrections"),
        ("price", "free_of_charge", "at a price of 0 or less"),
    ):
        column = columns.get(roles.get(role, ""))
        if column is not None and column.share_not_positive > 0:
            rule = {"name": name, "column": column.name, "at_most": 0}
            yield rule, f"{column.share_not_positive * column.n_rows:,.0f} rows {said}"
    for role in sorted({"user_id", "item_id"} & roles.keys()):
        ids = frame[roles[role]].cast(pl.String).str.strip_chars()
        if sums := ids.filter(ids.str.contains(_SUMS)).unique().sort().to_list():
            yield {"name": f"sum_as_{role}", "column": roles[role], "one_of": sums}, "rows that look like sums"
    item = roles.get("item_id")
    if item is not None and columns[item].content == "text":
        codes = frame[item].cast(pl.String).str.strip_chars()
        if codes.str.contains("^[0-9]{4}").mean() > 0.9:  # type: ignore[operator]
            fees = codes.filter(codes.str.contains(_FEES)).value_counts(sort=True)
            if len(fees):
                listed = fees.to_series(0).to_list()
                rule = {"name": "not_a_product", "column": item, "one_of": listed}
                yield rule, f"{fees['count'].sum():,} rows of {', '.join(listed[:6])}"


def shop_file(
    path: Path, shop: Shop, facts: Facts | None, database: str | None = None, form: FileForm | None = None
) -> str:
    """Return the text of the file at ``path``: what is asked for is marked, and stops ``recsys dataset main``."""
    settings, comments = column_map_of(shop)
    form = form or FileForm()
    stated = {"database": database, "table": form.table, "query": form.query, "sheet": form.sheet}
    stated |= {"separator": form.separator, "encoding": form.encoding}
    settings = {key: value for key, value in stated.items() if value is not None} | settings
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in path.stem).lstrip("._-") or "shop"
    lines = [
        "# How recsys reads these purchases. Written by `recsys inspect`; change what is wrong.",
        f"# Then: recsys dataset main --config {path.name}",
        f"name: {_yaml(name)}",
        "data:",
        "  source: table",
        f"  name: {_yaml(name)}",
        *([] if database else [f"  raw: {_yaml(_raw_of(shop, path))}    # as seen from this file"]),
        "  columns:",
    ]
    for key, value in settings.items():
        comment = comments.get(key, "")
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value)):
            block = yaml.safe_dump(
                {key: value}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
            )
            lines += [f"    # {comment}"] * bool(comment) + [f"    {line}" for line in block.rstrip().split("\n")]
        elif len(comment) > _LONG_COMMENT:
            lines += [f"    # {comment}", f"    {key}: {_yaml(value)}"]
        else:
            lines.append(f"    {key}: {_yaml(value)}" + (f"    # {comment}" if comment else ""))
    if facts is not None:
        gap = "unknown" if facts.gap_days is None else f"{facts.gap_days:g} days"
        lines += [
            "split:",
            f"  horizon_days: {facts.horizon_days}    # days that lists are for; the median gap of a customer: {gap}",
            f"  n_folds: {facts.n_folds}    # test windows, the last ones",
        ]
        if facts.k < 12:
            lines += ["predict:", f"  k: {facts.k}    # there are {facts.n_items} items"]
    return "\n".join(lines) + "\n"


def _paths_of(shop: Shop) -> list[Path]:
    return [*shop.table.paths, *(one.path for one in (*shop.joins, shop.items, shop.users) if one)]


def _folder_of(shop: Shop) -> Path:
    """Return the folder that holds all files."""
    return Path(os.path.commonpath([path.resolve().parent for path in _paths_of(shop)] or [Path.cwd()]))


def _within(folder: Path, path: Path) -> str:
    return path.resolve().relative_to(folder).as_posix()


def _raw_of(shop: Shop, path: Path) -> str:
    """Return the file of purchases, or the folder where there are several, as seen from the folder of ``path``."""
    paths = _paths_of(shop)
    place = paths[0].resolve() if len(paths) == 1 else _folder_of(shop)
    return os.path.relpath(place, path.resolve().parent)


def _yaml(value: Any) -> str:  # noqa: ANN401 - a scalar, or a list of such
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=1_000)
    return str(text).removesuffix("\n").removesuffix("\n...").strip()

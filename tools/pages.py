"""Tables of the documentation that the code makes, or a benchmark made: ``python -m tools.pages --write``.

They stand between ``<!-- generated: commands -->``, or another name of :data:`COMPONENTS`, and ``<!-- end -->``.
Without ``--write`` the pages are named whose tables are out of date.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from typer.models import OptionInfo

from recsys.cli import VERBS
from recsys.config import Config
from recsys.data.reading.column_map import ColumnMap, DropRule, FileMap, ItemsMap, JoinMap, PromotionsMap, UsersMap
from recsys.storage import write_text
from tools.prose import GENERATED

TYPE_NAMES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Path": "path",
    "DropRule": "rule",
    "JoinMap": "section",
    "ItemsMap": "section",
    "UsersMap": "section",
    "PromotionsMap": "section",
}
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def filled(page: str) -> str:
    """Return a page with what :data:`COMPONENTS` makes for each name between the marks of that name."""
    return GENERATED.sub(lambda match: f"{match[1]}\n\n{COMPONENTS[match[2]]()}\n\n{match[3]}", page)


def out_of_date(docs: Path = DOCS) -> dict[Path, str]:
    """Return the pages of ``docs`` that do not hold what the code makes, each with the text that it should have."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(docs.glob("*.md"))}
    return {path: new for path, text in texts.items() if (new := filled(text)) != text}


def commands() -> str:
    """Return a section for each verb, and for each of its subcommands, with a table of arguments and options."""
    return "\n\n".join(part for verb in VERBS for part in _verb(verb))


def configuration() -> str:
    """Return a table for each section of the configuration: key, type, default, meaning."""
    return "\n\n".join(_section(name, model) for name, model in sections(Config))


def column_map() -> str:
    """Return a table for each part of a column map: the map itself, files, joins, items, users, promotions, rules."""
    parts: tuple[tuple[str, type[BaseModel]], ...] = (
        ("the map", ColumnMap),
        ("how a file is written: in the map, and in each part below that names a file", FileMap),
        ("an entry of join", JoinMap),
        ("items", ItemsMap),
        ("users", UsersMap),
        ("promotions", PromotionsMap),
        ("a rule under drop", DropRule),
    )
    said = {model: () if model is FileMap else tuple(FileMap.model_fields) for _, model in parts}
    return "\n\n".join(f"**{title}**\n\n{_keys('', model, said[model])}" for title, model in parts)


def inspecting(results: Path = RESULTS) -> str:
    """Return what ``benchmarks.inspecting`` wrote about real files; a mark of the place where it has not been run."""
    text = results.read_text(encoding="utf-8").partition("<!-- bench-inspect -->")[2]
    lines = text.partition("<!-- /bench-inspect -->")[0].strip().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).strip() or "<!-- inspect table -->"


def sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield ("", model) and then (dotted name, model) of every section inside it."""
    yield "", model
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def _verb(verb: str) -> Iterator[str]:
    app: typer.Typer = import_module(VERBS[verb].module).app
    yield f"## `recsys {verb}`"
    if len(app.registered_commands) > 1:
        yield VERBS[verb].help
    for command in app.registered_commands:
        callback = command.callback
        if callback is None:
            continue
        if len(app.registered_commands) > 1:
            yield f"### `recsys {verb} {command.name or callback.__name__.replace('_', '-')}`"
        yield _sentences(inspect.getdoc(callback) or "")
        yield _table(("option", "default", "meaning"), options(callback))


def options(callback: Callable[..., Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (as typed, default, meaning) of each option and argument of a command."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        annotation, info = get_args(hints[name])[:2]
        typed = _words(name, info) if isinstance(info, OptionInfo) else [info.metavar or name.upper()]
        value = "" if annotation is bool or not isinstance(info, OptionInfo) else f" {info.metavar or name.upper()}"
        if parameter.default is parameter.empty:
            default = "required"
        else:
            default = "" if parameter.default in (None, False) else f"`{parameter.default}`"
        yield ", ".join(f"`{word}{value}`" for word in typed), default, info.help or ""


def _words(name: str, info: OptionInfo) -> list[str]:
    # In Annotated[..., Option("--out")] Typer keeps the first name in the place of the default.
    words = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str) and word[0] == "-"]
    return words or [f"--{name.replace('_', '-')}"]


def _section(name: str, model: type[BaseModel]) -> str:
    title = f"## `{name}`\n\n{_sentences(model.__doc__ or '')}" if name else "## The run"
    return f"{title}\n\n{_keys(f'{name}.' if name else '', model)}"


def _keys(prefix: str, model: type[BaseModel], left_out: tuple[str, ...] = ()) -> str:
    rows = [
        (f"`{prefix}{key}`", _type_name(field.annotation), _default(field), field.description or "")
        for key, field in model.model_fields.items()
        if key not in left_out and not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    return _table(("key", "type", "default", "meaning"), rows)


def _type_name(annotation: Any) -> str:  # noqa: ANN401 - a type annotation
    if get_origin(annotation) is Annotated:
        return _type_name(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_type_name(option) for option in get_args(annotation) if option is not type(None))
    if get_origin(annotation) is tuple:
        return f"list: {_type_name(get_args(annotation)[0])}"
    return TYPE_NAMES.get(annotation.__name__, str(annotation.__name__))


def _default(field: Any) -> str:  # noqa: ANN401 - pydantic's FieldInfo
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        value = f"[{', '.join(str(part) for part in value)}]"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _sentences(text: str) -> str:
    """Return the text of a docstring as Markdown, without the sections that describe parameters and errors."""
    return re.split(r"\n\s*(?:Raises|Args|Returns):", text)[0].strip()


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, tuple("---" for _ in head), *rows)
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


COMPONENTS = {"commands": commands, "configuration": configuration, "column_map": column_map, "inspecting": inspecting}


def main() -> None:
    """Write the tables into their pages, or name the pages whose tables are out of date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write them")
    is_written = parser.parse_args().write
    old = out_of_date()
    for path, text in old.items():
        if is_written:
            write_text(path, text)
        print(f"{path.name}: {'written' if is_written else 'out of date; run: make docs-tables'}")
    sys.exit(bool(old) and not is_written)


if __name__ == "__main__":
    main()

"""Documentation that is made from the code when the site is built; mkdocs calls :func:`on_page_markdown`.

A page asks for a part with a line such as ``<!-- generated: commands -->``.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from typer.models import OptionInfo

from recsys.cli import VERBS
from recsys.config import Config
from recsys.data.reading.column_map import ColumnMap, DropRule, ItemsMap, PromotionsMap, UsersMap

TYPE_NAMES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Path": "path",
    "DropRule": "rule",
    "ItemsMap": "section",
    "UsersMap": "section",
    "PromotionsMap": "section",
}
MARK = re.compile(r"<!-- generated: (\w+) -->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page with each ``<!-- generated: name -->`` replaced by what :data:`COMPONENTS` makes for that name."""
    return MARK.sub(lambda match: COMPONENTS[match[1]](), markdown)


def commands() -> str:
    """Return a section for each verb, and for each of its subcommands, with a table of arguments and options."""
    return "\n\n".join(part for verb in VERBS for part in _verb(verb))


def configuration() -> str:
    """Return a table for each section of the configuration: key, type, default, meaning."""
    return "\n\n".join(_section(name, model) for name, model in sections(Config))


def column_map() -> str:
    """Return a table for each part of a column map: the map itself, items, users, promotions, a rule of drop."""
    parts = (
        ("the map", ColumnMap),
        ("items", ItemsMap),
        ("users", UsersMap),
        ("promotions", PromotionsMap),
        ("a rule under drop", DropRule),
    )
    return "\n\n".join(f"**{title}**\n\n{_keys('', model)}" for title, model in parts)


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
        typed = _words(name, info) if isinstance(info, OptionInfo) else [name.upper()]
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


def _keys(prefix: str, model: type[BaseModel]) -> str:
    rows = [
        (f"`{prefix}{key}`", _type_name(field.annotation), _default(field), field.description or "")
        for key, field in model.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
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


COMPONENTS = {"commands": commands, "configuration": configuration, "column_map": column_map}

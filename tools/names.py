"""Names that the code defines, and the word list they are held against."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path


def read_words(path: Path) -> tuple[list[str], set[str]]:
    """Return the patterns of a word list, and the names that pass all the same (its lines ``allow: name``)."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    patterns = [line for line in lines if line and not line.startswith(("#", "allow:"))]
    return patterns, {line.removeprefix("allow:").strip() for line in lines if line.startswith("allow:")}


def first_match(name: str, patterns: list[str]) -> str | None:
    """Return the first pattern that matches the whole name, none if none does.

    >>> first_match("kind_head", ["head", "(.*_)?kind(_.*)?"]), first_match("mankind", ["(.*_)?kind(_.*)?"])
    ('(.*_)?kind(_.*)?', None)
    """
    return next((pattern for pattern in patterns if re.fullmatch(pattern, name)), None)


def definitions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of all that a file defines, but for variables inside functions.

    These are the file itself (a package by its folder), functions, classes, arguments, attributes of classes and of
    ``self``, and names assigned at module level.
    """
    yield 1, path.parent.name if path.stem == "__init__" else path.stem
    yield from _defined(ast.parse(path.read_text(encoding="utf-8")), is_local=False)


def _defined(node: ast.AST, *, is_local: bool) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        inside = is_local
        match child:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield child.lineno, name
                inside = True
            case ast.ClassDef(name=name):
                yield child.lineno, name
                inside = False
            case ast.arg(arg=name):
                yield child.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) if not is_local:
                yield child.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self" | "cls")):
                yield child.lineno, name
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                inside = True
        yield from _defined(child, is_local=inside)

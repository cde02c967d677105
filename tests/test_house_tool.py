import doctest
from pathlib import Path

import pytest
from pydantic import BaseModel

import tools.imports
import tools.names
import tools.prose
from tools.house import (
    LIMITS,
    MEASURES,
    check,
    config_keys,
    configuration,
    docs_words,
    function_imports,
    heavy_pages,
    ignored_imports,
    import_cycles,
    layer_lines,
    layer_names,
    listed_names,
    long_files,
    long_functions,
    long_prose,
    package_lines,
    readme_lines,
    root_files,
    root_folders,
    sentences,
)
from tools.prose import n_words, show_prose

LONG = f"Long {'word ' * 29}end."
PROJECT = """
[project]
dependencies = ["numpy>=2"]
[project.optional-dependencies]
rerank = ["lightgbm>=4.6", "scikit-learn>=1.6"]
dev = ["pytest>=8"]
[[tool.importlinter.contracts]]
type = "layers"
layers = ["recsys.cli", "(recsys.data) | recsys.base"]
"""


@pytest.fixture
def house(tmp_path):
    """A tree that keeps every limit but that of the configuration, which is not a matter of the tree."""
    write(tmp_path, "pyproject.toml", PROJECT)
    write(tmp_path, "README.md", "# Shop\n\nIt sells things.\n")
    write(tmp_path, "docs/index.md", "Short words.\n")
    write(tmp_path, "tools/words.txt", "# why\n(.*_)?kinds?(_.*)?\nSeed[A-Z].*\nseed_.*\nallow: seed_everything\n")
    for name in ("__init__", "cli", "base", "data/__init__", "data/reading"):
        write(tmp_path, f"recsys/{name}.py", '"""A module."""\n')
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_tidy_house_breaks_no_limit(house):
    found = {name: measure(house).number for name, measure in MEASURES.items() if name != "configuration keys"}
    assert all(LIMITS[name] is None or number <= LIMITS[name] for name, number in found.items()), found


def test_every_limit_has_its_measure():
    assert list(MEASURES) == list(LIMITS)


def test_files_and_folders_of_the_root_are_counted(house):
    write(house, "recsys/__pycache__/base.pyc", "")
    write(house, "recsys/left/__pycache__/over.pyc", "")
    write(house, "recsys/templates/page.j2", "")
    assert root_files(house).offenders == ["recsys/__init__.py", "recsys/base.py", "recsys/cli.py"]
    assert root_folders(house).offenders == ["recsys/data", "recsys/templates"]


def test_lines_of_the_package_are_counted_longest_file_first(house):
    write(house, "recsys/data/reading.py", "a = 1\n" * 7)
    assert package_lines(house).number == 7 + 4
    assert package_lines(house).offenders[0] == "recsys/data/reading.py: 7"


def test_keys_are_counted_through_sections():
    class Inner(BaseModel):
        a: int = 1
        b: tuple[int, ...] = ()

    class Outer(BaseModel):
        name: str = ""
        inner: Inner = Inner()
        perhaps: Inner | None = None

    assert config_keys(Outer) == ["name", "inner.a", "inner.b", "perhaps.a", "perhaps.b"]
    assert configuration(Outer).offenders == ["inner: 2", "perhaps: 2", "no section: 1"]


@pytest.mark.parametrize(("statements", "n_long"), [(60, 0), (61, 1)])
def test_a_function_is_measured_from_its_first_statement(house, statements, n_long):
    write(house, "recsys/base.py", "def f(\n    a,\n):\n" + "    a = 1\n" * statements)
    assert long_functions(house).number == n_long


@pytest.mark.parametrize(
    ("head", "n_long"),
    [
        ('"""A table."""\n\n# Long because: it is one table.\n', 0),
        ('"""A table."""\n# Long because: it is one table.\n', 0),
        ('"""A table."""\n\n# Long because:\n', 1),
        ('"""A table."""\nimport re\n\n# Long because: it is one table.\n', 1),
        ("# Long because: it is one table.\n", 1),
    ],
)
def test_a_long_file_says_why_below_its_docstring(house, head, n_long):
    write(house, "recsys/base.py", head + "a = 1\n" * 300)
    assert long_files(house).number == n_long
    write(house, "recsys/base.py", "a = 1\n" * 300)
    assert long_files(house).number == 0


def test_layers_name_folders_and_root_modules_only(house):
    layers = '["recsys.cli", "recsys.data.reading | (recsys.base)", "recsys.gone"]'
    write(house, "pyproject.toml", f'[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = {layers}\n')
    assert layer_lines(house).number == 3
    assert layer_names(house).offenders == [
        "recsys.data.reading (a file below a package)",
        "recsys.gone (does not exist)",
    ]


def test_layers_may_be_named_within_their_container(house):
    contract = '[[tool.importlinter.contracts]]\ncontainers = ["recsys"]\nlayers = ["cli", "data", "data.reading"]\n'
    write(house, "pyproject.toml", contract)
    assert layer_names(house).offenders == ["recsys.data.reading (a file below a package)"]


def test_a_contract_of_layers_has_to_exist(house):
    write(house, "pyproject.toml", "")
    assert layer_names(house).number == 1


def test_contracts_make_no_exceptions(house):
    write(house, "pyproject.toml", PROJECT + 'name = "Down"\nignore_imports = ["recsys.base -> recsys.cli"]\n')
    assert ignored_imports(house).offenders == ["Down"]


def test_modules_that_import_one_another_are_found_also_inside_functions(house):
    write(house, "recsys/base.py", "from recsys.data import reading\n")
    write(house, "recsys/data/reading.py", "def read():\n    from recsys import base\n")
    assert import_cycles(house, of_folders=False).offenders == [
        "2: recsys.base, recsys.data.reading; such as recsys.base -> recsys.data.reading (recsys/base.py:1)"
        " -> recsys.base (recsys/data/reading.py:2)"
    ]


def test_relative_imports_and_packages_are_part_of_cycles(house):
    write(house, "recsys/data/__init__.py", "from .reading import read\n")
    write(house, "recsys/data/reading.py", "from . import __doc__\n")
    assert import_cycles(house, of_folders=False).number == 1
    assert import_cycles(house, of_folders=True).number == 0


@pytest.mark.parametrize("name", ["recsys/__init__.py", "recsys/__main__.py", "recsys/cli.py"])
def test_imports_for_types_and_lazy_verbs_make_no_cycle(house, name):
    write(house, name, "def verb():\n    from recsys import data\n    import numpy\n")
    back = "recsys.cli" if "init" not in name else "recsys"
    write(house, "recsys/data/__init__.py", f"import {back}\n")
    write(house, "recsys/base.py", "import typing\nif typing.TYPE_CHECKING:\n    import recsys.data.reading\n")
    write(house, "recsys/data/reading.py", "import recsys.base\n")
    assert import_cycles(house, of_folders=False).offenders == []
    assert function_imports(house, of_extras=False).offenders == []


def test_folders_that_import_one_another_are_found_where_modules_do_not(house):
    write(house, "recsys/data/reading.py", "import recsys.text.words\n")
    write(house, "recsys/text/words.py", "")
    write(house, "recsys/text/pages.py", "import recsys.data\n")
    assert import_cycles(house, of_folders=False).number == 0
    assert import_cycles(house, of_folders=True).number == 1
    assert import_cycles(house, of_folders=True).offenders[0].startswith("2: recsys/data, recsys/text; such as")


def test_a_file_beside_folders_is_no_part_of_them(house):
    write(house, "recsys/data/verb.py", "import recsys.data.parts.one\n")
    write(house, "recsys/data/parts/one.py", "import recsys.data.reading\n")
    assert import_cycles(house, of_folders=True).number == 0
    write(house, "recsys/data/reading.py", "import recsys.data.parts.two\n")
    write(house, "recsys/data/parts/two.py", "")
    assert import_cycles(house, of_folders=True).number == 1


def test_imports_inside_functions_are_told_from_those_of_extras(house):
    body = "import numpy, sklearn.cluster", "import pytest", "from lightgbm import Booster"
    write(house, "recsys/base.py", "\n    ".join(["def f():", *body]))
    always, extras = (function_imports(house, of_extras=of_extras).offenders for of_extras in (False, True))
    assert always == ["recsys/base.py:2 numpy", "recsys/base.py:3 pytest"]
    assert extras == ["recsys/base.py:2 sklearn.cluster", "recsys/base.py:4 lightgbm"]


def test_definitions_are_held_against_the_word_list(house):
    write(
        house,
        "recsys/base.py",
        "item_kind = 1\n"
        "def kinds(kind_head, *, a=lambda kind: 0):\n"
        "    kind = library.kind = kind_head\n"
        "    def of_kind(): ...\n"
        "class SeedModel:\n"
        "    kind: int\n"
        "    def f(self): self.n_kinds = [0 for kind in ()]\n"
        "seed = mankind = KIND = seed_everything = [kind for kind in ()]\n",
    )
    write(house, "benchmarks/kind.py", "")
    write(house, "tools/kinds/__init__.py", "")
    found = listed_names(house)
    names = sorted(place.split()[1] for place in found.offenders)
    expected = [
        "SeedModel",
        "item_kind",
        "kind",
        "kind",
        "kind",
        "kind_head",
        "kinds",
        "kinds",
        "n_kinds",
        "of_kind",
    ]
    assert names == expected
    assert found.number == len(expected)
    assert found.notes == ["9 of (.*_)?kinds?(_.*)?", "1 of Seed[A-Z].*"]
    assert {"recsys/base.py:5 SeedModel", "benchmarks/kind.py:1 kind"} <= set(found.offenders[:2] + found.offenders)


def test_long_sentences_and_heavy_pages_are_named(house):
    write(house, "docs/index.md", f"# Head\n\nShort.\n\n- {LONG}\n")
    assert long_prose(house).offenders[0].startswith("docs/index.md:5 31 words: Long word")
    assert heavy_pages(house).offenders == ["docs/index.md: 16"]
    write(house, "docs/index.md", f"{LONG[5:]} Short.\n\nShort.\n")
    assert (long_prose(house).number, heavy_pages(house).number) == (0, 0)


def test_words_of_the_documentation_and_lines_of_the_readme_are_counted(house):
    made = f"<!-- generated: commands -->\n\n{LONG}\n\n<!-- end -->"
    write(house, "docs/more.md", f"# One\n\ntwo three\n\n{made}\n")
    assert long_prose(house).number == 0
    write(house, "README.md", "\n" * 101)
    assert docs_words(house).number == 2 + 4
    assert readme_lines(house).number == 101


def test_what_breaks_a_limit_is_named_under_the_table(house, capsys, monkeypatch):
    monkeypatch.setitem(MEASURES, "configuration keys", lambda root: readme_lines(house))
    assert check(house)
    assert capsys.readouterr().out.splitlines()[-1].startswith("lines of README.md")
    write(house, "recsys/base.py", "def f():\n" + "    import numpy\n" * 3 + "kind = 1\n")
    assert not check(house, shown=2)
    table, imports, names = capsys.readouterr().out.split("\n\n")
    assert len(table.splitlines()) == len(LIMITS) + 1
    assert imports.splitlines()[-1] == "  ... and 1 more (--all shows them)"
    assert "  recsys/base.py:5 kind" in names.splitlines()


def test_pages_are_shown_with_their_long_sentences(house, capsys):
    assert show_prose([house / "README.md"])
    write(house, "README.md", f"Short.\nShort. {LONG}\n")
    assert not show_prose([house / "README.md"])
    assert "median 1 words, 1 over 30" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("It ends\nhere. And\n\nagain", ["It ends here.", "And", "again"]),
        ("See a.py, 0.18 and v1.2.3, e.g. this, i.e. that, etc. and so on.", None),
        ("See Doe et al. (2017), Fig. 2, Eq. 3, p. 4, cf. J. Doe vs. X.", None),
        ("Is it? No. It is not.", ["Is it?", "No.", "It is not."]),
        (
            "In 2017. Then (it ends.) `a. B c` goes on. **Bold.** Then",
            ["In 2017.", "Then (it ends.)", "`a. B c` goes on.", "Bold.", "Then"],
        ),
        ("A [link](x. Y.md (a)) and ![an. Image](x.png)[ref][1]<br>.\n\n[1]: x. Y", ["A link and ref."]),
        (
            "- One\n- Two\n  goes on\n    - Three. Four\n\n    Five\n1. Six",
            ["One", "Two goes on", "Three.", "Four", "Five", "Six"],
        ),
        ('> Quoted. Twice\n\n!!! note "Head"\n\n    Inside it.\n', ["Quoted.", "Twice", "Inside it."]),
        ("# Head. Line\n\nHead. Line\n===\n\n| a. B | c |\n|---|---|\nText", ["Text"]),
        (
            "Text:\n\n    code. Block\n\n```py\ncode. More\n```\nEnd\n~~~\na\n```\nb\n~~~\n$$\nx. Y\n$$\n",
            ["Text:", "End"],
        ),
        ("---\ntitle: A. B\n---\n<!-- No.\nNo. -->\nYes", ["Yes"]),
        ("::: recsys.schema\n    options:\n      members: [a]\n\nYes", ["Yes"]),
        ("Это так, т. е. просто, см. Раздел. Да.", ["Это так, т. е. просто, см. Раздел.", "Да."]),
    ],
)
def test_pages_are_split_into_sentences(text, expected):
    assert sentences(text) == ([text] if expected is None else expected)


def test_signs_are_no_words_and_code_is_one():
    assert n_words("`a b c` – 0.18 · x = [y] ``d ` e``") == 5


@pytest.mark.parametrize("module", [tools.imports, tools.names, tools.prose])
def test_examples_in_docstrings_hold(module):
    assert doctest.testmod(module) == (0, doctest.testmod(module).attempted)

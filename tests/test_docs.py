import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.ablation import EARLIER, VARIANTS
from recsys.cli import VERBS
from recsys.errors import RecsysError
from recsys.schema import SYSTEMS
from tools import quality_table, summary
from tools.pages import COMPONENTS, filled, inspecting, options, out_of_date
from tools.prose import GENERATED

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "references").glob("*.md"))]
RESULTS_PAGE = ROOT / "docs" / "results.md"
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def called(path: Path) -> str:
    return str(path.relative_to(ROOT))


def typed_commands(text: str) -> set[str]:
    """Lines after a prompt in code blocks, and ``recsys …`` or ``make …`` in running text."""
    blocks = "\n".join(block for _, block in FENCE.findall(text))
    prompts = re.findall(r"^\$ (.+?)(?:\s+#.*)?$", blocks, re.MULTILINE)
    return {*prompts, *re.findall(r"`((?:recsys|make) [^`\n]+)`", FENCE.sub("", text))}


COMMANDS = sorted({command for page in PAGES for command in typed_commands(page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("recsys ")])
def test_every_command_in_the_documentation_can_be_typed(line):
    words = shlex.split(line)[1:]
    if words[0].startswith("<") or words[0] in {"--help", "--version"}:
        return
    assert words[0] in VERBS, line
    if len(words) == 1:  # the verb itself is meant
        return
    commands = import_module(VERBS[words[0]].module).app.registered_commands
    if len(commands) > 1:
        names = {command.name or command.callback.__name__: command for command in commands}
        assert words[1] in names, line
        commands = [names[words[1]]]
    known = " ".join(name for name, *_ in options(commands[0].callback)) + " --help --verbose"
    unknown = [word for word in words if word.startswith("--") and not re.search(rf"(?<!\S)`?{word}\b", known)]
    assert not unknown, line


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_every_make_target_in_the_documentation_exists(line):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert shlex.split(line)[1] in targets


def anchors(path: Path) -> set[str]:
    """Anchors that headings get: lower case, words joined by dashes."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_every_link_to_a_file_of_ours_leads_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_no_page_is_a_stub(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.split()) > 20
    assert not re.search(r"\b(TODO|TBD|FIXME|lorem)\b", text, re.IGNORECASE)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_part_made_from_the_code_has_its_place_in_a_page(name):
    pages = {page: GENERATED.finditer(page.read_text(encoding="utf-8")) for page in (ROOT / "docs").glob("*.md")}
    assert len([page for page, marks in pages.items() for mark in marks if mark[2] == name]) == 1


def test_the_tables_in_the_pages_are_those_that_the_code_makes():
    assert [called(page) for page in out_of_date(ROOT / "docs")] == [], "run: make docs-tables"


def test_what_stands_between_the_marks_is_replaced_and_the_rest_of_the_page_stays():
    page = filled("# Title\n\n<!-- generated: configuration -->\nold\n<!-- end -->\n\nend")
    assert page.startswith("# Title\n\n<!-- generated: configuration -->\n\n## The run")
    assert page.endswith("|\n\n<!-- end -->\n\nend")
    assert "old\n" not in page
    assert filled(page) == page


def test_the_table_of_real_files_is_what_the_benchmark_wrote(tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n", encoding="utf-8")
    assert inspecting(results) == "<!-- inspect table -->"
    section = (
        "<!-- bench-inspect -->\n## Files\n\nBy a command.\n\n| files |\n|---|\n| u.data |\n<!-- /bench-inspect -->"
    )
    results.write_text(f"# Results\n\n{section}\n", encoding="utf-8")
    assert inspecting(results) == "By a command.\n\n| files |\n|---|\n| u.data |"


def row(value: float) -> dict[str, dict[str, float]]:
    return {name: {"value": value, "low": value - 0.01, "high": value + 0.01} for name in summary.SHOWN}


def test_the_summary_shows_every_system_once_with_its_interval_in_the_order_of_the_reports():
    metrics = {
        "systems": {"popularity": row(0.05), "decoder": row(0.16)},
        "folds": [{"start": "2017-12-18"}, {"start": "2017-12-25"}],
    }
    head, _, *lines = summary.metrics_table(metrics)
    assert head == "2 test windows, from 2017-12-18, 2017-12-25"
    assert [line.split()[:5] for line in lines] == [
        ["decoder", "0.1600", "0.1500", "–", "0.1700"],
        ["popularity", "0.0500", "0.0400", "–", "0.0600"],
    ]


def test_filling_a_page_keeps_all_else_and_can_be_undone():
    page = f"before\n<!-- {summary.MARK} -->\nold\n<!-- /{summary.MARK} -->\nafter\n"
    filled = summary.filled(page, "new\nlines")
    assert summary.shown(filled) == "new\nlines"
    assert filled.startswith("before\n")
    assert filled.endswith("\nafter\n")
    assert summary.filled(filled, "new\nlines") == filled


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(RecsysError, match="put the two marks back"):
        summary.filled("nothing here", "text")


def figures(text: str) -> dict[str, list[float]]:
    """Figures of each system's line."""
    lines = [line for line in text.splitlines() if line.split() and line.split()[0] in SYSTEMS]
    return {line.split()[0]: [float(figure) for figure in re.findall(r"\d\.\d{4}", line)] for line in lines}


def test_the_readme_shows_what_the_demo_printed(monkeypatch):
    path = ROOT / "reports" / "demo" / "metrics.json"
    if not path.exists():
        pytest.skip("the demo has not been run here: make demo")
    monkeypatch.chdir(ROOT)
    readme = summary.shown((ROOT / "README.md").read_text(encoding="utf-8"))
    printed = summary.summary("demo")
    no_figures = re.compile(r"\d\.\d{4}")
    assert no_figures.sub("x", readme) == no_figures.sub("x", printed), "run: make readme"
    assert json.loads(path.read_text(encoding="utf-8"))["systems"].keys() == figures(printed).keys()
    for system, shown in figures(readme).items():
        # Another processor rounds otherwise, and ALS and the decoder end a little elsewhere.
        assert shown == pytest.approx(figures(printed)[system], abs=0.01), system


def test_the_table_of_complete_journey_holds_what_the_benchmark_wrote():
    text = RESULTS_PAGE.read_text(encoding="utf-8").partition("\n## Complete Journey\n")[2]
    found = json.loads((ROOT / "benchmarks/results/quality-completejourney.json").read_text(encoding="utf-8"))
    wanted = {"segment": "all", "metric": "map@12", "fold": "mean"}
    names = {"decoder": "decoder", "without the transformer": "no_decoder", "LightGBM": "lightgbm (peer)"}
    names |= {"TIFU-KNN": "tifu_knn", "repeat": "repeat"}
    for shown, system in names.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| {shown}"))
        cells = [
            next(row for row in rows if row[key] == system and wanted.items() <= row.items())
            for rows, key in ((found["rows"], "system"), (found["differences"], "to"))
            if not (key == "to" and system == "decoder")
        ]
        for cell in cells:
            written = f"{cell['value']:.4f} [{cell['low']:.4f}, {cell['high']:.4f}]".replace("-", "−")
            assert f"| {written} |" in line, f"{system}: expected {written} in {line}"


def test_the_results_show_the_decoder_beside_the_best_as_the_benchmarks_wrote():
    page = RESULTS_PAGE.read_text(encoding="utf-8")
    assert quality_table.shown(page) == quality_table.table(), "run: make readme-table"


def table_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_the_readme_repeats_rows_of_the_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Results\n")[2].partition("\n## ")[0]
    shown = [table_cells(line)[:4] for line in readme.splitlines() if line.startswith("|")][2:]
    rows = [table_cells(line) for line in quality_table.table().splitlines()[2:]]
    known = [[test, metric, own.split()[0], f"{best} {value}"] for test, metric, own, best, value, *_ in rows]
    assert 1 <= len(shown) <= 5
    assert [row for row in shown if row not in known] == []


@pytest.mark.parametrize(("name", "data"), [("Complete Journey", "cold_completejourney"), ("H&M", "cold_hm_week")])
def test_the_table_of_items_that_never_sold_holds_what_the_benchmark_wrote(name, data):
    section = RESULTS_PAGE.read_text(encoding="utf-8").partition("\n## Items that never sold\n")[2]
    line = next(line for line in section.splitlines() if line.startswith(f"| {name} |"))
    found = json.loads((ROOT / f"benchmarks/results/quality-{data}.json").read_text(encoding="utf-8"))
    wanted = {"segment": "hidden", "metric": "recall@12", "fold": "mean"}
    values = {row["system"]: row["value"] for row in found["rows"] if wanted.items() <= row.items()}
    chance = found["protocol"]["hidden"]["expected_recall_of_random"]
    expected = [values["decoder"], values["decoder_without_content"], chance]
    assert table_cells(line)[1:] == [f"{value:.4f}" for value in expected]


@pytest.mark.parametrize(
    ("name", "data"), [("Complete Journey", "completejourney"), ("Online Retail", "online_retail")]
)
def test_the_table_of_what_is_new_to_the_customer_holds_what_the_benchmark_wrote(name, data):
    section = RESULTS_PAGE.read_text(encoding="utf-8").partition("\n## New to the customer\n")[2]
    line = next(line for line in section.splitlines() if line.startswith(f"| {name} |"))
    found = json.loads((ROOT / f"benchmarks/results/quality-{data}.json").read_text(encoding="utf-8"))
    wanted = {"segment": "new", "metric": "map@12", "fold": "mean"}
    values = {row["system"]: row["value"] for row in found["rows"] if wanted.items() <= row.items()}
    systems = ["decoder", "no_decoder", "lightgbm (peer)", "als", "rrf(als, lightgbm (peer))"]
    expected = [f"{values[system]:.4f}" if system in values else "not measured" for system in systems]
    assert table_cells(line)[1:] == expected


def test_the_best_beside_the_decoder_has_nothing_of_the_decoder_in_it():
    of_decoder = {"decoder": 9, "decoder_without_content": 8, "no_decoder": 8, "rerank": 7}
    values = of_decoder | {"als": 2, "popularity": 2, "repeat": 1}
    rows = {name: {"value": value} for name, value in values.items()}
    assert quality_table.best_other(rows) == "popularity"  # level with ALS: the simplest is named


def test_a_best_system_without_a_name_is_refused(tmp_path):
    for path in quality_table.RESULTS.glob("quality-*.json"):
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(text.replace("lightgbm (peer)", "boosted (peer)"), encoding="utf-8")
    with pytest.raises(RecsysError, match=r"boosted .peer. is the best somewhere"):
        quality_table.table(tmp_path)


#: What the page says where rows were measured at several commits.
OWN_COMMIT = "each row against the whole model of its own commit"


def test_the_table_of_what_each_part_is_worth_holds_what_the_ablation_wrote():
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8").partition("## What each part is worth")[2]
    rows = dict(re.findall(r"^\| .*\(`(\w+)`\) \| (.*) \|$", page, re.MULTILINE))
    above, commits, expected = page.partition("| part left out |")[0], set(), {name: [] for name in rows}
    for data in EARLIER:
        path = ROOT / "benchmarks" / "results" / f"ablation-{data}.json"
        if not path.is_file():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        # The file may hold rows of variants that have been cut since.
        variants = found["protocol"]["variants"].keys() & VARIANTS.keys()
        assert variants - {"decoder"} <= rows.keys()
        wanted = {"metric": "map@12", "fold": "mean", "system": "decoder"}
        for variant, shown in expected.items():
            cells = {
                row["segment"]: f"{row['value']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]".replace("-", "−")
                for row in found["differences"]
                if row["to"] == variant and wanted.items() <= row.items()
            }
            shown += [cells.get("all", ""), cells.get("new", "")]
        # Of a file of one commit, rows name none.
        commits |= {row.get("commit", found["commit"]) for row in found["differences"] if row["to"] in rows}
    for variant, cells in expected.items():
        assert [cell.strip() for cell in rows[variant].split("|")] == cells, variant
    assert next(iter(rows)) == "no_decoder"
    for commit in commits:
        assert commit in above
    assert len(commits) == 1 or OWN_COMMIT in above

import re
import shutil
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import example_run
import numpy as np
import pytest
from example_run import N_USERS, NEWCOMER, item_id, user_id
from typer.testing import CliRunner

from recsys.cli import build_app
from recsys.config import SplitConfig, load_config
from recsys.data.days import day_date
from recsys.data.item_names import Labels, long_date, short_id
from recsys.data.purchases import open_purchases
from recsys.errors import OutputExistsError, RunError
from recsys.evaluation.results import load_scores
from recsys.evaluation.splits import make_split
from recsys.report import build_page
from recsys.reports import charts
from recsys.reports.customers import choose_customers, load_customers
from recsys.reports.glossary import windows
from recsys.reports.sections.again import commands
from recsys.reports.sections.data import source_note
from recsys.reports.sections.method import protocol
from recsys.reports.shell import fill
from recsys.runs import Run, find_run
from recsys.storage import write_json

PAGE = Path("reports/small/index.html")
SECTIONS = ("systems", "windows", "differences", "segments", "training", "customers", "data", "method", "again")


def invoke(*arguments: str):
    return CliRunner().invoke(build_app("report"), ["report", *arguments])


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[Path]:
    """Folder of a shop with a scored run and its report, the current one while a test of this file runs."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        example_run.write_run()
        example_run.write_scores()
        example_run.write_lists()
        done = invoke("--run", "small")
        assert done.exit_code == 0, done.exception
        assert done.stdout.strip() == str(PAGE)
        yield folder


@pytest.fixture
def page(shop) -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture
def gallery(shop):
    run = find_run("small")
    data = run.open_data()
    return load_customers(run, data, make_split(data, run.config.split))


def test_reasons_are_shown_below_the_suggestions_they_are_of_and_nowhere_without_them(shop, page):
    run = find_run("small")
    data = run.open_data()

    def why(asked, item):
        pairs = zip(asked.user_index, item, strict=True)
        return [[f"why {number} & {user}" for number in items] for user, items in pairs]

    told = load_customers(run, data, make_split(data, run.config.split), why)
    users = {user_id(user): user for user in range(N_USERS)}
    for customer in told.customers:
        (user,) = {users[name] for name in users if short_id(name) == customer.id}
        assert [shown.reason for shown in customer.listed] == [f"why {item} & {user}" for item in range(1, 13)]
        assert not any(shown.reason for shown in customer.bought)
    scores = load_scores(Path("reports/small/metrics.json"), "small")
    html = build_page(run, data, scores, charts.read_log(run.folder / "metrics.csv"), told, date(2020, 4, 1))
    assert html.count('class="reason"') == 12 * len(told.customers)
    assert "why 1 &amp; " in html
    assert 'class="reason"' not in page


class Outline(HTMLParser):
    """What a page is made of: tags with their attributes, and the words outside style and svg."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._silent = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("style", "svg")

    def handle_endtag(self, tag):
        self._silent -= tag in ("style", "svg")

    def handle_data(self, data):
        if not self._silent:
            self.words.append(data)


def words(text: str) -> str:
    return " ".join(" ".join(Outline(text).words).split())


def test_the_page_is_one_file_that_asks_for_nothing_else(page):
    tags = Outline(page).tags
    assert not [tag for tag, _ in tags if tag in ("script", "iframe", "object", "embed", "img")]
    links = [value for _, attributes in tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_names_from_the_data_are_text_and_never_markup(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page


def test_the_page_says_first_what_came_out(page):
    text = words(page)
    headline = "The decoder beats 5 of 6 systems but loses to “buy again”"
    assert headline in text
    assert "On 2 held-out weeks, of every 100 customers who bought something, 40 found a purchase" in text
    assert "2 times the week's best sellers and 0.667 times “buy again”" in text
    assert text.index(headline) < text.index("Systems compared")


def test_the_sections_stand_in_their_order(page):
    ids = [attributes["id"] for tag, attributes in Outline(page).tags if tag == "section"]
    assert tuple(ids) == SECTIONS


def test_figures_of_the_page_are_those_of_the_files(page):
    text = words(page)
    data = open_purchases(Path("data/processed/completejourney"))
    for figure in (
        f"{data.n_events:,}",
        str(data.n_users),
        "12,345",
        "67",
        "0.200",
        "[0.190, 0.210]",
        "25.0%",
        "−0.100",
    ):
        assert figure in text
    for fact in (
        "recsys train --config configs/small.yaml",
        "abc123def456",
        "recsys evaluate --run small",
        "n_folds: 2",
    ):
        assert fact in text


def test_the_best_of_each_column_is_marked_and_the_decoder_stands_out(page):
    table = page[page.index('id="systems"') : page.index("</table>")]
    assert '<td class="best">0.300' in table
    assert '<td class="best">0.200' not in table
    assert table.count('class="own"') == 1
    assert re.search(r'class="own">\s*<th scope="row"><div class="meant">Decoder', table)


def test_where_all_are_equal_none_is_best(page):
    lines = [line for line in page.splitlines() if "25.0%" in line]
    assert len(lines) >= 7
    assert not [line for line in lines if "best" in line]


def test_tables_have_captions_and_charts_have_words(page):
    tags = Outline(page).tags
    count = [tag for tag, _ in tags].count
    assert count("table") == count("caption") > 6
    drawn = [attributes for tag, attributes in tags if attributes.get("role") == "img"]
    assert len(drawn) == 10
    assert all(len(attributes["aria-label"]) > 20 for attributes in drawn)
    assert count("h1") == 1
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_long_ids_are_never_shown_whole(page):
    assert not re.search(r"[0-9a-f]{64}", page)
    assert f"{user_id(NEWCOMER)[:8]}…" in page


def test_the_source_that_is_simulated_is_said_to_be(page):
    assert "simulated from real shopping patterns and meant for education" in words(page)


def test_history_and_marks_of_a_customer_are_those_of_the_data(gallery):
    for customer in gallery.customers:
        user = next(user for user in range(N_USERS) if customer.id == short_id(user_id(user)))
        start = example_run.LAST_DAY - 6
        known = {event for event in example_run.events(user) if event[0] < start}
        past = {item for _, item in known}
        bought = {item for day, item in set(example_run.events(user)) if day >= start}
        assert customer.n_purchases == len(known)
        assert customer.n_bought == len(bought)
        assert [shown.product.id for shown in customer.listed] == [item_id(index) for index in range(1, 13)]
        assert [shown.hit for shown in customer.listed] == [index in bought for index in range(1, 13)]
        assert [shown.repeat for shown in customer.listed] == [index in past for index in range(1, 13)]
        assert customer.n_older + sum(count for _, products in customer.days for _, count in products) == len(known)


def test_history_is_told_newest_first(gallery):
    users = {short_id(user_id(user)): user for user in range(N_USERS)}
    for customer in gallery.customers:
        known = {day for day, _ in example_run.events(users[customer.id]) if day < example_run.LAST_DAY - 6}
        newest = [long_date(day_date(day).isoformat()) for day in sorted(known, reverse=True)]
        assert [date for date, _ in customer.days] == newest[: len(customer.days)]


def test_customers_are_drawn_across_history_lengths_newcomers_included(shop):
    data = open_purchases(Path("data/processed/completejourney"))
    fold = make_split(data, SplitConfig(n_folds=2)).tests[-1]
    lengths = (fold.history_end - data.offsets[:-1])[fold.user_index]
    chosen = choose_customers(fold, data, seed=1)
    assert len(set(chosen.tolist())) == 20
    assert (np.diff(lengths[chosen]) >= 0).all()
    assert np.count_nonzero(lengths[chosen] == 0) == min(3, np.count_nonzero(lengths == 0)) > 0
    assert lengths[chosen[-1]] >= np.quantile(lengths, 0.9)


def test_the_draw_depends_on_the_seed_and_on_nothing_else(shop):
    data = open_purchases(Path("data/processed/completejourney"))
    fold = make_split(data, SplitConfig(n_folds=2)).tests[-1]
    first, again, other = (choose_customers(fold, data, seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("n", [1, 5, 39, 100])
def test_no_customer_is_drawn_twice_and_never_more_than_there_are(shop, n):
    data = open_purchases(Path("data/processed/completejourney"))
    fold = make_split(data, SplitConfig(n_folds=2)).tests[-1]
    chosen = choose_customers(fold, data, seed=3, n=n)
    assert len(chosen) == len(set(chosen.tolist())) == min(n, len(fold.user_index))


def label_of(**attributes):
    import narwhals as nw
    import pyarrow as pa

    table = pa.table({"item_id": ["0108775015"], **{name: [value] for name, value in attributes.items()}})
    product = Labels(nw.from_native(table, eager_only=True)).product(1)
    return product.label, product.detail


def test_items_get_the_names_their_source_has():
    hm = {
        "product_code": "108775",
        "prod_name": "Strap top",
        "product_type_name": "Vest top",
        "colour_group_name": "Black",
    }
    assert label_of(**hm) == ("Strap top", "Vest top, Black")
    grocery = {
        "department": "GROCERY",
        "product_category": "SEAFOOD",
        "product_type": "SALMON",
        "package_size": "14 OZ",
    }
    assert label_of(**grocery) == ("Salmon", "Seafood, 14 OZ")
    assert label_of(Description="WHITE T-LIGHT  HOLDER") == ("White t-light holder", "")


def test_an_item_without_a_name_is_called_by_its_id():
    assert label_of() == ("Item 0108775015", "")
    assert label_of(prod_name=None) == ("Item 0108775015", "")


UNDATED = ["model.time_gaps=false"]


@pytest.mark.parametrize(
    ("settings", "held_out", "said"),
    [
        ([], "2 held-out weeks", "No leak"),
        (["training.until=test"], "2 held-out weeks", "learned only from purchases before the first tested window"),
        (["split.horizon_days=14"], "2 held-out windows of 14 days", "14 days to come"),
        (["split.protocol=leave_one_out", *UNDATED], "the last purchase of each customer", "looks into the future"),
        (["split.protocol=customers", *UNDATED], "the last purchase of customers never learned from", "seed 42"),
    ],
)
def test_every_protocol_is_told_in_its_own_words(shop, settings, held_out, said):
    config = load_config(None, settings)
    scores = load_scores(Path("reports/small/metrics.json"), "small")
    assert windows(config.split, 2) == held_out
    assert said in words(protocol(config, scores))


def test_every_source_has_a_note():
    for source in ("completejourney", "hm", "table", "sequences"):
        assert len(source_note(load_config(None, [f"data.source={source}"]))) > 20


def test_a_page_of_scores_with_nothing_optional_leaves_those_sections_out(shop, gallery):
    run = find_run("small")
    bare = {"systems": {"decoder": {"map@12": {"value": 0.1}}}, "folds": example_run.scores()["folds"]}
    path = example_run.write_scores("bare", bare)
    log = {"val_map@12": (np.arange(2.0), np.ones(2))}
    text = build_page(run, run.open_data(), load_scores(path, "bare"), log, gallery, date(2020, 4, 1))
    ids = [attributes["id"] for tag, attributes in Outline(text).tags if tag == "section"]
    assert tuple(ids) == tuple(name for name in SECTIONS if name not in ("differences", "segments"))
    assert "The decoder was scored alone" in text
    assert "1 Apr 2020" in text


def test_each_kind_of_run_says_what_stops_its_training():
    said = {
        "stops after 3 epochs without a better score on the validation window": ["training.patience=3"],
        "Every epoch (2 in all) is judged by the score on the validation window": ["training.epochs=2"],
        "Training stops after one epoch without a better score": ["training.patience=1"],
        "A few numbers that weigh the parts of a score are fitted to the same purchases": [],
        "runs to its end, epoch 7, which is kept": ["training.until=test", "training.epochs=7"],
        "a better score on half of the held-out customers": [
            *("split.protocol=customers", "training.patience=3"),
            *UNDATED,
        ],
        "lowest loss on half of the held-out customers, who are never learned from, is kept; training always runs": [
            *("original.family=id", "split.protocol=customers", "training.epochs=7", "training.patience=100")
        ],
        "lowest loss on the validation window, which is never learned from, is kept; training stops after 3 epochs": [
            *("original.family=bert", "training.patience=3")
        ],
    }
    for sentence, settings in said.items():
        template = '{% from "training_words.html.j2" import how_long %}{{ how_long(config) }}'
        assert sentence in words(fill(template, config=load_config(None, settings)))


def test_scores_on_held_out_customers_are_shown_for_a_published_decoder_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = {"loss": 6.47981, "entropy": 5.5, "n_customers": 53, "n_purchases": 1242}
    scores |= {"recall_next_item": {"1": 0.0041, "5": 0.01}, "recall_whole_sequence": {"1": 0.0, "5": 0.002}}
    for name, kind in (("published", "id"), ("own", "null")):
        example_run.write_run(name, f"data.name={name}", f"original.family={kind}")
        example_run.write_scores(name)
        example_run.write_lists(name)
        write_json(Path("reports") / name / "held_out.json", scores)
        assert invoke("--run", name).exit_code == 0
    published, own = (words((tmp_path / f"reports/{name}/index.html").read_text()) for name in ("published", "own"))
    assert "1,242 purchases of 53 customers that were neither learned from nor chose the epoch." in published
    assert (
        "Loss 6.4798 – Entropy of the predictions 5.5000 – Recall@1 0.0041 0.0000 Recall@5 0.0100 0.0020" in published
    )
    assert "The epoch with the lowest loss on the validation window" in published
    assert "held-out customers" not in own
    assert "Loss and validation score over the steps of training." in own


def test_a_report_that_exists_is_replaced_only_by_force(shop):
    before = PAGE.read_bytes()
    assert isinstance(invoke("--run", "small").exception, OutputExistsError)
    assert PAGE.read_bytes() == before
    assert invoke("--run", "small", "--force").exit_code == 0
    assert PAGE.read_bytes() == before


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("reports/small/metrics.json", "run `recsys evaluate --run small` first"),
        ("reports/small/recommendations/decoder/2020-03-25.parquet", "run `recsys predict --folds --run small` first"),
        ("models/small/metrics.csv", "metrics.csv is missing"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it_and_the_old_page_stays(shop, tmp_path, lost, said):
    before = PAGE.read_bytes()
    shutil.move(lost, tmp_path / "kept")
    try:
        error = invoke("--run", "small", "--force").exception
    finally:
        shutil.move(tmp_path / "kept", lost)
    assert isinstance(error, RunError)
    assert said in str(error)
    assert "\n" not in str(error)
    assert PAGE.read_bytes() == before


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium or chrome on this machine")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-quic"])
        yield started
        started.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_a_browser_shows_every_section_and_asks_for_nothing(shop, browser, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    tab = context.new_page()
    talk, requests = [], []
    tab.on("console", lambda message: talk.append(message.text))
    tab.on("pageerror", lambda error: talk.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    address = (shop / PAGE).as_uri()
    tab.goto(address)
    hidden = [name for name in SECTIONS if not tab.locator(f"section#{name} h2").is_visible()]
    charts = tab.locator("figure svg:visible").count()
    overflow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    low = tab.evaluate(CONTRAST)
    context.close()
    assert (talk, requests, hidden, charts, overflow) == ([], [address], [], 5, 0)
    assert low == []


#: Texts whose contrast against the nearest ground behind them is below 4.5 (WCAG 2, AA).
CONTRAST = """() => {
  const light = (c) => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const low = new Set();
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.closest('.skip')) continue;
    const svg = e.closest('svg') !== null;
    const [a, b] = [light(getComputedStyle(e)[svg ? 'fill' : 'color']), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.add(e.tagName + ' ' + e.className + ' ' + e.textContent.trim().slice(0, 20));
  }
  return [...low];
}"""


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("recsys train --config a.yaml --set name=toy", "recsys train --config a.yaml --set name=toy"),
        ("recsys train --config a.yaml --resume", "recsys train --config models/toy/config.yaml"),
        ("recsys train --set training.epochs=1", "recsys train --config models/toy/config.yaml"),
        (None, "recsys train --config models/toy/config.yaml"),
    ],
)
def test_the_commands_that_make_a_page_again_make_the_whole_training_again(recorded, shown):
    found = Run(Path("models/toy"), load_config(), {"command": recorded})
    assert commands(found)[0] == shown

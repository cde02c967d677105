"""The page of the service, in a browser: every page opened, searched, clicked, by mouse and by keyboard."""
# Long because: one service and one browser are shared by the tests of six pages.

import http.client
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
import uvicorn
from PIL import Image

import recsys
from recsys.runs import Run, config_in
from recsys.serving.app import build_app
from recsys.serving.service import Service
from recsys.serving.store import Store
from recsys.storage import read_json

N_USERS, N_ITEMS, N_DAYS = 30, 60, 80
LAST = date(2024, 6, 30)
HOSTILE = "<img src=x onerror=document.title='broken'>"
PAGES = ("customer", "scenarios", "map", "item", "try", "quality")
TITLES = {
    "en": ("What will they buy next?", "Scenarios", "Map of the items", "One item", "Try a history", "Quality"),
    "ru": ("Что купят дальше?", "Сценарии", "Карта товаров", "Товар", "Своя история", "Качество"),
}


def user_id(user: int) -> str:
    return f"{user:064x}"


def item_id(item: int) -> str:
    return f"{item:010d}"


def write_run() -> Run:
    """Train a small run on a shop whose first item has a hostile name, with a report, lists and one picture."""
    rng, n = np.random.default_rng(3), 2_500
    user, day = rng.integers(0, N_USERS, n), np.sort(rng.integers(0, N_DAYS, n))
    favourites = rng.integers(0, N_ITEMS, (N_USERS, 4))
    item = np.where(rng.random(n) < 0.7, favourites[user, rng.integers(0, 4, n)], rng.integers(0, N_ITEMS, n))
    item[:N_USERS], user[:N_USERS] = 0, np.arange(N_USERS)  # everybody has bought the first item
    frame = pl.DataFrame(
        {
            "user": [user_id(one) for one in user],
            "item": [item_id(one) for one in item],
            "time": [LAST - timedelta(days=int(N_DAYS - 1 - one)) for one in day],
            "price": rng.integers(1, 9, n).astype(float),
        }
    )
    items = pl.DataFrame(
        {
            "item": [item_id(one) for one in range(N_ITEMS)],
            "prod_name": [HOSTILE, *(f"Scarf {one}" for one in range(1, N_ITEMS))],
            "product_type_name": [("Scarf", "Hat", "Glove")[one % 3] for one in range(N_ITEMS)],
            "colour_group_name": [("Dark Blue", "Red", "White", "Black")[one % 4] for one in range(N_ITEMS)],
        }
    )
    shop = recsys.Purchases.from_frame(frame, user="user", item="item", time="time", price="price", items=items)
    settings = {"model.width": 16, "model.n_layers": 1, "training.query_windows": 2, "training.epochs": 1}
    model = recsys.fit(shop, until="end", settings=settings)
    model.save("models/shop")
    folder = Path("models/shop")
    run = Run(folder, config_in(folder), read_json(folder / "run.json"))
    run.report_folder.mkdir(parents=True)
    (run.report_folder / "index.html").write_text("<!DOCTYPE html><title>R</title><h1>How good it is</h1>", "utf-8")
    model.recommend(k=5).write_parquet(run.report_folder / "recommendations.parquet")
    picture = Path("data/raw/frame/images/000") / f"{item_id(1)}.jpg"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (30, 40), (200, 30, 40)).save(picture)
    return run


@contextmanager
def serving(run: Run, keys: dict | None = None) -> Iterator[str]:
    """Serve a run on a port of its own, by the real application; yields its address."""
    store = Store.open(f"sqlite:///serving-{len(keys or {})}.sqlite")
    service = Service([run], store, deadline_s=30)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(build_app(service, keys or {}, 1e6), log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()
    service.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("shop"))
        yield write_run()


@pytest.fixture(scope="module")
def address(run) -> Iterator[str]:
    with serving(run) as found:
        yield found


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


@contextmanager
def tab_of(browser, address, page="", width=1300, lang="en", scheme="light"):
    """Open a page; afterwards nothing was said on the console, and nothing was asked of another host."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, locale=lang, color_scheme=scheme, reduced_motion="reduce"
    )
    tab, talk, asked = context.new_page(), [], []
    tab.set_default_timeout(15_000)
    tab.on("console", lambda message: talk.append(message.text))
    tab.on("pageerror", lambda error: talk.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{address}/#/{page}")
    yield tab
    context.close()
    assert talk == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def ready(tab, page):
    """Wait until a page shows what it is for."""
    shown = {
        "customer": ".recommended > li",
        "scenarios": ".trio .recommended > li",
        "map": ".stage[data-in-view]",
        "item": ".near > li",
        "try": ".recommended > li",
        "quality": "iframe",
    }
    tab.wait_for_selector(shown[page])


def names(tab, box=".recommended"):
    return tab.locator(f"{box} .name").all_inner_texts()


def until(is_so):
    """Wait until ``is_so()``: what the page allows no script to ask for it."""
    end = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < end, "it did not become so within 15 seconds"
        time.sleep(0.02)


def find(tab, label, text):
    """Search by keyboard and take the first suggestion."""
    field = tab.get_by_role("combobox", name=label, exact=True)
    field.press_sequentially(text)
    field.press("Enter")


def status(address, path):
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    connection.request("GET", path)
    found = connection.getresponse().status
    connection.close()
    return found


def address_of(tab):
    return tab.evaluate("location.hash")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("lang", "width", "scheme", "is_judged"),
    [("en", 1300, "light", True), ("ru", 390, "dark", True), ("ru", 1300, "light", False), ("en", 390, "dark", False)],
)
def test_every_page_is_whole_fits_and_has_no_serious_barrier(browser, address, page, lang, width, scheme, is_judged):
    with tab_of(browser, address, page, width, lang, scheme) as tab:
        ready(tab, page)
        assert tab.locator("h1").inner_text() == TITLES[lang][PAGES.index(page)]
        assert tab.locator("html").get_attribute("lang") == lang
        assert tab.locator("nav a[aria-current=page]").count() == 1
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if is_judged:
            axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
            # Not within frames: the report's has a sandbox, which the messages of axe do not get into.
            found = axe.Axe().run(tab, options={"iframes": False}).response["violations"]
            serious = [one for one in found if one["impact"] in ("serious", "critical")]
            assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == []


def test_both_languages_have_the_same_words(root):
    keys = []
    for lang in ("en", "ru"):
        text = (root / f"recsys/serving/static/text.{lang}.js").read_text("utf-8")
        text = re.sub(r'"[^"]*"', "", text[: text.index("\n};")])
        keys.append(sorted(re.findall(r"(\w+):", text)))
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == len(keys[0]) > 100


def test_language_and_colours_are_switched_by_keyboard_and_kept(browser, address):
    with tab_of(browser, address, "try") as tab:
        ready(tab, "try")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "skip"
        tab.focus("#theme")
        tab.keyboard.press("Enter")
        tab.keyboard.press("Enter")
        assert tab.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("html[lang=ru]")
        tab.reload()
        ready(tab, "try")
        assert tab.locator("h1").inner_text() == "Своя история"


def test_a_name_out_of_the_data_stays_text(browser, address):
    with tab_of(browser, address, f"item/{item_id(0)}") as tab:
        ready(tab, "item")
        assert tab.locator("h2").first.inner_text() == HOSTILE
        assert "broken" not in tab.title()
        assert tab.locator("main img").count() == 0


def test_a_customer_is_found_saved_and_drawn_by_chance(browser, address):
    with tab_of(browser, address) as tab:
        ready(tab, "customer")
        find(tab, "Customer", user_id(5))
        until(lambda: user_id(5) in address_of(tab))
        tab.get_by_role("button", name="Save this customer").click()
        tab.wait_for_selector(".saved .chip[aria-current=true]")
        tab.get_by_role("button", name="Roll the dice").click()
        until(lambda: user_id(5) not in address_of(tab))
        tab.locator(".saved .chip").first.click()
        until(lambda: user_id(5) in address_of(tab))
        tab.get_by_role("button", name="Take this customer off").click()
        tab.wait_for_selector(".saved .none")


def test_a_purchase_taken_out_or_added_changes_the_list(browser, address):
    with tab_of(browser, address, f"customer/{user_id(3)}") as tab:
        ready(tab, "customer")
        before = names(tab)
        for _ in range(4):
            tab.locator(".bought:not(.gone) .remove").first.click()
        until(lambda: names(tab) != before)
        assert "4 removed" in tab.locator(".whatif").inner_text()
        find(tab, "Add a purchase", item_id(7))
        until(lambda: "1 added" in tab.locator(".whatif").inner_text())
        assert tab.locator(".bought .name").first.inner_text() == "Scarf 7"
        tab.get_by_role("button", name="Undo all").click()
        until(lambda: names(tab) == before)


def test_an_item_pointed_at_lights_the_purchases_that_carried_it(browser, address):
    with tab_of(browser, address, f"customer/{user_id(3)}") as tab:
        ready(tab, "customer")
        row = tab.locator(".recommended > li:has(.why)").first
        row.hover()
        tab.wait_for_selector(".bought.lit .share:not(:empty)")
        tab.mouse.move(5, 5)
        tab.wait_for_selector(".bought.lit", state="detached")
        row.locator(".why").press("Enter")
        assert row.locator(".why").get_attribute("aria-pressed") == "true"
        assert tab.locator(".bought.lit").count() > 0


def test_date_rules_and_kind_of_list_are_chosen(browser, address):
    with tab_of(browser, address, f"customer/{user_id(3)}") as tab:
        ready(tab, "customer")
        tab.locator(".controls select").select_option("One week before")
        tab.wait_for_selector(".hits")
        n_hits = int(tab.locator(".hits").inner_text().split()[0])
        assert tab.locator(".recommended > li.hit").count() == n_hits
        ours = names(tab)
        tab.get_by_role("button", name="Best sellers of the week").click()
        until(lambda: names(tab) != ours)
        tab.get_by_role("button", name="Our model").click()
        tab.get_by_label("Discoveries").check()
        tab.wait_for_selector(".recommended .mark.repeat", state="detached")
        tab.get_by_label("Repeats").check()
        tab.wait_for_selector(".recommended > li:not(:has(.mark.repeat))", state="detached")


def test_rules_are_tried_before_they_are_saved(browser, address):
    with tab_of(browser, address, "scenarios") as tab:
        ready(tab, "scenarios")
        assert tab.locator(".trio > div").count() == 3
        find(tab, "Pin: item", item_id(9))
        until(lambda: tab.locator(".trio li:first-child .name").all_inner_texts() == ["Scarf 9"] * 3)
        until(lambda: tab.locator(".cover").count() == 2)
        tab.get_by_label("Name").fill("Spring")
        tab.get_by_label("Who changes it").fill("Ada")
        tab.get_by_role("button", name="Save the scenario").click()
        tab.wait_for_selector("option:checked:text('Spring')", state="attached")
        tab.get_by_text("Changes", exact=True).click()
        tab.wait_for_selector(".editor details li:has-text('Ada')")
        tab.on("dialog", lambda dialog: dialog.accept())
        tab.get_by_role("button", name="Delete").click()
        tab.wait_for_selector("option:text('Spring')", state="detached")


def test_the_map_is_searched_zoomed_and_lassoed(browser, address):
    with tab_of(browser, address, "map") as tab:
        ready(tab, "map")
        stage = tab.locator(".stage")
        assert stage.get_attribute("data-in-view") == str(N_ITEMS)
        stage.focus()
        for _ in range(4):
            tab.keyboard.press("+")
        until(lambda: int(stage.get_attribute("data-in-view")) < N_ITEMS)
        tab.keyboard.press("0")
        tab.get_by_role("radio", name="Lasso").check()
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)]
        for number, (x, y) in enumerate(corners):
            tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if not number:
                tab.mouse.down()
        tab.mouse.up()
        tab.wait_for_selector(".chosen table")
        assert tab.locator(".chosen tbody tr").count() > N_ITEMS / 2
        find(tab, "Find on the map", item_id(11))
        until(lambda: tab.locator("#said").inner_text() == "Scarf 11")
        tab.get_by_role("radio", name="Move").check()
        tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.wait_for_selector("h2:text-is('Scarf 11')")


def test_a_customers_way_over_the_map_is_shown_and_taken_away(browser, address):
    with tab_of(browser, address, f"map?customer={user_id(2)}") as tab:
        tab.wait_for_selector(".pathnote a")
        tab.get_by_role("button", name="Take the path away").click()
        assert tab.locator(".pathnote").is_hidden()


def test_an_item_says_what_stands_around_it_and_leads_on(browser, address):
    with tab_of(browser, address, "item") as tab:
        ready(tab, "item")
        find(tab, "Item", item_id(1))
        tab.wait_for_selector("h2:text-is('Scarf 1')")
        tab.wait_for_selector(".product .tile.picture canvas")
        assert tab.locator(".cards h2").all_inner_texts()[1:4] == [
            "In the basket before",
            "In the same basket",
            "In the basket after",
        ]
        assert tab.locator(".weeks i").count() == -(-N_DAYS // 7)
        tab.get_by_role("link", name="Try a history with it").click()
        tab.wait_for_selector(".tried .name")
        assert names(tab, ".tried") == ["Scarf 1"]


def test_a_basket_gets_a_list_and_goes_on_step_by_step(browser, address):
    with tab_of(browser, address, "try") as tab:
        ready(tab, "try")
        cold = names(tab)
        find(tab, "Item", item_id(20))
        until(lambda: names(tab) != cold)
        tab.get_by_role("button", name="Next step").press("Enter")
        tab.wait_for_selector(".steps > li")
        tab.get_by_role("button", name="All steps").click()
        until(lambda: tab.locator(".steps > li").count() > 1)
        assert all(text.strip().endswith("%") for text in tab.locator(".steps .bar").all_inner_texts())
        tab.get_by_role("button", name="Empty the basket").click()
        until(lambda: names(tab) == cold)


def test_the_report_stands_in_a_frame_and_its_address_serves_once(browser, address):
    with tab_of(browser, address, "quality") as tab:
        ready(tab, "quality")
        assert tab.frame_locator("iframe").locator("h1").inner_text() == "How good it is"
        assert tab.locator("iframe").get_attribute("sandbox") == ""
        assert status(address, tab.locator("iframe").get_attribute("src")) == 404


@pytest.mark.parametrize("asked", ["../../shop", "..", "000/0000000001", f"{item_id(1)}.jpg"])
def test_only_pictures_of_known_items_are_read(address, asked):
    assert status(address, f"/v1/explore/picture?item_id={quote(asked, safe='')}") == 404
    assert status(address, f"/v1/explore/picture?item_id={item_id(1)}") == 200
    assert status(address, f"/v1/explore/picture?item_id={item_id(2)}") == 204


def test_a_key_is_asked_for_once_and_kept_by_the_tab(browser, run):
    with serving(run, {"writer": ["secret"]}) as address:
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(f"{address}/#/customer")
        tab.get_by_label("Key", exact=True).last.fill("wrong")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("text=That key was refused")
        tab.get_by_label("Key", exact=True).last.fill("secret")
        tab.keyboard.press("Enter")
        ready(tab, "customer")
        tab.goto(f"{address}/#/quality")
        ready(tab, "quality")
        assert tab.frame_locator("iframe").locator("h1").inner_text() == "How good it is"
        context.close()

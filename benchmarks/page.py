"""Measure the page in a browser without a GPU: ``python -m benchmarks.page http://127.0.0.1:8000``.

First paint, until all points of the map stand, frames a second while it is moved, an edit until the list has changed.
"""

import json
import shutil
import sys
from statistics import median

from playwright.sync_api import Page, sync_playwright

N_EDITS = 10
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
PAN = """async () => {
  const stage = document.querySelector('.stage'), box = stage.getBoundingClientRect(), n = 120;
  const at = (x) => ({pointerId: 1, clientX: box.left + x, clientY: box.top + 99});
  const fire = (type, x) => stage.dispatchEvent(new PointerEvent(type, at(x)));
  stage.setPointerCapture = () => {};
  fire('pointerdown', 99);
  const begin = performance.now();
  for (let i = 0; i < n; i++) { fire('pointermove', 99 + (i % 60) * 3); await new Promise(requestAnimationFrame); }
  fire('pointerup', 99);
  return 1000 * n / (performance.now() - begin);
}"""
EDIT = """() => new Promise((done) => {
  const begin = performance.now(), list = document.querySelector('.listed');
  const changed = (_, watcher) => { watcher.disconnect(); done(performance.now() - begin); };
  new MutationObserver(changed).observe(list, {childList: true});
  document.querySelector('.bought .remove').click();
})"""


def measure(tab: Page, address: str) -> dict[str, float]:
    """Return milliseconds, and frames a second, by what they are of."""
    tab.goto(f"{address}/#/customer")
    tab.wait_for_selector(".why")
    found = {"first paint ms": tab.evaluate(PAINT)}
    edits = []
    for _ in range(N_EDITS):
        edits.append(tab.evaluate(EDIT))
        tab.wait_for_timeout(500)
    found["edit to list ms"] = median(edits)
    tab.goto("about:blank")
    tab.goto(f"{address}/#/map")
    tab.wait_for_selector(".stage[data-in-view]")
    found["map, all points ms"] = float(tab.locator(".stage").get_attribute("data-painted") or 0)
    return found | {"map, frames a second": tab.evaluate(PAN)}


def main() -> None:
    """Print what was measured as JSON."""
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        result = measure(browser.new_page(viewport={"width": 1300, "height": 900}), sys.argv[1])
        browser.close()
    print(json.dumps({name: round(value, 1) for name, value in result.items()}))


if __name__ == "__main__":
    main()

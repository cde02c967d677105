// A history as baskets, the newest first; purchases can be lit up, taken out and put back.
import { h } from "./dom.js";
import { itemLink, detail, priceText, tile } from "./product.js";
import { date, ellipsis, percent, t } from "./text.js";

const SHOWN = 12;

/** Return {element, light}: `light(map of item id → share, or null, whole)` marks the purchases of these items and
 * scrolls to them; `whole` also looks among the baskets not shown yet. */
export function timeline(purchases, { removed = new Set(), remove = null } = {}) {
  const baskets = new Map();
  for (const one of purchases) {
    const key = `${one.date}/${one.basket}`;
    if (!baskets.has(key)) baskets.set(key, []);
    baskets.get(key).push(one);
  }
  const newestFirst = [...baskets.values()].reverse().sort((one, other) => other[0].date.localeCompare(one[0].date));
  const rows = new Map();
  const element = h("ol.timeline", { tabIndex: 0, "aria-label": t("history") });
  const more = h("button.small.earlier", { type: "button", onclick: () => { const at = shown; grow(SHOWN * 2); element.children[at]?.querySelector("a")?.focus(); } }, t("earlier"));
  let shown = 0;
  grow(SHOWN);

  function grow(n) {
    more.remove();
    for (const basket of newestFirst.slice(shown, shown + n)) element.append(drawBasket(basket));
    shown = Math.min(shown + n, newestFirst.length);
    if (shown < newestFirst.length) element.append(h("li.more", {}, more));
  }

  function drawBasket(basket) {
    const sum = basket.reduce((total, one) => total + (one.price ?? NaN) * (one.quantity ?? 1), 0);
    return h("li.basket", {}, h("h3", {}, h("time", { datetime: basket[0].date }, date(basket[0].date)),
      basket.some((one) => one.live) && h("span.mark.moved", {}, t("a_live")),
      basket.some((one) => one.added) && h("span.mark.moved", {}, "+"),
      sum > 0 && basket.length > 1 ? h("small", {}, ` ${basket.length} · ${priceText({ price: sum })}`) : null),
      h("ul", {}, basket.map(drawPurchase)));
  }

  function drawPurchase(one) {
    const gone = removed.has(one.key);
    const row = h("li.bought", {}, tile(one), h("span.what", {}, itemLink(one), h("small", {}, ellipsis(detail(one), 48))),
      h("span.price", {}, priceText(one)), h("span.share", { "aria-hidden": "true" }),
      remove && h("button.remove", { type: "button", "data-key": one.key, "aria-pressed": gone ? "true" : null,
        "aria-label": t("remove", { name: one.name }), onclick: () => remove(one) }, gone ? "↺" : "×"));
    if (gone) row.classList.add("gone");
    if (!rows.has(one.item_id)) rows.set(one.item_id, []);
    rows.get(one.item_id).push(row);
    return row;
  }

  let lit = [];
  function light(carried, whole = false) {
    for (const row of lit) { row.classList.remove("lit"); row.querySelector(".share").textContent = ""; }
    lit = [];
    element.classList.toggle("lights", Boolean(carried));
    if (!carried) return;
    const wanted = [...carried.keys()];
    if (whole) while (shown < newestFirst.length && !wanted.some((id) => rows.has(id))) grow(SHOWN * 2);
    for (const [id, share] of carried) {
      (rows.get(id) ?? []).forEach((row, place) => {
        row.classList.add("lit");
        row.style.setProperty("--share", String(Math.max(0.25, Math.min(1, share * 1.5))));
        if (place === 0 && share >= 0.005) row.querySelector(".share").textContent = percent(share);
        lit.push(row);
      });
    }
    const box = element.getBoundingClientRect();
    const down = lit.map((row) => row.getBoundingClientRect().top - box.top);
    if (lit.length && !down.some((top) => top >= 0 && top < box.height - 40)) {
      element.scrollBy({ top: Math.min(...down) - box.height / 3,
        behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    }
  }
  return { element, light };
}

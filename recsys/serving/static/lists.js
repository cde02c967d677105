// A list of recommendations: each item with its reason in words, and what lights up the purchases that carried it.
import { h, later, say } from "./dom.js";
import { productLine } from "./product.js";
import { percent, reason, t } from "./text.js";

/** Return [[item_id, share], …] of an item, its shares summed by past item, the largest first. */
export function carriers(item) {
  const sums = new Map();
  for (const { item_id: id, share } of item.because ?? []) sums.set(id, (sums.get(id) ?? 0) + (share ?? 0));
  return [...sums].sort((one, other) => other[1] - one[1]);
}

/**
 * Return the list as `ol`. `bought`: item id → date of what was really bought; `past`: ids bought before; `before`: item
 * id → rank in the list to compare with, or null; `light(map or null, pinned)` shows which purchases carried an item.
 */
export function recommendationList(items, { bought = new Map(), past = new Set(), before = null, light = null } = {}) {
  let pinned = null;
  const soon = later((carried) => light(carried), 60);
  const list = h("ol.recommended", {});
  items.forEach((item, place) => {
    const carried = new Map(carriers(item));
    const why = carried.size && light ? h("button.why", { type: "button", "aria-pressed": "false",
      onclick: () => pin(row, why, carried), "aria-label": t("show_carriers", { name: item.name }) }, "↤") : null;
    const row = h("li", {
      onpointerenter: () => light && !pinned && soon(carried), onpointerleave: () => light && !pinned && soon(null),
      onfocusin: () => light && !pinned && light(carried), onfocusout: () => light && !pinned && light(null),
    }, h("b.rank", {}, place + 1), productLine(item,
      item.reason ? h("small.reason", {}, reason(item.reason)) : null,
      h("span.marks", {}, marks(item, place))), why);
    if (bought.has(item.item_id)) row.classList.add("hit");
    list.append(row);
  });

  function marks(item, place) {
    const then = before?.get(item.item_id);
    return [
      bought.has(item.item_id) && h("span.mark.hit", {}, t("bought_then", { date: bought.get(item.item_id) })),
      past.has(item.item_id) && h("span.mark.repeat", {}, t("bought_before")),
      item.source === "pinned" && h("span.mark.moved", {}, t("pinned")),
      before && then === undefined && h("span.mark.moved", {}, t("is_new")),
      then !== undefined && then !== place && h("span.mark.moved", {},
        t(then > place ? "moved_up" : "moved_down", { n: Math.abs(then - place) })),
    ];
  }

  function pin(row, button, carried) {
    const again = pinned === row;
    list.querySelectorAll("[aria-pressed=true]").forEach((other) => other.setAttribute("aria-pressed", "false"));
    pinned = again ? null : row;
    button.setAttribute("aria-pressed", String(!again));
    light(again ? null : carried, !again);
    if (!again) say(t("carried_by", { n: carried.size, share: percent([...carried.values()][0]) }));
  }
  return list;
}

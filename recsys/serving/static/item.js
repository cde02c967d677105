// Page 4: one item: what is near it, what is bought around it, how it sells, who is shown it.
import { about, itemsById, post, searchItems } from "./api.js";
import { fill, h, problem } from "./dom.js";
import { itemPicker } from "./picker.js";
import { productLine, readable, tile, withAttributes } from "./product.js";
import { date, isoDay, number, shortId, t } from "./text.js";

export async function show(root, id) {
  const body = h("div.page");
  const go = (item) => { location.hash = `#/item/${encodeURIComponent(item.item_id)}`; };
  root.append(h("div.hero", {}, h("div", {}, h("h1", {}, t("item_title")), h("p.lede", {}, t("item_lede"))),
    h("div.finder", {}, itemPicker(t("find_item"), t("find_item_hint"), go))), body);
  const service = await about();
  if (!id) id = (await searchItems("", undefined, 1)).items[0]?.item_id ?? "";
  body.append(h("p.none", {}, t("loading")));
  try {
    const [facts, known] = await Promise.all([post("/v1/explore/item", { item_id: id, k: 10 }), itemsById([id])]);
    const near = await Promise.all(Object.entries(facts.near).map(async ([kind, rows]) => [kind, await withAttributes(rows)]));
    const around = await Promise.all(Object.entries(facts.around).map(async ([when, rows]) => [when, await withAttributes(rows)]));
    fill(body, headOf(facts, known.get(id)), weeksOf(facts.weeks),
      h("div.cards", {}, near.map(([kind, rows]) => card(`${t("nearest")} ${t(`near_${kind}`)}`, rows, (one) => number(one.cosine, 2), (one) => one.cosine)),
        near.length ? null : h("section.panel", {}, h("h2", {}, t("nearest")), h("p.none", {}, t("no_near"))),
        around.map(([when, rows]) => card(t(when), rows, (one) => t("baskets", { n: one.count }), (one) => one.count / (rows[0]?.count ?? 1))), recommended(facts.recommended)));
  } catch (error) { fill(body, problem(error)); }

  function headOf(facts, item) {
    const told = Object.entries(item?.attributes ?? {}).filter(([, value]) => value !== null && value !== "");
    return h("section.panel.product", {}, tile(item ?? facts), h("div", {}, h("h2", {}, facts.name), h("p.note", {}, facts.item_id, " · ",
      t("sold", { seven: item?.sold_7 ?? 0, month: item?.sold_28 ?? 0 })),
      h("dl", { "aria-label": t("attributes") }, told.map(([name, value]) => h("div", {}, h("dt", {}, readable(name.replace(/_name$/, "").replaceAll("_", " "))), h("dd", {}, readable(value)))))),
      h("p.row", {}, h("a.small", { href: `#/try?items=${encodeURIComponent(encodeURIComponent(facts.item_id))}` }, t("try_with")),
        service.maps.length > 0 && h("a.small", { href: `#/map?item=${encodeURIComponent(facts.item_id)}` }, t("show_on_map"))));
  }

  function card(title, rows, said, share) {
    return h("section.panel", {}, h("h2", {}, title), rows.length ? h("ol.near", {}, rows.map((one) => {
      const bar = h("i", { "aria-hidden": "true" });
      bar.style.setProperty("--p", String(Math.max(0, Math.min(1, share(one)))));
      return h("li", {}, productLine(one), h("span.bar", {}, said(one), bar));
    })) : h("p.none", {}, t("no_pairs")));
  }

  /** Sales by week as bars; the same figures stand in a table for who cannot see them. */
  function weeksOf({ end, counts }) {
    const most = Math.max(...counts, 1);
    const weeks = counts.map((n, place) => [isoDay(end, -7 * (counts.length - 1 - place)), n]);
    return h("section.panel", {}, h("h2", {}, t("weeks")), h("div.weeks", { "aria-hidden": "true" }, weeks.map(([day, n]) => {
      const bar = h("i", { title: t("week_of", { date: date(day), n }) });
      bar.style.setProperty("--p", String(n / most));
      return bar;
    })), h("p.axis", { "aria-hidden": "true" }, h("span", {}, date(weeks[0][0])), h("span", {}, t("week_of", { date: date(end), n: counts.at(-1) }))),
      h("details", {}, h("summary", {}, t("as_table")), h("div.scroll", { tabIndex: 0, role: "region", "aria-label": t("weeks") }, h("table", {}, h("tbody", {}, weeks.reverse().map(([day, n]) => h("tr", {}, h("th", { scope: "row" }, date(day)), h("td", {}, number(n)))))))));
  }

  function recommended(told) {
    const box = h("section.panel", {}, h("h2", {}, t("recommended_where")));
    if (!told) box.append(h("p.none", {}, t("no_lists")));
    else if (!told.n_lists) box.append(h("p.none", {}, t("in_no_list")));
    else {
      const most = Math.max(...told.ranks);
      box.append(h("p.note", {}, t("in_lists", { n: told.n_lists, best: told.ranks.findIndex((n) => n > 0) + 1 })),
        h("ol.ranks", { "aria-label": t("lists_by_rank") }, told.ranks.map((n, place) => {
          const bar = h("i", { "aria-hidden": "true" });
          bar.style.setProperty("--p", String(n / most));
          return h("li", {}, bar, h("span", { "aria-hidden": "true" }, place + 1), h("span.hidden", {}, t("at_rank", { n: place + 1, count: n })));
        })), h("h3", {}, t("some_customers")), h("ul.row", {}, told.customers.map((one) => h("li", {}, h("a.chip", { href: `#/customer/${encodeURIComponent(one)}` }, shortId(one))))));
    }
    return box;
  }
}

// Page 5: a history put together by hand, its list at once, and how the model would go on.
import { about, itemsById, newest, post, searchItems } from "./api.js";
import { fill, h, problem, say, select } from "./dom.js";
import { recommendationList } from "./lists.js";
import { itemPicker } from "./picker.js";
import { productLine, withAttributes } from "./product.js";
import { isoDay, percent, t } from "./text.js";
import { timelineLights } from "./lights.js";

const KEPT = "recsys-basket";
const N_STEPS = 8;

export async function show(root, argument, options) {
  const service = await about();
  const today = isoDay(service.data.last_date, 1);
  const basketBox = h("section.panel"), listBox = h("section.panel.listed"), moreBox = h("section.panel");
  root.append(h("div.hero", {}, h("div", {}, h("h1", {}, t("try_title")), h("p.lede", {}, t("try_lede")))),
    h("div.two", {}, h("div.page", {}, basketBox, moreBox), listBox));
  let basket = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
  const given = options.get("items")?.split(",").map(decodeURIComponent).filter(Boolean) ?? [];
  if (given.length) basket = given.map((item_id) => ({ item_id, date: isoDay(today, -1) }));
  const known = await itemsById(basket.map((one) => one.item_id));
  basket = basket.filter((one) => known.has(one.item_id)).map((one) => ({ ...known.get(one.item_id), date: one.date }));
  const recommend = newest((signal, body) => post("/v1/recommend", { ...body, kept: false }, signal));
  const lights = timelineLights(basketBox);
  let continued = null, revealed = 0, seed = 1, method = "sample";

  const history = () => basket.map(({ item_id, date }) => ({ item_id, date }));
  drawBasket();
  drawContinuation();
  await refresh();

  function changed() {
    sessionStorage.setItem(KEPT, JSON.stringify(history()));
    continued = null;
    revealed = 0;
    drawBasket();
    drawContinuation();
    return refresh();
  }

  function drawBasket() {
    const picker = itemPicker(t("find_item"), t("find_item_hint"), (item) => {
      basket.push({ ...item, date: isoDay(today, -1) });
      changed();
      basketBox.querySelector("input").focus();
    });
    const rows = basket.map((one, place) => {
      const day = h("input", { type: "date", value: one.date, max: isoDay(today, -1), "aria-label": `${t("bought_on")}: ${one.name}`,
        onchange: () => { if (day.checkValidity() && day.value) { one.date = day.value; changed(); } } });
      const row = h("li.bought", {}, productLine(one), h("span.share", { "aria-hidden": "true" }), day, h("button.remove", { type: "button", "aria-label": t("remove", { name: one.name }),
        onclick: () => { basket.splice(place, 1); changed(); basketBox.querySelector("input").focus(); } }, "×"));
      row.dataset.item = one.item_id;
      return row;
    });
    fill(basketBox, h("header", {}, h("h2", {}, t("basket"))), picker,
      rows.length ? h("ul.tried", {}, rows) : h("div.row", {}, h("p.none", {}, t("basket_empty")),
        h("button.chip", { type: "button", onclick: example }, t("example"))),
      rows.length > 0 && h("div.row", {}, h("button.small", { type: "button", onclick: () => { basket = []; changed(); } }, t("clear"))));
  }

  async function example() {
    const found = await searchItems("", undefined, 40);
    basket = [1, 7, 18].map((place) => found.items[place]).filter(Boolean).map((item, place) => ({ ...item, date: isoDay(today, -1 - 3 * place) }));
    changed();
  }

  async function refresh() {
    const begin = performance.now();
    try {
      const question = { ...(basket.length && { history: history() }), k: 12 };
      const answer = await recommend(question);
      if (!answer) return;
      const ms = Math.round(performance.now() - begin);
      await drawList(answer, ms);
      const explained = await recommend({ ...question, reasons: true });
      if (explained) await drawList(explained, ms);
    } catch (error) { fill(listBox, problem(error)); }
  }

  async function drawList(answer, ms) {
    listBox.dataset.ms = ms;
    const items = await withAttributes(answer.items);
    fill(listBox, h("header", {}, h("h2", {}, t("list"))), basket.length ? null : h("p.note", {}, t("try_list_empty")),
      recommendationList(items, { past: new Set(basket.map((one) => one.item_id)), light: lights }), h("p.foot", {}, t("took", { ms })));
    say(t("whole_list", { n: items.length, ms }));
  }

  function drawContinuation() {
    const header = h("header", {}, h("h2", {}, t("continuation")), h("p.lede", {}, t("continuation_lede")));
  
    const steps = (continued?.steps ?? []).slice(0, revealed);
    const left = continued ? continued.steps.length - revealed : 1;
    const list = h("ol.steps", {}, steps.map((one, place) => {
      const bar = h("i", { "aria-hidden": "true" });
      bar.style.setProperty("--p", String(one.probability));
      return h("li", {}, h("b.rank", {}, place + 1), productLine(one), h("span.bar", { title: t("probability") }, percent(one.probability), bar));
    }));
    fill(moreBox, header, h("div.row", {},
      h("button.primary.next", { type: "button", disabled: left === 0, onclick: () => reveal(1) }, t("next_step")),
      h("button.small", { type: "button", disabled: left === 0, onclick: () => reveal(N_STEPS) }, t("all_steps")),
      h("button.small", { type: "button", disabled: method === "greedy", onclick: () => { seed += 1; continued = null; const n = Math.max(revealed, 1); revealed = 0; reveal(n); } }, t("again")),
      h("label.field", {}, h("span", {}, t("method")), select([["sample", t("drawn")], ["greedy", t("likeliest")]], method, (value) => {
        method = value; continued = null; const n = revealed; revealed = 0; if (n) reveal(n); else drawContinuation();
      }))), list, left === 0 && continued.ended ? h("p.note", {}, t("ended")) : null);
  }

  async function reveal(n) {
    try {
      continued ||= await post("/v1/explore/continue", { history: history(), n: N_STEPS, seed, method }).then(async (found) => ({ ...found, steps: await withAttributes(found.steps) }));
    } catch (error) { moreBox.append(problem(error)); return; }
    revealed = Math.min(revealed + n, continued.steps.length);
    drawContinuation();
    const last = continued.steps[revealed - 1];
    if (last) say(t("step_said", { n: revealed, name: last.name, p: percent(last.probability) }));
    (moreBox.querySelector(".next:not(:disabled)") ?? moreBox.querySelector("button:not(:disabled)"))?.focus();
  }
}

// Page 1: somebody's history as baskets, and beside it what is recommended to them, and why.
import { about, get, newest, post, put } from "./api.js";
import { combobox } from "./combobox.js";
import { field, fill, h, newId, problem, say, segmented, select } from "./dom.js";
import { recommendationList } from "./lists.js";
import { itemPicker } from "./picker.js";
import { withAttributes } from "./product.js";
import { date, isoDay, shortId, systemName, t } from "./text.js";
import { timeline } from "./timeline.js";

const HISTORY = 5000, ASKED = 2000; // purchases that the service says, and that a question may hold

export async function show(root, id, options) {
  const service = await about();
  const state = {
    id, day: options.get("date") || null, k: Number(options.get("k")) || 12, repeats: options.get("show") || "keep",
    on_sale: options.has("on_sale"), system: service.systems.includes(options.get("system")) ? options.get("system") : null,
    removed: new Set(), added: [], plain: null, saved: [],
  };
  const head = h("div.person"), controls = h("div.controls"), left = h("section.panel.history"), right = h("section.panel.listed");
  const recommend = newest((signal, body) => post("/v1/recommend", { ...body, kept: false }, signal));
  let purchases = [], later = [], shownTimeline = null, answer = null, failed = null, roundTrip = 0;
  const edited = () => state.removed.size + state.added.length > 0;

  root.append(h("div.hero", {}, h("div", {}, h("h1", {}, t("customer_title")), h("p.lede", {}, t("customer_lede"))), finder()),
    head, controls, h("div.two", {}, left, right));
  state.saved = (await get("/v1/saved-customers").catch(() => ({ customer_ids: [] }))).customer_ids;
  if (!state.id) state.id = state.saved[0] ?? await anybody();
  await open();

  function finder() {
    const search = combobox({
      label: t("find_customer"), placeholder: t("find_customer_hint"),
      search: async (search, signal) => {
        const found = await post("/v1/customers/query", { search, limit: 8 }, signal);
        return { total: found.total, rows: found.customers };
      },
      line: customerLine, text: (one) => one.customer_id, take: (one) => go(one.customer_id),
    });
    const dice = h("button.primary.dice", { type: "button", onclick: async () => go(await anybody()) },
      h("span", { "aria-hidden": "true" }, "⚄"), t("roll"));
    return h("div.finder", {}, search, dice);
  }

  function customerLine(one) {
    return [h("b", {}, shortId(one.customer_id)), h("small", {}, t("n_purchases", { n: one.n_purchases }), " · ",
      t("from_to", { first: date(one.first_date), last: date(one.last_date) }))];
  }

  function go(customer) {
    history.replaceState(null, "", address(customer));
    Object.assign(state, { id: customer, removed: new Set(), added: [] });
    open();
  }

  function address(customer) {
    const said = new URLSearchParams();
    if (state.day) said.set("date", state.day);
    if (state.k !== 12) said.set("k", state.k);
    if (state.repeats !== "keep") said.set("show", state.repeats);
    if (state.on_sale) said.set("on_sale", "1");
    if (state.system) said.set("system", state.system);
    return `#/customer/${encodeURIComponent(customer)}${said.size ? `?${said}` : ""}`;
  }

  /** Show the customer: history and list are asked for at the same time. */
  async function open() {
    state.plain = null;
    drawControls();
    try {
      const [person, told] = await Promise.all([
        post("/v1/customers/query", { ids: [state.id], limit: 1 }),
        post("/v1/customers/history", { customer_id: state.id, ...(state.day && { date: state.day }), limit: HISTORY }),
        ask(),
      ]);
      purchases = await withAttributes(told.purchases.map((one, place) => ({ ...one, key: `${place}` })));
      later = told.later;
      drawHead(person.customers[0]);
      drawHistory();
      await drawWhole();
    } catch (error) {
      fill(left, problem(error));
      fill(right);
    }
  }

  function drawHead(person) {
    const isSaved = state.saved.includes(state.id);
    const star = h("button.star", { type: "button", "aria-pressed": String(isSaved), "aria-label": t(isSaved ? "unsave_now" : "save_now"),
      onclick: () => keep(person) }, isSaved ? "★" : "☆");
    const known = Object.values(person?.attributes ?? {}).filter((value) => value !== null && value !== "");
    fill(head, h("div.who", {}, star, h("h2", { title: state.id }, t("customer_heading", { id: shortId(state.id) })),
      person && h("p", {}, t("n_purchases", { n: person.n_purchases }), " · ",
        t("from_to", { first: date(person.first_date), last: date(person.last_date) })),
      h("ul.chips", {}, known.slice(0, 7).map((value) => h("li", {}, String(value)))),
      service.maps.length > 0 && h("a.small", { href: `#/map?customer=${encodeURIComponent(state.id)}` }, t("on_map"))), savedRow());
  }

  function savedRow() {
    return h("div.saved", {}, h("h3", {}, t("saved")), state.saved.length ? h("ul", {}, state.saved.map((one) => h("li", {},
      h("button.chip", { type: "button", "aria-current": one === state.id ? "true" : null, title: one, onclick: () => go(one) },
        shortId(one))))) : h("p.none", {}, t("no_saved")));
  }

  async function keep(person) {
    const without = state.saved.filter((one) => one !== state.id);
    const wanted = without.length < state.saved.length ? without : [...state.saved, state.id];
    try {
      state.saved = (await put("/v1/saved-customers", { customer_ids: wanted })).customer_ids ?? wanted;
    } catch (error) { say(error.message, true); return; }
    drawHead(person);
    head.querySelector(".star").focus();
  }

  function drawControls() {
    const today = isoDay(service.data.last_date, 1);
    const whens = [[today, t("when_now")], [isoDay(today, -7), t("when_week")], [isoDay(today, -28), t("when_month")]];
    const current = state.day ?? today;
    const other = whens.every(([day]) => day !== current);
    const input = h("input", { type: "date", value: current, min: isoDay(service.data.first_date, 1), max: today,
      onchange: () => input.checkValidity() && input.value && change({ day: input.value }) });
    const k = h("input", { type: "number", min: "1", max: String(service.k_max ?? 100), value: String(state.k),
      onchange: () => k.checkValidity() && change({ k: Number(k.value) }, false) });
    fill(controls,
      field(t("when"), select([...whens, ...(other ? [[current, t("when_other")]] : [])], current, (day) => change({ day: day === today ? null : day }))),
      field(t("when_other"), input), field(t("k"), k),
      segmented(t("repeats"), ["only", "keep", "none"].map((one) => [one, t(`repeats_${one}`)]), state.repeats, (repeats) => change({ repeats }, false)),
      h("label.check", {}, h("input", { type: "checkbox", checked: state.on_sale,
        onchange: (event) => change({ on_sale: event.target.checked }, false) }), h("span", {}, t("on_sale"))));
  }

  function change(values, whole = true) {
    Object.assign(state, values);
    history.replaceState(null, "", address(state.id));
    if (whole) return open();
    state.plain = null;
    return refresh();
  }

  function question(reasons) {
    const kept = [...purchases.filter((one) => !state.removed.has(one.key)), ...state.added];
    return {
      ...(edited() ? { history: kept.slice(-ASKED).map(({ item_id, date: day, quantity }) => ({ item_id, date: day, quantity })) } : { customer_id: state.id }),
      k: state.k, reasons, repeats: state.repeats, ...(state.day && { date: state.day }),
      ...(state.on_sale && { candidates: "on_sale" }), ...(state.system && { system: state.system }),
    };
  }

  /** Ask for the list, or once more for the same with reasons, which take ten times as long. */
  async function ask(reasons = false) {
    const begin = performance.now();
    try {
      const found = await recommend(question(reasons));
      if (!found) return false;
      if (!reasons) roundTrip = performance.now() - begin;
      answer = { ...found, items: await withAttributes(found.items) };
      failed = null;
    } catch (error) { answer = null; failed = error; }
    if (answer && !edited()) state.plain = answer.items;
    return true;
  }
  async function refresh() { if (await ask()) await drawWhole(); }
  async function drawWhole() {
    drawList();
    if (!state.system && answer && await ask(true)) drawList();
  }

  function drawHistory() {
    shownTimeline = timeline([...purchases, ...state.added], {
      removed: state.removed,
      remove: (one) => {
        if (state.added.includes(one)) state.added.splice(state.added.indexOf(one), 1);
        else if (state.removed.has(one.key)) state.removed.delete(one.key);
        else state.removed.add(one.key);
        edit();
      },
    });
    const picker = itemPicker(t("add_purchase"), t("add_hint"), (item) => {
      state.added.push({ ...item, key: newId("added"), date: isoDay(state.day ?? isoDay(service.data.last_date, 1), -1), quantity: 1,
        price: null, basket: "added", live: false, added: true });
      edit();
    });
    const undo = h("p.whatif", { hidden: !edited() }, t("changed", { added: state.added.length, removed: state.removed.size }), " ",
      h("button.small", { type: "button", onclick: () => { state.added = []; state.removed.clear(); edit(); } }, t("undo_all")));
    fill(left, h("header", {}, h("h2", {}, t("history")), h("p.lede", {}, t("history_note"))), picker, undo,
      purchases.length + state.added.length ? shownTimeline.element : h("p.none", {}, t("no_history")));
  }

  function edit() {
    refresh(); // asked before anything is drawn
    const place = left.querySelector(".timeline")?.scrollTop ?? 0;
    const focused = document.activeElement?.dataset?.key;
    drawHistory();
    const line = left.querySelector(".timeline");
    if (line) line.scrollTop = place;
    if (focused) left.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  function drawList() {
    const systems = [null, ...service.systems.filter((one) => one !== "decoder")];
    const tabs = h("div.systems", { role: "group", "aria-label": t("list_of") }, systems.map((one) => h("button.chip", { type: "button",
      "aria-pressed": String(one === state.system), onclick: () => pickSystem(one) }, systemName(one ?? "decoder"))));
    const header = h("header", {}, h("h2", {}, t("list"), answer && h("small", {}, " ", t("list_for", { date: date(answer.snapshot_date) }))), tabs);
    if (!answer) { fill(right, header, failed ? problem(failed) : null); return; }
    const bought = new Map();
    for (const one of later) if (!bought.has(one.item_id)) bought.set(one.item_id, date(one.date));
    const hits = answer.items.filter((one) => bought.has(one.item_id)).length;
    const past = new Set([...purchases.filter((one) => !state.removed.has(one.key)), ...state.added].map((one) => one.item_id));
    const before = edited() && state.plain ? new Map(state.plain.map((one, place) => [one.item_id, place])) : null;
    const list = recommendationList(answer.items, { bought, past, before, light: (carried, pinned) => shownTimeline?.light(carried, pinned) });
    const note = later.length ? [t("later_known", { n: later.length }), " ", h("strong.hits", {}, t("hits", { n: hits, k: answer.items.length }))]
      : t("later_unknown");
    const held = right.contains(document.activeElement) ? keyOf(document.activeElement) : null;
    fill(right, header, h("p.note", {}, note), answer.warnings.map((text) => h("p.note", {}, text)), list,
      h("p.foot", {}, t("took", { ms: Math.round(roundTrip) }), state.system ? null : [" · ", t("carrier_hint")]));
    right.dataset.ms = Math.round(roundTrip);
    if (held) [...right.querySelectorAll("a, button")].find((one) => keyOf(one) === held)?.focus();
    say(t("whole_list", { n: answer.items.length, ms: Math.round(roundTrip) }));
  }

  async function pickSystem(system) {
    Object.assign(state, { system, plain: null });
    history.replaceState(null, "", address(state.id));
    await refresh();
    [...right.querySelectorAll(".systems button")].find((one) => one.getAttribute("aria-pressed") === "true")?.focus();
  }
}

const keyOf = (element) => element.getAttribute("href") ?? element.getAttribute("aria-label") ?? element.textContent;

export async function anybody() {
  const found = await post("/v1/customers/query", { random: 1, limit: 1 });
  return found.customers[0]?.customer_id ?? "";
}

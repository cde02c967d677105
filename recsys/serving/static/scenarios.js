// Page 2: rules on top of the model, tried at once on three customers and on how much of the catalogue is shown.
import { about, get, itemsById, newest, post, put } from "./api.js";
import { anybody } from "./customer.js";
import { add, field, fill, h, later, newId, problem, say, select } from "./dom.js";
import { recommendationList } from "./lists.js";
import { itemPicker } from "./picker.js";
import { readable, withAttributes } from "./product.js";
import { date, number, percent, shortId, t } from "./text.js";

const EMPTY = { candidates: null, where: {}, exclude: [], boosts: [], pins: [], repeats: null, discoveries: null };
const K = 10, DRAWN = 64;

export async function show(root) {
  root.append(h("div.hero", {}, h("div", {}, h("h1", {}, t("scenarios_title")), h("p.lede", {}, t("scenarios_lede")))));
  const service = await about();
  const editor = h("section.panel.editor"), previewBox = h("section.panel.preview", { "aria-live": "off" }), figuresBox = h("section.panel");
  root.append(h("div.two.wideright", {}, editor, previewBox), figuresBox);
  const state = { name: "", base: structuredClone(EMPTY), variants: {}, overrides: {}, target: null, all: {} };
  const preview = newest((signal, body) => post("/v1/explore/preview", body, signal));
  const cover = newest((signal, body) => post("/v1/explore/preview", body, signal));
  const names = new Map(), values = new Map();
  let customers = [], plain = null, plainCoverage = null, coverage = null, failed = "";
  const soon = later(() => refresh(), 120), coverSoon = later(() => recover(), 450);

  const [stored, kept] = await Promise.all([get("/v1/scenarios"), get("/v1/saved-customers")]);
  state.all = stored.scenarios;
  customers = kept.customer_ids.slice(0, 3);
  const isSaved = customers.length > 0;
  while (customers.length < 3 && customers.length < service.data.n_users) {
    const one = await anybody();
    if (!customers.includes(one)) customers.push(one);
  }
  await pick(Object.keys(state.all)[0] ?? "");
  suggest();
  drawFigures();

  /** Rules as they are edited now: the scenario's, or those of a variant over them. */
  function rules() { return { ...state.base, ...(state.target === null ? {} : state.overrides[state.target]) }; }
  function settings() { return { ...state.base, variants: state.variants, overrides: state.overrides }; }

  function set(key, value, redraw = true) {
    if (state.target === null) state.base[key] = value;
    else (state.overrides[state.target] ||= {})[key] = value;
    if (redraw) draw(key);
    soon();
    coverSoon();
  }

  async function pick(name) {
    const found = structuredClone(state.all[name] ?? {});
    const { variants = {}, overrides = {}, ...base } = found;
    Object.assign(state, { name, base: { ...structuredClone(EMPTY), ...base }, variants, overrides, target: null });
    const ids = [rules(), ...Object.values(overrides)].flatMap((one) => [...(one.exclude ?? []), ...(one.pins ?? []).map((pin) => pin.item_id),
      ...(one.boosts ?? []).flatMap((boost) => boost.item_ids ?? [])]);
    for (const item of (await itemsById(ids)).values()) names.set(item.item_id, item.name);
    draw();
    soon();
    coverSoon();
  }

  /** Values to choose from: those of the best sellers; the service knows the others. */
  async function suggest() {
    const found = await post("/v1/items/query", { limit: 500 }).catch(() => ({ items: [] }));
    for (const item of found.items) for (const [name, value] of Object.entries(item.attributes)) {
      if (value === null) continue;
      if (!values.has(name)) values.set(name, new Set());
      values.get(name).add(String(value));
    }
  }

  function draw(changed = null) {
    const now = rules(), nameInput = h("input", { value: state.name, maxLength: 64, onchange: () => { state.name = nameInput.value.trim(); } });
    const who = h("input", { value: localStorage.getItem("recsys-who") ?? "", maxLength: 64, autocomplete: "name", onchange: () => localStorage.setItem("recsys-who", who.value.trim()) });
    const scenarios = [["", t("new_scenario")], ...Object.keys(state.all).map((name) => [name, name])];
    const share = h("output", {}, percent(now.discoveries ?? 0));
    const range = h("input", { type: "range", min: "0", max: "1", step: "0.05", value: String(now.discoveries ?? 0), "aria-valuetext": percent(now.discoveries ?? 0),
      oninput: () => { share.textContent = percent(Number(range.value)); range.setAttribute("aria-valuetext", share.textContent); set("discoveries", Number(range.value) || null, false); } });
    fill(editor,
      h("div.grid", {}, field(t("scenario"), select(scenarios, state.all[state.name] ? state.name : "", pick)), field(t("name"), nameInput), field(t("who"), who)),
      targets(),
      h("div.grid", {}, field(t("candidates"), select([["", t("cand_default")], ["on_sale", t("cand_on_sale")], ["all", t("cand_all")]], now.candidates ?? "", (value) => set("candidates", value || null, false))),
        field(t("repeats"), select([["", t("repeats_default")], ["keep", t("repeats_keep")], ["only", t("repeats_only")], ["none", t("repeats_none")]], now.repeats ?? "", (value) => set("repeats", value || null, false))),
        h("label.field", {}, h("span", {}, t("discoveries"), " ", share), range)),
      part("where", t("where"), Object.entries(now.where).flatMap(([attribute, list]) => list.map((value) => chip(`${titled(attribute)}: ${readable(value)}`, () => {
        const left = list.filter((one) => one !== value), where = { ...now.where };
        if (left.length) where[attribute] = left; else delete where[attribute];
        set("where", where);
      }))), attributePicker((attribute, value) => set("where", { ...now.where, [attribute]: [...new Set([...(now.where[attribute] ?? []), value])] }))),
      part("boosts", t("boosts"), now.boosts.map((boost, place) => boostRow(boost, place, now)), h("div.adders", {},
        attributePicker((attribute, value) => set("boosts", [...now.boosts, { where: { [attribute]: [value] }, add: 1 }])),
        picker(t("boosts"), (item) => set("boosts", [...now.boosts, { item_ids: [item.item_id], add: 1 }])))),
      part("pins", t("pins"), now.pins.map((pin, place) => pinRow(pin, place, now)), picker(t("pins"), (item) => {
        if (now.pins.some((pin) => pin.item_id === item.item_id)) return;
        const taken = new Set(now.pins.map((pin) => pin.position));
        let position = 1;
        while (taken.has(position)) position += 1;
        set("pins", [...now.pins, { item_id: item.item_id, position }]);
      })),
      part("exclude", t("exclude"), now.exclude.map((id) => chip(names.get(id) ?? id, () => set("exclude", now.exclude.filter((one) => one !== id)))),
        picker(t("exclude"), (item) => set("exclude", [...new Set([...now.exclude, item.item_id])]))),
      h("div.row", {}, h("button.primary", { type: "button", onclick: store }, t("store")),
        state.all[state.name] && h("button.small", { type: "button", onclick: drop }, t("drop"))), changesBox());
    if (changed) editor.querySelector(`[data-part="${changed}"] input, [data-part="${changed}"] button`)?.focus();
  }

  function part(key, title, rows, adder) {
    const box = h("fieldset.part", {}, h("legend", {}, title), rows.length ? h("ul.rules", {}, rows) : null, adder);
    box.dataset.part = key;
    return box;
  }
  function titled(attribute) { return readable(attribute.replace(/_name$/, "").replaceAll("_", " ")); }
  function chip(text, remove) { return h("li", {}, h("span", {}, text), h("button.remove", { type: "button", "aria-label": t("remove", { name: text }), onclick: remove }, "×")); }
  function picker(label, take) { return itemPicker(`${label}: ${t("item").toLowerCase()}`, t("find_item_hint"), (item) => { names.set(item.item_id, item.name); take(item); }); }

  function attributePicker(take) {
    const id = newId("values"), list = h("datalist", { id }), input = h("input", { list: id, placeholder: t("new_value"), "aria-label": t("value"), autocomplete: "off" });
    input.setAttribute("list", id);
    const choice = select(service.attributes.map((one) => [one, titled(one)]), service.attributes.find((one) => /category|type_name|type$/.test(one)) ?? service.attributes[0], offer);
    choice.setAttribute("aria-label", t("attribute"));
    function offer() { fill(list, [...(values.get(choice.value) ?? [])].sort().slice(0, 400).map((value) => h("option", { value }))); }
    const accept = () => { if (input.value.trim()) take(choice.value, input.value.trim()); };
    input.addEventListener("focus", offer);
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); accept(); } });
    return h("div.adder", {}, choice, input, list, h("button.small", { type: "button", onclick: accept }, t("add")));
  }

  function numberField(label, value, attributes, change) {
    const input = h("input", { type: "number", value: String(value), "aria-label": label, ...attributes, onchange: () => input.checkValidity() && input.value !== "" && change(Number(input.value)) });
    return input;
  }
  function boostRow(boost, place, now) {
    const text = boost.item_ids?.length ? boost.item_ids.map((id) => names.get(id) ?? id).join(", ")
      : Object.entries(boost.where ?? {}).map(([attribute, list]) => `${titled(attribute)}: ${list.map(readable).join(", ")}`).join("; ");
    const row = chip(text, () => set("boosts", now.boosts.filter((_, at) => at !== place)));
    row.querySelector("button").before(h("span.by", {}, t("boost_by"), numberField(`${t("boosts")}: ${text}`, boost.add, { step: "0.25" }, (add) => set("boosts", now.boosts.map((one, at) => (at === place ? { ...one, add } : one)), false))));
    return row;
  }
  function pinRow(pin, place, now) {
    const row = chip(names.get(pin.item_id) ?? pin.item_id, () => set("pins", now.pins.filter((_, at) => at !== place)));
    row.querySelector("button").before(h("span.by", {}, t("position"), numberField(`${t("position")}: ${names.get(pin.item_id) ?? pin.item_id}`, pin.position, { min: "1", max: "1000" }, (position) => set("pins", now.pins.map((one, at) => (at === place ? { ...one, position } : one)), false))));
    return row;
  }

  function targets() {
    const names_ = Object.keys(state.variants);
    const input = h("input", { placeholder: t("variant"), "aria-label": t("new_variant"), maxLength: 64 });
    const addOne = () => {
      const name = input.value.trim();
      if (!name || name in state.variants) return;
      if (!names_.length) state.variants[t("as_it_is")] = 1;
      state.variants[name] = 1;
      state.target = name;
      draw("variants");
      soon();
    };
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); addOne(); } });
    return part("variants", t("copy"), names_.map((name) => {
      const row = chip(name, () => { delete state.variants[name]; delete state.overrides[name]; if (state.target === name) state.target = null; draw("variants"); soon(); });
      row.querySelector("button").before(
        h("button.chip", { type: "button", "aria-pressed": String(state.target === name), onclick: () => { state.target = state.target === name ? null : name; draw("variants"); soon(); coverSoon(); } }, t("edit_variant")),
        h("span.by", {}, t("weight"), numberField(`${t("weight")}: ${name}`, state.variants[name], { min: "0", step: "any" }, (weight) => { state.variants[name] = weight; })));
      return row;
    }), h("div.adder", {}, input, h("button.small", { type: "button", onclick: addOne }, t("add"))));
  }

  async function store() {
    if (!state.name || !localStorage.getItem("recsys-who")) {
      const missing = [...editor.querySelectorAll(".grid input")].find((one) => !one.value.trim());
      say(t("name_and_who"), true);
      missing?.focus();
      return;
    }
    try {
      await put("/v1/scenarios", { name: state.name, who: localStorage.getItem("recsys-who"), settings: settings() });
      state.all = (await get("/v1/scenarios")).scenarios;
      draw();
      say(t("saved_scenario"), true);
    } catch (error) { say(error.message, true); }
  }

  async function drop() {
    if (!confirm(t("delete_sure", { name: state.name }))) return;
    try {
      await post("/v1/scenarios/delete", { name: state.name, who: localStorage.getItem("recsys-who") || "?" });
      state.all = (await get("/v1/scenarios")).scenarios;
      await pick(Object.keys(state.all)[0] ?? "");
    } catch (error) { say(error.message, true); }
  }

  function changesBox() {
    if (!state.all[state.name]) return null;
    const box = h("details", {}, h("summary", {}, t("changes")));
    box.addEventListener("toggle", async () => {
      if (!box.open || box.children.length > 1) return;
      const { changes } = await post("/v1/scenarios/changes", { name: state.name });
      box.append(h("ol.rules", {}, changes.reverse().map((one) => h("li", {}, h("span", {}, `${date(one.made_at)} ${one.made_at.slice(11, 16)} · ${one.who}`)))));
    }, { once: false });
    return box;
  }

  async function refresh() {
    try {
      plain ||= (await post("/v1/explore/preview", { rules: EMPTY, customer_ids: customers, k: K })).lists;
      const begin = performance.now(), found = await preview({ rules: rules(), customer_ids: customers, k: K });
      if (!found) return;
      failed = "";
      await drawPreview(found.lists, performance.now() - begin);
    } catch (error) { failed = error; fill(previewBox, h("h2", {}, t("preview")), problem(error)); }
  }

  async function recover() {
    try {
      plainCoverage ||= (await post("/v1/explore/preview", { rules: EMPTY, n_drawn: DRAWN, k: K })).coverage;
      const found = await cover({ rules: rules(), n_drawn: DRAWN, k: K });
      if (!found) return;
      coverage = found.coverage;
      const box = previewBox.querySelector(".coverage");
      if (box) fill(box, coverageRows());
    } catch { /* the preview says what is wrong */ }
  }

  function coverageRows() {
    if (!coverage) return h("p.none", {}, t("loading"));
    const most = Math.max(plainCoverage.n_items, coverage.n_items, 1);
    return [h("p.note", {}, t("n_different", { n: coverage.n_items, customers: coverage.n_customers })), [["before_rules", plainCoverage], ["with_rules", coverage]].map(([key, one]) => {
      const bar = h("i", { "aria-hidden": "true" });
      bar.style.setProperty("--p", String(one.n_items / most));
      return h("p.cover", {}, h("span", {}, t(key)), h("span.bar", {}, bar), h("b", {}, number(one.n_items)));
    })];
  }

  async function drawPreview(lists, ms) {
    const columns = await Promise.all(lists.map(async (answer, place) => {
      const before = new Map(plain[place].items.map((one, rank) => [one.item_id, rank]));
      const items = await withAttributes(answer.items), now = new Set(items.map((one) => one.item_id));
      const gone = plain[place].items.filter((one) => !now.has(one.item_id));
      const changed = items.filter((one, rank) => before.get(one.item_id) !== rank).length;
      return h("div", {}, h("h3", {}, h("a", { href: `#/customer/${encodeURIComponent(customers[place])}` }, t("customer_heading", { id: shortId(customers[place]) }))),
        h("p.note", {}, t("changed_share", { n: changed, k: items.length })), recommendationList(items, { before }),
        gone.length > 0 && h("p.foot", {}, t("gone"), " ", gone.map((one) => one.name).join(", ")), answer.warnings.map((text) => h("p.note", {}, text)));
    }));
    const cell = h("div.coverage");
    add(cell, [coverageRows()]);
    fill(previewBox, h("header", {}, h("h2", {}, t("preview"), state.target !== null && h("small", {}, ` ${state.target}`)), !isSaved && h("p.note", {}, t("need_saved"))),
      h("h3", {}, t("coverage")), cell, h("div.trio", {}, columns), h("p.foot", {}, t("took", { ms: Math.round(ms) })));
    previewBox.dataset.ms = Math.round(ms);
    say(t("preview_said", { n: columns.length, ms: Math.round(ms) }));
  }

  async function drawFigures() {
    const { rows } = await get("/v1/metrics/scenarios").catch(() => ({ rows: [] }));
    const spread = (one, say_) => (one ? [say_(one.value), h("small", {}, ` ${say_(one.low)} – ${say_(one.high)}`)] : "–");
    const plainNumber = (value) => number(value, 2);
    fill(figuresBox, h("h2", {}, t("events_figures")), rows.some((one) => one.n_recommendations) ? h("div.scroll", { tabIndex: 0, role: "region", "aria-label": t("events_figures") },
      h("table", {}, h("thead", {}, h("tr", {}, ["scenario", "variant", "n_shown", "n_bought", "hit_rate", "revenue", "mean_position"].map((key) => h("th", { scope: "col" }, t(key))))),
        h("tbody", {}, rows.map((one) => h("tr", {}, h("th", { scope: "row" }, one.scenario ?? t("no_scenario")), h("td", {}, one.variant ?? "–"), h("td", {}, number(one.n_recommendations)),
          h("td", {}, number(one.n_bought)), h("td", {}, spread(one.hit_rate, percent)), h("td", {}, spread(one.revenue, plainNumber)), h("td", {}, spread(one.mean_position, plainNumber))))))) : h("p.none", {}, t("no_figures")));
  }
}

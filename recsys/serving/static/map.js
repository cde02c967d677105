// Page 3: all items as points. Pixels below, labels and paths above; a list says in words what is in view.
import { about, itemsById, post } from "./api.js";
import { field, fill, h, later, problem, say, segmented, select } from "./dom.js";
import { css, firstAttribute, labelsOf, legendOf, loadMap, paint, place, SOLD, titleOf } from "./mapdata.js";
import { itemPicker } from "./picker.js";
import { Plane } from "./plane.js";
import { itemLink, readable } from "./product.js";
import { number, shortId, t } from "./text.js";

const LISTED = 40, TABLE = 200, NAMED = 45, PATH = 40;

export async function show(root, argument, options) {
  root.append(h("div.hero", {}, h("div", {}, h("h1", {}, t("map_title")), h("p.lede", {}, t("map_lede")))));
  const waiting = h("p.none", {}, t("loading"));
  root.append(waiting);
  const service = await about();
  if (!service.maps.length) { waiting.textContent = t("map_none"); return null; }
  const state = { vectors: service.maps[0], attribute: null, labels: "auto", only: null, mode: "move", chosen: [], found: -1, hover: -1, path: null };
  const canvas = h("canvas"), over = h("canvas.over", { "aria-hidden": "true" }), tip = h("div.tip", { hidden: true, "aria-hidden": "true" });
  const stage = h("div.stage", { tabIndex: 0, role: "application", "aria-roledescription": t("map_title") }, canvas, over, tip);
  const bar = h("div.controls"), legendBox = h("div.legend"), viewBox = h("section.panel.inview"), tableBox = h("section.panel.chosen", { hidden: true });
  const pathBox = h("p.note.pathnote", { hidden: true });
  let map, plane, legend, dead = false, scheduled = 0, listed = 0, labels = [];
  const rest = later(restNow, 160);
  const saySoon = later(() => say(`${t("in_view")}: ${t("n_items", { n: plane.inView().length })}`), 500);
  const askName = later(async (i, words) => { await named([i]).catch(() => {}); if (state.hover === i) words(); }, 60);
  const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";
  const names = new Map();

  await load();
  waiting.replaceWith(bar, pathBox, h("div.atlas", {}, h("div.stagebox", {}, stage, buttons()), h("div.side", {}, h("section.panel", {}, h("h2", {}, t("legend")), legendBox), viewBox)), tableBox);
  drawBar();
  resize();
  const watcher = new ResizeObserver(resize);
  watcher.observe(stage);
  const recolour = () => { colour(); redraw(); };
  addEventListener("themechange", recolour);
  listen();
  if (options.get("customer")) await showPath(options.get("customer"));
  if (options.get("item")) await find(options.get("item"));
  return () => { dead = true; watcher.disconnect(); removeEventListener("themechange", recolour); cancelAnimationFrame(scheduled); };

  async function load() {
    map = await loadMap(state.vectors);
    state.attribute = map.attributes.find((one) => one.name === state.attribute?.name) ?? firstAttribute(map.attributes);
    const view = plane?.view;
    plane = new Plane(canvas, map.x, map.y);
    if (view && stage.clientWidth) resize();
    stage.setAttribute("aria-label", t("map_label", { n: map.n }));
    colour();
  }

  function colour() {
    legend = legendOf(state.attribute, isDark());
    paint(plane, state.attribute, legend, state.only, isDark());
    fill(legendBox, h("ul", {}, legend.groups.map((one, group) => {
      const spot = h("i");
      spot.style.setProperty("--swatch", css(one.colour));
      return h("li", {}, h("button", { type: "button", "aria-pressed": String(state.only === group), onclick: () => {
        state.only = state.only === group ? null : group;
        recolour();
        legendBox.querySelectorAll("button")[group].focus();
      } }, spot, h("span", {}, one.title), h("small", {}, number(one.count))));
    })), h("p.foot", {}, t(map.layout === "PCA" ? "layout_pca" : "layout_tsne")));
  }

  function drawBar() {
    const attributes = map.attributes.map((one) => [one.name, titleOf(one.name)]);
    fill(bar,
      itemPicker(t("map_search"), t("find_item_hint"), (item) => find(item.item_id), true),
      service.maps.length > 1 && field(t("vectors"), select(service.maps.map((one) => [one, t(`vectors_${one}`)]), state.vectors, async (value) => {
        state.vectors = value;
        await load();
        redraw();
      })),
      field(t("colour_by"), select(attributes, state.attribute.name, (value) => {
        Object.assign(state, { attribute: map.attributes.find((one) => one.name === value), only: null });
        recolour();
      })),
      field(t("labels_by"), select([["auto", t("auto_labels")], ...attributes.filter(([name]) => name !== SOLD), ["none", t("none")]], state.labels, (value) => { state.labels = value; redraw(); })),
      segmented(t("drag"), [["move", t("move")], ["lasso", t("lasso")]], state.mode, (mode) => { state.mode = mode; stage.dataset.mode = mode; if (mode === "lasso") say(t("hint_lasso"), true); }));
  }

  function buttons() {
    const make = (key, sign, run) => h("button.quiet", { type: "button", "aria-label": t(key), title: t(key), onclick: () => { run(); redraw(); } }, sign);
    return h("div.zoom", {}, make("zoom_in", "+", () => plane.zoomAt(1.6)), make("zoom_out", "−", () => plane.zoomAt(1 / 1.6)), make("whole", "⤢", () => plane.fit()));
  }

  function resize() {
    if (!stage.clientWidth) return;
    const width = stage.clientWidth, height = stage.clientHeight;
    plane.resize(width, height);
    Object.assign(over, { width: plane.width, height: plane.height });
    redraw(true);
  }

  /** Draw in the next frame; labels and list follow when the map rests. */
  function redraw(now = false) {
    cancelAnimationFrame(scheduled);
    const frame = () => {
      if (dead) return;
      plane.draw();
      drawOver();
      if (!stage.dataset.painted) { stage.dataset.painted = String(Math.round(performance.now())); performance.mark("map-painted"); }
    };
    if (now) frame(); else scheduled = requestAnimationFrame(frame);
    rest();
  }
  async function restNow() {
    if (dead) return;
    const rows = plane.inView();
    labels = await chooseLabels(rows);
    drawOver();
    await listView(rows);
  }

  async function chooseLabels(rows) {
    const context = over.getContext("2d");
    context.font = font();
    const measure = (text) => [context.measureText(text).width, 16 * plane.ratio];
    if (state.labels === "none") return mark([]);
    if (rows.length <= NAMED && state.labels === "auto") {
      const placed = [];
      for (const one of await named(rows)) { const [x, y] = plane.to(one.place); place(placed, { text: one.name, x, y: y - 12 * plane.ratio }, measure, plane); }
      return mark(placed);
    }
    // The deeper the zoom, the finer the categories.
    const fitting = map.attributes.filter((one) => one.name !== SOLD && !/colou?r|appearance|size|brand|desc/.test(one.name)).sort((a, b) => a.values.length - b.values.length);
    const wanted = 25 * plane.zoom() ** 1.6;
    const automatic = fitting.filter((one) => one.values.length <= wanted).at(-1) ?? fitting[0] ?? state.attribute;
    const attribute = state.labels === "auto" ? automatic : map.attributes.find((one) => one.name === state.labels);
    return mark(labelsOf(plane, attribute, state.only === null ? rows : rows.filter((i) => legend.groupOf[state.attribute.code[i]] === state.only), measure));
  }
  /** Labels stay at their place on the map while it moves. */
  function mark(placed) { return placed.map((one) => ({ text: one.text, at: plane.at(one.x, one.y) })); }
  function font() { return `600 ${13 * plane.ratio}px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif`; }

  function drawOver() {
    const context = over.getContext("2d"), r = plane.ratio, style = getComputedStyle(stage);
    const [ink, ground, accent] = ["--ink", "--surface", "--accent"].map((name) => style.getPropertyValue(name));
    context.clearRect(0, 0, over.width, over.height);
    context.lineJoin = "round";
    if (state.path) drawPath(context, ink, accent, ground);
    const ring = (i, radius, colourOf, width = 2) => { const [x, y] = plane.to(i); context.beginPath(); context.arc(x, y, radius * r, 0, 7); context.lineWidth = width * r; context.strokeStyle = colourOf; context.stroke(); };
    for (const i of state.chosen.slice(0, 4000)) ring(i, 3.5, ink, 1);
    context.font = font();
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const one of labels) {
      const x = (one.at.x - plane.view.x) * plane.view.scale + plane.width / 2, y = (one.at.y - plane.view.y) * plane.view.scale + plane.height / 2;
      context.lineWidth = 4 * r;
      context.strokeStyle = ground;
      context.globalAlpha = 0.85;
      context.strokeText(one.text, x, y);
      context.globalAlpha = 1;
      context.fillStyle = ink;
      context.fillText(one.text, x, y);
    }
    if (state.found >= 0) { ring(state.found, 9, ground, 5); ring(state.found, 9, accent, 3); }
    if (state.hover >= 0) { ring(state.hover, 7, ground, 4); ring(state.hover, 7, ink, 2); }
    if (state.lasso) { context.beginPath(); state.lasso.forEach(([x, y]) => context.lineTo(x, y)); context.closePath(); context.lineWidth = 2 * r; context.strokeStyle = accent; context.stroke(); context.globalAlpha = 0.08; context.fillStyle = accent; context.fill(); context.globalAlpha = 1; }
  }

  function drawPath(context, ink, accent, ground) {
    const r = plane.ratio, { history, list } = state.path, walk = history.slice(-PATH);
    context.beginPath();
    walk.forEach((i) => context.lineTo(...plane.to(i)));
    Object.assign(context, { strokeStyle: ink, lineWidth: 1.2 * r, globalAlpha: 0.35 });
    context.stroke();
    context.globalAlpha = 1;
    for (const i of new Set(history)) { const [x, y] = plane.to(i); context.beginPath(); context.arc(x, y, 3.5 * r, 0, 7); Object.assign(context, { fillStyle: ink, strokeStyle: ground, lineWidth: r }); context.fill(); context.stroke(); }
    list.forEach((i, rank) => {
      const [x, y] = plane.to(i);
      context.beginPath(); context.arc(x, y, 9 * r, 0, 7);
      Object.assign(context, { fillStyle: accent, strokeStyle: ground, lineWidth: 2 * r });
      context.fill(); context.stroke();
      Object.assign(context, { fillStyle: ground, font: `700 ${11 * r}px system-ui, sans-serif`, textAlign: "center", textBaseline: "middle" });
      context.fillText(String(rank + 1), x, y + 0.5 * r);
    });
  }

  /** Return {place, item_id, name} of points, asked of the service once. */
  async function named(places) {
    const missing = places.filter((one) => !names.has(one));
    if (missing.length) for (const one of (await post("/v1/explore/map/items", { places: missing })).items) names.set(one.place, one);
    return places.map((one) => names.get(one)).filter(Boolean);
  }

  function bestSelling(rows, n) {
    const sold = map.attributes.find((one) => one.name === SOLD).code;
    return rows.slice().sort((a, b) => sold[b] - sold[a] || a - b).slice(0, n);
  }
  async function listView(rows) {
    const own = ++listed, best = await named(bestSelling(rows, LISTED)).catch(() => []);
    if (dead || own !== listed) return;
    fill(viewBox, h("h2", {}, t("in_view"), h("small", {}, " ", t("n_of_items", { n: rows.length, all: map.n }))),
      h("ol", {}, best.map((one) => h("li", { onpointerenter: () => point(one.place), onpointerleave: () => point(-1), onfocusin: () => point(one.place), onfocusout: () => point(-1) },
        itemLink(one), h("small", {}, readable(state.attribute.values[state.attribute.code[one.place]]))))));
    stage.dataset.inView = rows.length;
  }
  function point(i) { state.hover = i; drawOver(); }

  async function find(id) {
    const found = (await post("/v1/explore/map/items", { item_ids: [id] })).items[0];
    if (!found || found.place >= map.n) { say(t("nothing_found"), true); return; }
    names.set(found.place, found);
    state.found = found.place;
    Object.assign(plane.view, { x: plane.x[found.place], y: plane.y[found.place], scale: Math.max(plane.view.scale, plane.least() * 12) });
    redraw();
    say(found.name);
  }

  async function showPath(id) {
    const [told, answer] = await Promise.all([post("/v1/customers/history", { customer_id: id, limit: 1000 }), post("/v1/recommend", { customer_id: id, k: 12, kept: false })]);
    const ids = [...new Set([...told.purchases, ...answer.items].map((one) => one.item_id))];
    const places = new Map((await post("/v1/explore/map/items", { item_ids: ids })).items.map((one) => [one.item_id, one.place]));
    const on = (rows) => rows.map((one) => places.get(one.item_id)).filter((one) => one !== undefined && one < map.n);
    state.path = { history: on(told.purchases), list: on(answer.items) };
    pathBox.hidden = false;
    fill(pathBox, h("a", { href: `#/customer/${encodeURIComponent(id)}` }, t("path_of", { id: shortId(id) })), " ",
      h("button.small", { type: "button", onclick: () => { state.path = null; pathBox.hidden = true; redraw(); stage.focus(); } }, t("clear_path")));
    redraw();
  }

  function listen() {
    const spot = (event) => { const box = stage.getBoundingClientRect(); return [(event.clientX - box.left) * plane.ratio, (event.clientY - box.top) * plane.ratio]; };
    const down = new Map();
    let moved = 0;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      down.set(event.pointerId, spot(event));
      moved = 0;
      if (state.mode === "lasso" && down.size === 1) state.lasso = [spot(event)];
    });
    stage.addEventListener("pointermove", (event) => {
      const now = spot(event), before = down.get(event.pointerId);
      if (!before) { hover(now); return; }
      moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
      if (down.size === 2) {
        const other = [...down].find(([id]) => id !== event.pointerId)[1];
        plane.zoomAt(Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(Math.hypot(before[0] - other[0], before[1] - other[1]), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      } else if (state.lasso) state.lasso.push(now);
      else plane.move(now[0] - before[0], now[1] - before[1]);
      down.set(event.pointerId, now);
      tip.hidden = true;
      if (state.lasso) drawOver(); else redraw();
    });
    stage.addEventListener("pointerup", (event) => {
      if (!down.delete(event.pointerId)) return;
      const lasso = state.lasso;
      state.lasso = null;
      if (lasso && moved > 8) choose(plane.inside(lasso));
      else if (moved < 5 * plane.ratio) { const i = plane.hit(...spot(event)); if (i >= 0) open(i); }
    });
    stage.addEventListener("pointercancel", (event) => { down.delete(event.pointerId); state.lasso = null; });
    stage.addEventListener("pointerleave", () => { state.hover = -1; tip.hidden = true; drawOver(); });
    stage.addEventListener("wheel", (event) => { event.preventDefault(); plane.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...spot(event)); redraw(); }, { passive: false });
    stage.addEventListener("keydown", (event) => {
      const step = 70 * plane.ratio, run = {
        ArrowLeft: () => plane.move(step, 0), ArrowRight: () => plane.move(-step, 0), ArrowUp: () => plane.move(0, step), ArrowDown: () => plane.move(0, -step),
        "+": () => plane.zoomAt(1.5), "=": () => plane.zoomAt(1.5), "-": () => plane.zoomAt(1 / 1.5), 0: () => plane.fit(),
      }[event.key];
      if (!run || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      run();
      redraw();
      saySoon();
    });
  }

  function hover([px, py]) {
    const i = plane.hit(px, py);
    if (i === state.hover) return;
    point(i);
    tip.hidden = i < 0;
    if (i < 0) return;
    const words = () => fill(tip, names.has(i) && h("b", {}, names.get(i).name), h("span", {}, readable(state.attribute.values[state.attribute.code[i]])));
    words();
    const [x, y] = plane.to(i), right = x / plane.ratio > stage.clientWidth / 2;
    Object.assign(tip.style, { left: right ? "" : `${x / plane.ratio + 14}px`, right: right ? `${stage.clientWidth - x / plane.ratio + 14}px` : "", top: `${Math.min(y / plane.ratio, stage.clientHeight - 60)}px` });
    askName(i, words);
  }
  async function open(i) { const [one] = await named([i]); if (one) location.hash = `#/item/${encodeURIComponent(one.item_id)}`; }

  async function choose(rows) {
    state.chosen = rows;
    redraw();
    tableBox.hidden = rows.length === 0;
    if (!rows.length) return;
    say(t("n_items", { n: rows.length }));
    const shown = await named(bestSelling(rows, TABLE)), known = await itemsById(shown.map((one) => one.item_id));
    const columns = map.attributes.filter((one) => one.name !== SOLD).slice(0, 4);
    fill(tableBox, h("header", {}, h("h2", {}, t("chosen"), h("small", {}, " ", t("n_items", { n: rows.length })))),
      h("div.scroll", { tabIndex: 0, role: "region", "aria-label": t("chosen") }, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("item")), columns.map((one) => h("th", { scope: "col" }, titleOf(one.name))), h("th", { scope: "col" }, t("sold_28")))),
        h("tbody", {}, shown.map((one) => h("tr", {}, h("th", { scope: "row" }, itemLink(one)), columns.map((column) => h("td.words", {}, readable(column.values[column.code[one.place]]))), h("td", {}, number(known.get(one.item_id)?.sold_28 ?? 0))))))),
      h("div.row", {}, h("button.small", { type: "button", onclick: () => { choose([]); stage.focus(); } }, t("close"))));
  }
}

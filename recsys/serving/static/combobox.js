// A search field with suggestions: arrows move, Enter takes, Escape closes.
import { newest } from "./api.js";
import { fill, h, later, newId, say } from "./dom.js";
import { t } from "./text.js";

/**
 * Return a labelled search. `search(text, signal)` returns {total, rows}; `line(row)` draws a row, `take(row)` is called
 * with what was chosen. `keep` leaves the text in the field.
 */
export function combobox({ label, placeholder, search, line, text, take, empty = true, keep = false }) {
  const id = newId("options");
  const input = h("input", { type: "search", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder,
    "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list" });
  const list = h("ul.options", { id, role: "listbox", "aria-label": label, hidden: true });
  let rows = [];
  let active = -1;
  let shownFor = null; // the text that the rows are of
  let hurried = false; // Enter was pressed before its rows were there

  const mark = (place) => {
    active = place;
    [...list.querySelectorAll("[role=option]")].forEach((option, at) => option.setAttribute("aria-selected", String(at === place)));
    const option = place < 0 ? null : list.querySelectorAll("[role=option]")[place];
    if (option) { input.setAttribute("aria-activedescendant", option.id); option.scrollIntoView({ block: "nearest" }); }
    else input.removeAttribute("aria-activedescendant");
  };
  const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); mark(-1); };
  const choose = (row) => { hurried = false; shownFor = null; input.value = keep ? text(row) : ""; close(); take(row); };
  const ask = newest((signal, asked) => search(asked, signal));
  const look = async () => {
    const asked = input.value.trim();
    if (!asked && !empty) return close();
    let found;
    try { found = await ask(asked); } catch (error) { say(error.message, true); return; }
    if (!found || document.activeElement !== input) return;
    [rows, shownFor] = [found.rows, asked];
    if (hurried && rows.length) return choose(rows[0]);
    hurried = false;
    fill(list, rows.map((row) => h("li", { role: "option", id: newId("option"), "aria-selected": "false",
      onpointerdown: (event) => event.preventDefault(), onclick: () => choose(row) }, line(row))),
      rows.length ? null : h("li.none", { role: "presentation" }, t("nothing_found")));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(-1);
    say(t("found", { n: found.total }));
  };
  const soon = later(look, 120);
  input.addEventListener("input", () => { hurried = false; soon(); });
  input.addEventListener("focus", () => { if (empty) look(); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) { close(); event.preventDefault(); }
    if (event.key === "Enter" && input.value.trim()) {
      event.preventDefault();
      if (shownFor !== input.value.trim()) hurried = true;
      else if (!list.hidden && rows.length) choose(rows[Math.max(active, 0)]);
    } else if (event.key === "Enter" && active >= 0) { event.preventDefault(); choose(rows[active]); }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) look();
      else if (rows.length) mark((active + (event.key === "ArrowDown" ? 1 : -1) + rows.length + (active < 0 && event.key === "ArrowUp" ? 1 : 0)) % rows.length);
    }
  });
  return h("div.combobox", {}, h("label.field", {}, h("span", {}, label), input), list);
}

// Elements out of plain values. Data become text nodes: nothing here reads markup.

/** Return an element: h("ul.items", {"aria-label": "…"}, child, …); null children are left out. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.startsWith("aria") && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Put `children` in place of what stands in `element`. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

let serial = 0;
export const newId = (what) => `${what}-${++serial}`;

/** Say something to who cannot see the page; `shown` also shows it for a while. */
export function say(text, shown = false) {
  const said = document.getElementById("said");
  said.classList.toggle("shown", shown);
  said.textContent = text;
  clearTimeout(say.timer);
  if (shown) say.timer = setTimeout(() => said.classList.remove("shown"), 4000);
}

/** A labelled control. */
export const field = (label, control, extra = "") => h(`label.field${extra}`, {}, h("span", {}, label), control);

/** Radio buttons that look like one control; `options` are [value, text]. */
export function segmented(legend, options, value, change) {
  const name = newId("choice");
  return h("fieldset.segmented", {}, h("legend", {}, legend), h("div", {}, options.map(([key, text]) => h("label", {},
    h("input", { type: "radio", name, value: key, checked: key === value, onchange: () => change(key) }),
    h("span", {}, text)))));
}

export function select(options, value, change) {
  const element = h("select", { onchange: () => change(element.value) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  return element;
}

/** What is shown where something failed. */
export const problem = (error) => h("p.problem", { role: "alert" }, error.message || String(error));

/** Return a function that calls `run` when nobody called for `delay` milliseconds. */
export function later(run, delay) {
  let timer;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => run(...given), delay); };
}

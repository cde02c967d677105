// How an item is shown: a picture or a swatch, its name, its type and colour.
import { about, blob, itemsById } from "./api.js";
import { h } from "./dom.js";
import { ellipsis, money } from "./text.js";

/** Base colours, as shops name them, and how far a word in front moves them to black or white. */
const COLOURS = {
  black: "#1b1b1d", white: "#fbfaf6", grey: "#8d9299", gray: "#8d9299", blue: "#2f63b5", navy: "#1e2c52", red: "#c22a2f",
  pink: "#eba0b5", green: "#3c8653", khaki: "#7d7a4c", yellow: "#efc93d", orange: "#e8802e", beige: "#dbc7a4", mole: "#8d7d6d",
  brown: "#7d5436", turquoise: "#2fb0ab", purple: "#7b4d9d", lilac: "#b79ad3", gold: "#c9a545", silver: "#c0c4ca",
  bronze: "#a8703a", copper: "#b06a43", metal: "#a2a8ae", cream: "#f4ead1", transparent: "#dfe6ea", multi: "#a07f9c",
};
const SHADES = { dark: [-0.42], light: [0.45], greyish: [0.15], "off": [0.08], dusty: [0.2], bright: [0.05], medium: [0] };
/** Colours of categories, told apart by most people with a colour weakness too; the last is for what remains. */
export const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e6a700", "#56b4e9", "#7b3fa0", "#8a5a2b", "#c51b4a",
  "#9aa5ae"];

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Return [r, g, b] of a colour's name; null where no word of it is a colour. */
export function namedColour(name) {
  const words = String(name ?? "").toLowerCase().split(/[^a-z]+/);
  const base = words.find((word) => word in COLOURS);
  if (!base) return null;
  const shift = words.reduce((sum, word) => sum + (SHADES[word]?.[0] ?? 0), 0);
  return rgb(COLOURS[base]).map((part) => Math.round(shift < 0 ? part * (1 + shift) : part + (255 - part) * shift));
}

const first = (names, ...patterns) => patterns.map((pattern) => names.find((name) => pattern.test(name)
  && !/(_code|_id|_no)$/.test(name))).find(Boolean);

/** Return the columns that say an item's type, colour and group; undefined where there is none. */
export function columns(names) {
  return {
    type: first(names, /^product_type(_name)?$/, /category/, /type/),
    colour: first(names, /^colour_group_name$/, /colou?r.*name/, /colou?r/),
    group: first(names, /category/, /^index_name$/, /department/, /group/, /type/, /brand/),
  };
}

export const readable = (value) => {
  const text = String(value ?? "").replace(/\s+/g, " ").trim();
  return text.length > 3 && text === text.toUpperCase() && /[A-Z]/.test(text[0]) ? text[0] + text.slice(1).toLowerCase() : text;
};

/** Return what kind of thing an item is and its colour, as far as they are known and not its name. */
export function detail(item) {
  if (!item?.attributes) return "";
  const names = Object.keys(item.attributes);
  const { type, colour } = columns(names);
  const said = [type, first(names, /category/), colour, first(names, /size/)].map((name) => readable(item.attributes[name])).filter(Boolean);
  const name = item.name.replace(/…$/, "").toLowerCase();
  return [...new Set(said)].filter((text) => !text.toLowerCase().startsWith(name)).slice(0, 2).join(" · ");
}

function hash(text) {
  let value = 7;
  for (const letter of text) value = (value * 31 + letter.codePointAt(0)) >>> 0;
  return value;
}

/** Return a small square for an item: its picture where the shop has one, else its colour, else its group's. */
export function tile(item) {
  const names = Object.keys(item?.attributes ?? {});
  const { colour, group } = columns(names);
  const named = namedColour(item?.attributes?.[colour]);
  const square = h("span.tile", { "aria-hidden": "true" });
  const value = String(item?.attributes?.[group] ?? "");
  const shown = named ?? rgb(PALETTE[value ? hash(value) % 9 : 9]);
  square.style.setProperty("--swatch", `rgb(${shown.join(" ")})`);
  if (!named) { square.classList.add("group"); square.textContent = (readable(item?.name) || "·")[0]; }
  if (item) about().then(({ pictures }) => pictures && watch(square, item.item_id)).catch(() => {});
  return square;
}

const waiting = new WeakMap();
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    seen.unobserve(entry.target);
    paint(entry.target, waiting.get(entry.target));
  }
});
function watch(square, id) { waiting.set(square, id); seen.observe(square); }

async function paint(square, id) {
  try {
    // Fetched, since an image element cannot send a key.
    const file = await blob(`/v1/explore/picture?item_id=${encodeURIComponent(id)}`);
    if (!file.size) return;
    const picture = await createImageBitmap(file, { resizeHeight: 240, resizeQuality: "medium" });
    const canvas = h("canvas", { width: picture.width, height: picture.height });
    canvas.getContext("2d").drawImage(picture, 0, 0);
    square.replaceChildren(canvas);
    square.classList.add("picture");
  } catch { /* a picture that cannot be read: the swatch stays */ }
}

export const itemLink = (item) => h("a.name", { href: `#/item/${encodeURIComponent(item.item_id)}` }, item.name);

/** Return a line for an item: tile, name, type and colour, and what else is said of it. */
export const productLine = (item, ...more) => [tile(item), h("span.what", {}, itemLink(item),
  h("small", {}, ellipsis(detail(item), 60)), more)];

/** Return items that hold `item_id` and `name` with the attributes the service knows of them. */
export async function withAttributes(rows) {
  const known = await itemsById(rows.map((row) => row.item_id)).catch(() => new Map());
  return rows.map((row) => ({ ...known.get(row.item_id), ...row }));
}

export const priceText = (purchase) => {
  const many = purchase.quantity > 1 ? `${purchase.quantity} × ` : "";
  return purchase.price === null || purchase.price === undefined ? (many && `× ${purchase.quantity}`) : many + money(purchase.price);
};

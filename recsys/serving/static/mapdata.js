// The map as it comes: coordinates and categories in one array of bytes; and which colour and label each point has.
import { bytes } from "./api.js";
import { namedColour, PALETTE, readable } from "./product.js";
import { t } from "./text.js";

export const SOLD = "sold_28";
const RAMP = ["#d9d3c7", "#b9c7c4", "#84b3bd", "#4f9ab3", "#2f7ea6", "#286093", "#2c4179", "#2f2257"];
const RAMP_DARK = ["#37414a", "#3d5a66", "#3f7787", "#4096a6", "#4eb5bd", "#7bd0c8", "#b4e6cf", "#eef9d9"];
const pixel = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
export const css = (colour) => `rgb(${colour.join(" ")})`;

const kept = new Map();
/** Return {n, layout, x, y, attributes: [{name, values, code, counts}]}; see item_points.py. */
export function loadMap(vectors) {
  if (!kept.has(vectors)) kept.set(vectors, bytes(`/v1/explore/map?vectors=${vectors}`).then(read).catch((error) => { kept.delete(vectors); throw error; }));
  return kept.get(vectors);
}

function read(buffer) {
  const length = new Uint32Array(buffer, 0, 1)[0];
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const column = (place) => new Uint16Array(buffer, 4 + length + 2 * told.n * place, told.n);
  const attributes = told.attributes.map((one, place) => {
    const code = column(2 + place), counts = new Uint32Array(one.values.length);
    for (let i = 0; i < code.length; i++) counts[code[i]]++;
    return { ...one, code, counts };
  });
  return { ...told, x: column(0), y: column(1), attributes };
}

/** Return the attribute a map is coloured by at first: of some ten to a hundred categories. */
export const firstAttribute = (attributes) => attributes.find((one) => /^(index_group_name|index_name|department)$/.test(one.name))
  ?? attributes.find((one) => one.name !== SOLD && one.values.length <= 60) ?? attributes[0];

export const titleOf = (name) => (name === SOLD ? t("sold_28") : readable(name.replace(/_name$/, "").replaceAll("_", " ")));

/** Return {groups: [{title, colour, count, has(code)}], groupOf: Uint16Array} of an attribute's values. */
export function legendOf(attribute, dark) {
  const { values, counts, name } = attribute, groupOf = new Uint16Array(values.length);
  const title = (value) => `${readable(value)}`;
  if (name === SOLD) {
    const ramp = dark ? RAMP_DARK : RAMP;
    return { groupOf: groupOf.map((_, code) => code), groups: values.map((value, code) => ({ title: value, count: counts[code],
      colour: rgb(ramp[Math.min(Math.round(code * (ramp.length - 1) / Math.max(values.length - 1, 1)), ramp.length - 1)]) })) };
  }
  const named = values.map(namedColour);
  const own = /colou?r/.test(name) && named.filter(Boolean).length > values.length / 2;
  const n = own ? Math.min(values.length, 24) : Math.min(values.length, PALETTE.length - 1);
  const groups = values.slice(0, n).map((value, code) => ({ title: title(value), count: counts[code],
    colour: own ? visible(named[code] ?? rgb(PALETTE[9]), dark) : rgb(PALETTE[code]) }));
  for (let code = 0; code < values.length; code++) groupOf[code] = Math.min(code, n);
  if (values.length > n) groups.push({ title: t("others"), count: counts.slice(n).reduce((sum, one) => sum + one, 0), colour: rgb(dark ? "#5d6871" : "#b9c0c6") });
  return { groups, groupOf };
}

/** Keep a colour apart from the ground: white on white, black on black. */
const visible = (colour, dark) => {
  const light = (0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]) / 255;
  return dark && light < 0.16 ? colour.map((one) => one + 60) : !dark && light > 0.93 ? colour.map((one) => one - 42) : colour;
};

/** Write each point's colour; those of groups other than `only` fade into the ground. */
export function paint(plane, attribute, legend, only, dark) {
  const ground = dark ? [26, 33, 40] : [255, 254, 253];
  const faint = dark ? [44, 54, 63] : [228, 228, 226];
  const ofGroup = legend.groups.map((one, group) => pixel(only === null || only === group ? one.colour : faint));
  plane.ground = pixel(ground);
  for (let i = 0; i < plane.n; i++) plane.colour[i] = ofGroup[legend.groupOf[attribute.code[i]]];
}

/** Return [{text, x, y, weight}] in pixels: categories where their points are densest, none over another. */
export function labelsOf(plane, attribute, visibleRows, measure, longest = 26) {
  const columns = 14, rows = 9, cells = columns * rows, found = new Map(), total = new Uint32Array(cells);
  for (const i of visibleRows) {
    const [px, py] = plane.to(i);
    const cell = Math.min(Math.max((px / plane.width * columns) | 0, 0), columns - 1) + columns * Math.min(Math.max((py / plane.height * rows) | 0, 0), rows - 1);
    const key = attribute.code[i] * cells + cell, one = found.get(key);
    total[cell]++;
    if (one) { one.n++; one.x += px; one.y += py; } else found.set(key, { n: 1, x: px, y: py, code: attribute.code[i], cell });
  }
  const best = new Map();
  for (const one of found.values()) {
    one.weight = one.n * Math.sqrt(one.n / total[one.cell]);
    if (one.n >= 3 && one.weight > (best.get(one.code)?.weight ?? 0)) best.set(one.code, one);
  }
  const placed = [];
  for (const one of [...best.values()].sort((a, b) => b.weight - a.weight).slice(0, 60)) {
    const text = readable(attribute.values[one.code]);
    place(placed, { text: text.length > longest ? `${text.slice(0, longest - 1)}…` : text, x: one.x / one.n, y: one.y / one.n }, measure, plane);
    if (placed.length >= 26) break;
  }
  return placed;
}

export function place(placed, label, measure, plane) {
  const [width, height] = measure(label.text), half = width / 2 + 6;
  label.x = Math.min(Math.max(label.x, half), plane.width - half);
  label.y = Math.min(Math.max(label.y, height), plane.height - height);
  const box = [label.x - half, label.y - height * 0.75, label.x + half, label.y + height * 0.75];
  if (placed.some(({ box: other }) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) return false;
  placed.push({ ...label, box });
  return true;
}


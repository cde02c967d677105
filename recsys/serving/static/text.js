// All words of the page, in English and Russian, and how numbers, dates and reasons are said.
import { en } from "./text.en.js";
import { ru, ruReasons } from "./text.ru.js";

const TABLES = { en, ru };
export const languages = Object.keys(TABLES);

export function lang() {
  const stored = localStorage.getItem("recsys-language");
  if (stored in TABLES) return stored;
  return navigator.language?.startsWith("ru") ? "ru" : "en";
}
export const setLanguage = (language) => localStorage.setItem("recsys-language", language);

/** Return the text of `key` with {names} filled in; numbers are written as the language writes them. */
export function t(key, values = {}) {
  const text = TABLES[lang()][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : String(value ?? "");
  });
}

export const number = (value, digits = 0) => new Intl.NumberFormat(lang(), { maximumFractionDigits: digits }).format(value);
export const money = (value) => new Intl.NumberFormat(lang(), value < 1
  ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value);
export const percent = (share) => new Intl.NumberFormat(lang(), { style: "percent",
  ...(share < 0.1 && share > 1e-9 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 0 }) }).format(share);
const dates = {};
export const date = (iso) => (dates[lang()] ||= new Intl.DateTimeFormat(lang(), { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" }))
  .format(new Date(`${iso.slice(0, 10)}T00:00:00Z`));
export const ellipsis = (text, longest) => (text.length <= longest ? text : `${text.slice(0, longest - 1).trimEnd()}…`);

/** Return an id shortened to its beginning where it is a hash. */
export const shortId = (id) => (/^[0-9a-f]{32,}$/.test(id) ? `${id.slice(0, 8)}…` : ellipsis(id, 24));

export const systemName = (name) => (`system_${name}` in en ? t(`system_${name}`) : name);

/** Return a reason in the language of the page: the service says it in English. */
export function reason(text) {
  if (lang() !== "ru") return text;
  return ruReasons.reduce((said, [pattern, words]) => said.replace(pattern, words), text);
}

export const isoDay = (iso, shift) => new Date(Date.parse(`${iso}T00:00:00Z`) + shift * 864e5).toISOString().slice(0, 10);
export const daysBetween = (one, other) => Math.round((Date.parse(other) - Date.parse(one)) / 864e5);

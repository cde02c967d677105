// Questions to the service. Ids travel in bodies; a key is kept for as long as the tab is open.
import { h } from "./dom.js";
import { t } from "./text.js";

const KEY = "recsys-key";

export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { code: "no_answer", message: t("no_answer") });
  }
  if (answer.status === 401) {
    await askForKey(key);
    return ask(path, options);
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, body.error || { code: "failed", message: t("failed", { status: answer.status }) });
}

let asking = null;
/** Ask for a key once, however many questions wait for it. */
function askForKey(used) {
  if (sessionStorage.getItem(KEY) !== used) return Promise.resolve();
  asking ||= new Promise((done) => {
    const input = h("input", { type: "password", autocomplete: "off", required: true });
    const dialog = h("dialog.key", { "aria-label": t("key") }, h("form", { method: "dialog" },
      h("p", {}, used ? t("key_refused") : t("key_needed")),
      h("label.field", {}, h("span", {}, t("key")), input), h("button.primary", {}, t("go_on"))));
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, input.value);
      dialog.remove();
      asking = null;
      done();
    });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

export const get = async (path, options) => (await ask(path, options)).json();
export const bytes = async (path, options) => (await ask(path, options)).arrayBuffer();
export const blob = async (path, options) => (await ask(path, options)).blob();
const send = (method) => async (path, body, signal) => (await ask(path, {
  method, signal, body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
})).json();
export const post = send("POST");
export const put = send("PUT");

const kept = {};
/** What the service holds, asked once: models, data, what the page may show. */
export const about = () => (kept.about ||= Promise.all([get("/v1/models"), get("/v1/explore/about")])
  .then(([models, page]) => ({ ...models, ...page }))
  .catch((error) => { kept.about = null; throw error; }));

const items = new Map();
/** Return a map of item id → item with its attributes; unknown ids are missing. */
export async function itemsById(ids) {
  const missing = [...new Set(ids)].filter((id) => !items.has(id));
  const parts = [];
  for (let begin = 0; begin < missing.length; begin += 100) parts.push(missing.slice(begin, begin + 100));
  const found = await Promise.all(parts.map((part) => post("/v1/items/query", { ids: part, limit: part.length })));
  for (const item of found.flatMap((answer) => answer.items)) items.set(item.item_id, item);
  return items;
}

export const searchItems = (search, signal, limit = 12) => post("/v1/items/query", { search, limit }, signal);

/** Return a function of a question that gives up the question before it, and returns null where it was given up. */
export function newest(run) {
  let controller = new AbortController();
  return async (...given) => {
    controller.abort();
    const own = controller = new AbortController();
    try {
      const answer = await run(own.signal, ...given);
      return own.signal.aborted ? null : answer;
    } catch (error) {
      if (own.signal.aborted || error.name === "AbortError") return null;
      throw error;
    }
  };
}

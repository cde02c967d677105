// The frame of the pages: addresses behind the number sign, language, light and dark.
import { about } from "./api.js";
import { fill, h, problem, say } from "./dom.js";
import { lang, languages, setLanguage, t } from "./text.js";

const PAGES = {
  customer: () => import("./customer.js"),
  scenarios: () => import("./scenarios.js"),
  map: () => import("./map.js"),
  item: () => import("./item.js"),
  try: () => import("./try.js"),
  quality: () => import("./quality.js"),
};
const THEMES = ["auto", "light", "dark"];
const main = document.getElementById("main");
let leave = null;
let turn = 0;

/** Return page, argument and options of the address: #/customer/ID?date=2020-09-22. */
export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/");
  let argument = "";
  try { argument = decodeURIComponent(rest.join("/")); } catch { /* an address typed by hand */ }
  return { page: page in PAGES ? page : "customer", argument, options: new URLSearchParams(query) };
}

async function show() {
  const { page, argument, options } = route();
  const own = ++turn;
  leave?.();
  leave = null;
  drawFrame(page);
  document.title = `${t(`nav_${page}`)} · recsys`;
  const root = h("div.page");
  root.dataset.page = page;
  fill(main, root);
  try {
    const module = await PAGES[page]();
    if (own !== turn) return;
    const left = await module.show(root, argument, options);
    if (own === turn) leave = left || null;
    else left?.();
  } catch (error) {
    if (own === turn) root.append(problem(error));
  }
}

function drawFrame(page) {
  document.documentElement.lang = lang();
  document.getElementById("skip").textContent = t("skip");
  const nav = document.getElementById("nav");
  nav.setAttribute("aria-label", t("pages"));
  fill(nav, h("ul", {}, Object.keys(PAGES).map((name) => h("li", {},
    h("a", { href: `#/${name}`, "aria-current": name === page ? "page" : null }, t(`nav_${name}`))))));
  const theme = localStorage.getItem("recsys-theme") || "auto";
  document.documentElement.dataset.theme = theme;
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  fill(document.getElementById("settings"),
    h("button.quiet", { type: "button", id: "theme", "aria-label": t("theme_now", { now: t(theme), next: t(next) }),
      title: t("theme_now", { now: t(theme), next: t(next) }), onclick: () => switchTheme(next, page) },
      { auto: "◐", light: "☀", dark: "☾" }[theme]),
    languages.filter((one) => one !== lang()).map((one) => h("button.quiet", { type: "button", lang: one,
      "aria-label": { en: "English", ru: "Русский" }[one], onclick: () => { setLanguage(one); show(); } }, one.toUpperCase())));
}

function switchTheme(next, page) {
  localStorage.setItem("recsys-theme", next);
  drawFrame(page);
  document.getElementById("theme").focus();
  say(t(next));
  dispatchEvent(new Event("themechange"));
}

document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", async () => {
  await show();
  const heading = main.querySelector("h1");
  if (heading && !main.contains(document.activeElement)) { heading.tabIndex = -1; heading.focus({ preventScroll: true }); }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
about().catch(() => {});
show();

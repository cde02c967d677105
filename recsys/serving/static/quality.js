// Page 6: the report of the run, in a frame in which nothing runs.
import { about, post } from "./api.js";
import { h } from "./dom.js";
import { t } from "./text.js";

export async function show(root) {
  root.append(h("div.hero", {}, h("div", {}, h("h1", {}, t("quality_title")), h("p.lede", {}, t("quality_lede")))));
  const service = await about();
  if (!service.report) { root.append(h("p.none", {}, t("no_report"))); return; }
  const { address } = await post("/v1/explore/report", {});
  root.append(h("iframe.report", { src: address, sandbox: "", title: t("report_of", { run: service.model }) }));
}

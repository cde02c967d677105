// Lights up the rows of a box that stand for the items which carried a recommendation.
import { percent } from "./text.js";

export const timelineLights = (box) => (carried) => {
  for (const row of box.querySelectorAll("[data-item]")) {
    const share = carried?.get(row.dataset.item);
    row.classList.toggle("lit", share !== undefined);
    row.style.setProperty("--share", String(Math.max(0.25, Math.min(1, (share ?? 0) * 1.5))));
    row.querySelector(".share").textContent = share >= 0.005 ? percent(share) : "";
  }
};

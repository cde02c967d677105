// A search for items that hands over the one that was taken.
import { searchItems } from "./api.js";
import { combobox } from "./combobox.js";
import { h } from "./dom.js";
import { detail, tile } from "./product.js";


export const itemPicker = (label, placeholder, take, keep = false) => combobox({
  label, placeholder, take, keep, empty: false, text: (item) => item.name,
  search: async (asked, signal) => {
    const found = await searchItems(asked, signal);
    return { total: found.total, rows: found.items };
  },
  line: (item) => [tile(item), h("span.what", {}, h("span", {}, item.name), h("small", {}, [detail(item), item.item_id].filter(Boolean).join(" · ")))],
});


"use strict";
// Small things that every section uses. A section is a function (contents) -> nothing; it adds its card to the page.
const contents = JSON.parse(document.getElementById("contents").textContent);
const drawings = []; // functions that draw a chart into its place, called again when the width changes

function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function card(id, title, explanation) {
  const node = el("section", { id }, el("h2", {}, title), explanation ? el("p", { class: "soft" }, explanation) : null);
  document.getElementById("page").append(node);
  return node;
}

// A place for a chart: draw(width) gives its SVG. Returns what draws it again.
function chart(parent, id, label, draw) {
  const place = el("div", { class: "chart", id, role: "img", "aria-label": label });
  parent.append(place);
  const again = () => place.replaceChildren(draw(Math.max(320, place.clientWidth)));
  drawings.push(again);
  return again;
}

function buttons(names, chosen, choose) {
  const all = names.map((name, i) =>
    el("button", { type: "button", "aria-pressed": String(i === chosen), onclick: () => {
      all.forEach((one, j) => one.setAttribute("aria-pressed", String(i === j)));
      choose(i);
    } }, name));
  return all;
}

const whole = (value) => Math.round(value).toLocaleString("en-US");
const mega = (value) => (value / 1e6).toLocaleString("en-US", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const percent = (value) => `${(100 * value).toFixed(0)} %`;
const words = (name) => name.replaceAll("_", " ");
const shortNorm = (name) => name.replace("+pn", " + PN").replace("batch", "BN").replace("group", "GN").replace("layer", "LN");

const COLOURS = {
  weights: "#0072b2", master_weights: "#2e93cf", optimizer_state: "#56b4e9", gradient_accumulators: "#9ad2f3",
  stash: "#cc79a7", input_buffers: "#e2b1cc", io_tiles: "#b58cc9", vertex_code: "#6f6f6f", vertex_state: "#8b8b8b",
  exchange_code: "#a8a8a8", control_code: "#c4c4c4", activations: "#d55e00", gradients: "#e69f00",
  temporaries: "#009e73",
};
const CATEGORIES = Object.keys(COLOURS);

function legend(entries) {
  return el("div", { class: "legend" }, entries.map(([name, colour]) =>
    el("span", {}, el("i", { style: `background:${colour}` }), name)));
}

// Bytes of an IPU as bytes of its fullest tile.
const onFullestTile = (bytes, ipu) => (bytes * ipu.worst_tile_bytes) / Math.max(1, ipu.total_bytes);

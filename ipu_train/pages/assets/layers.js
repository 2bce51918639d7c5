// The table of layers: sorts by any column, filters by text and IPU, sums what is shown.
const LAYER_COLUMNS = [
  ["ipu", "IPU"], ["layer", "layer", "text"], ["operators", "operators", "text"], ["forward_cycles", "forward"],
  ["recompute_cycles", "recompute"], ["backward_cycles", "backward"], ["update_cycles", "update"],
  ["weight_elements", "weights"], ["kept_bytes", "kept bytes"], ["temporary_bytes", "temporary bytes"],
  ["plan", "plan of the convolution", "text wide"],
];
const SUMMED = ["forward_cycles", "recompute_cycles", "backward_cycles", "update_cycles", "weight_elements", "kept_bytes"];

function layerTable(plan) {
  const node = card("layers", "Layers",
    "Cycles of one micro-batch by phase (update: once a weight update), weights, activations kept for the backward " +
    "pass, temporary bytes over all tiles, and how the planner splits the convolution. Click a heading to sort.");
  let column = null, falling = true, needle = "", only = null;
  const shown = LAYER_COLUMNS.filter(([key]) => (key !== "ipu" || plan.ipus.length > 1) &&
    (key !== "recompute_cycles" || plan.layers.some((row) => row.recompute_cycles)));
  const body = el("tbody"), foot = el("tfoot"), count = el("span", { class: "soft", id: "layer-count" });
  const heads = shown.map(([key, title, kind]) => el("th", { class: kind || "", "data-key": key, tabindex: 0, "aria-sort": "none",
    onclick: () => sort(key), onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(key); } } }, title));
  const filter = el("input", { id: "layer-filter", type: "search", placeholder: "filter: layer, operator or plan",
    "aria-label": "filter layers", oninput: (event) => { needle = event.target.value.toLowerCase(); fill(); } });
  const controls = el("div", { class: "controls" }, filter);
  if (plan.ipus.length > 1) controls.append(...buttons(["all IPUs", ...plan.ipus.map((ipu) => `IPU ${ipu.ipu}`)], 0,
    (i) => { only = i ? plan.ipus[i - 1].ipu : null; fill(); }));
  controls.append(count);
  node.append(controls, el("div", { class: "scroll" }, el("table", { id: "layer-table" },
    el("thead", {}, el("tr", {}, heads)), body, foot)));
  function sort(key) {
    const text = LAYER_COLUMNS.find(([name]) => name === key)[2];
    falling = column === key ? !falling : !text;
    column = key;
    fill();
  }
  function fill() {
    let rows = plan.layers.filter((row) => (only === null || row.ipu === only) &&
      (!needle || `${row.layer} ${row.operators} ${row.plan}`.toLowerCase().includes(needle)));
    if (column) rows = [...rows].sort((a, b) => (falling ? -1 : 1) *
      (typeof a[column] === "string" ? a[column].localeCompare(b[column], "en", { numeric: true }) : a[column] - b[column]));
    heads.forEach((head) => head.setAttribute("aria-sort",
      head.dataset.key !== column ? "none" : falling ? "descending" : "ascending"));
    const cell = (row, [key, , kind]) => el("td", { class: kind || "" }, typeof row[key] === "string" ? row[key].replaceAll("; ", "\n") : whole(row[key]));
    body.replaceChildren(...rows.map((row) => el("tr", {}, shown.map((one) => cell(row, one)))));
    foot.replaceChildren(el("tr", {}, shown.map(([key, , kind]) => el("td", { class: kind || "" },
      key === "layer" ? "sum of the rows above" : SUMMED.includes(key) ? whole(d3.sum(rows, (row) => row[key])) : ""))));
    count.textContent = `${rows.length} of ${plan.layers.length} rows`;
  }
  fill();
}

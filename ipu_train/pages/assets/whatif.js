// Choosing between predictions that were made: a slider for each number, buttons for each word.
function whatIf(points) {
  const node = card("whatif", "What if",
    "Predictions of other choices at the same global batch; only what was computed can be chosen. Hollow: does not fit.");
  const keys = Object.keys(points[0].choice).filter((key) => new Set(points.map((p) => String(p.choice[key]))).size > 1);
  const values = Object.fromEntries(keys.map((key) => {
    const found = [...new Set(points.map((p) => p.choice[key]))];
    const numbers = found.every((value) => value !== "" && !isNaN(value));
    return [key, numbers ? found.sort((a, b) => a - b) : found];
  }));
  const given = points.find((p) => p.given) || points[0];
  let chosen = given;
  const controls = el("div", { class: "controls" });
  for (const key of keys) {
    const all = values[key], at = all.indexOf(chosen.choice[key]);
    if (all.every((value) => !isNaN(value)) && all.length > 1) {
      const output = el("output", {}, String(all[at]));
      controls.append(el("label", {}, words(key), el("input", { type: "range", min: 0, max: all.length - 1, step: 1, value: at,
        "data-key": key, "aria-label": words(key), oninput: (event) => {
          output.textContent = String(all[event.target.value]);
          choose(key, all[event.target.value]);
        } }), output));
    } else controls.append(el("span", { class: "controls", "data-key": key, style: "margin:0" }, words(key),
      buttons(all.map((value) => (key === "norm" ? shortNorm(String(value)) : String(value))), at, (i) => choose(key, all[i]))));
  }
  const wanted = { ...chosen.choice }, said = el("div", { id: "whatif-result" });
  node.append(controls, said, legend(CATEGORIES.filter((name) => points.some((p) => p.categories_bytes[name])).map((name) => [words(name), COLOURS[name]])));
  const bars = chart(node, "whatif-chart", "memory of the choice beside the given one", (width) => {
    const shown = chosen === given || !given.given ? [["chosen", chosen]] : [["given", given], ["chosen", chosen]];
    const rows = shown.flatMap(([name, p]) => CATEGORIES.filter((c) => p.categories_bytes[c]).map((c) => ({ name, category: words(c),
      colour: COLOURS[c], kB: (p.categories_bytes[c] * p.worst_tile_bytes) / p.total_bytes / 1e3 })));
    return Plot.plot({ width, height: 62 + 42 * shown.length, marginBottom: 42, marginLeft: 58,
      x: { label: "kB of the fullest tile", grid: true, domain: [0, d3.max([...shown.map(([, p]) => p.worst_tile_bytes), 1.05 * given.bytes_per_tile]) / 1e3] },
      y: { label: null, domain: shown.map(([name]) => name) },
      marks: [Plot.barX(rows, Plot.stackX({ y: "name", x: "kB", fill: "colour", insetTop: 3, insetBottom: 3, channels: { category: "category" },
        tip: { format: { fill: false } } })), Plot.ruleX([given.bytes_per_tile / 1e3], { stroke: "var(--bad)", strokeWidth: 2 }), Plot.ruleX([0])] });
  });
  const two = el("div", { class: "two" });
  node.append(two);
  const overview = keys.includes("micro_batch_size") ? ["worst_tile_bytes", "images_per_second"].map((key) => sizeChart(two, key)) : [];
  function sizeChart(parent, key) {
    const memory = key === "worst_tile_bytes", others = keys.filter((name) => name !== "micro_batch_size");
    const series = (p) => others.map((name) => (name === "norm" ? shortNorm(p.choice[name]) : `${words(name)} ${p.choice[name]}`)).join(", ") || "all";
    return chart(parent, `sizes-${key}`, memory ? "memory over micro-batch sizes" : "images per second over micro-batch sizes", (width) => Plot.plot({
      width, height: 312, marginBottom: 42, marginLeft: 62, x: { type: "log", base: 2, label: "micro-batch size", ticks: values.micro_batch_size, tickFormat: String },
      y: { label: memory ? "kB of the fullest tile" : "images/s", grid: true, zero: true },
      color: { legend: true, domain: [...new Set(points.map(series))], range: ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8b8b8b"] },
      marks: [
        memory ? Plot.ruleY([given.bytes_per_tile / 1e3], { stroke: "var(--bad)", strokeWidth: 2 }) : null,
        Plot.line(points, { x: (p) => p.choice.micro_batch_size, y: (p) => (memory ? p[key] / 1e3 : p[key]), z: series, stroke: series, sort: (p) => p.choice.micro_batch_size }),
        Plot.dot(points.filter((p) => p.fits), { x: (p) => p.choice.micro_batch_size, y: (p) => (memory ? p[key] / 1e3 : p[key]), fill: series, r: 5 }),
        Plot.dot(points, { x: (p) => p.choice.micro_batch_size, y: (p) => (memory ? p[key] / 1e3 : p[key]), stroke: series, strokeWidth: 2, r: 4,
          title: (p) => `${series(p)}\nmicro-batch ${p.choice.micro_batch_size}: ${memory ? `${whole(p[key])} bytes` : `${whole(p[key])} images/s`}${p.fits ? "" : ", does not fit"}`, tip: true }),
        Plot.dot([chosen], { x: (p) => p.choice.micro_batch_size, y: (p) => (memory ? p[key] / 1e3 : p[key]), r: 8, stroke: "currentColor", strokeWidth: 2 }),
      ] }));
  }
  function choose(key, value) {
    wanted[key] = value;
    const found = points.find((p) => keys.every((name) => p.choice[name] === wanted[name]));
    if (found) chosen = found;
    tell(!found);
    bars();
    overview.forEach((again) => again());
  }
  function tell(missing) {
    const compare = given.given && chosen !== given;
    const ratio = (key) => (compare ? ` (${(chosen[key] / given[key]).toFixed(2)}x the given)` : "");
    said.replaceChildren(missing ? el("p", { class: "bad" }, "This choice was not computed (or cannot be had); shown is the last one.") : "",
      el("p", {}, el("b", {}, Object.entries(chosen.choice).map(([key, value]) => `${words(key)} ${key === "norm" ? shortNorm(value) : value}`).join(", ")), ": ",
        el("span", { id: "whatif-bytes" }, `${whole(chosen.worst_tile_bytes)} bytes`), ` on the fullest tile${ratio("worst_tile_bytes")}, `,
        el("span", { class: chosen.fits ? "good" : "bad" }, chosen.fits ? "fits" : "does not fit"), ", ",
        el("span", { id: "whatif-rate" }, `${whole(chosen.images_per_second)} images/s`), `${ratio("images_per_second")}.`));
  }
  tell(false);
}

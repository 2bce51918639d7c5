// How far predictions were off on published runs, and the curves of a training.
function published(rates) {
  const share = contents.error_ranges.images_per_second_share;
  const node = card("published", "Predicted against published",
    `Predicted over published images/s of ${rates.length} public runs, ${rates.filter((one) => one.fitted).length} of which constants were fitted to; shaded: what nine of ten are within (${(100 * share).toFixed(0)} %). ` +
    `Memory: ${contents.bounds.memory}. Nothing here has been measured on an IPU by us.`);
  if (contents.plan) {
    const rate = contents.plan.images_per_second, tile = contents.plan.worst_tile_bytes, memory = contents.error_ranges.memory_share;
    node.append(el("p", {}, `This plan: ${whole(rate)} images/s, nine times of ten between ${whole(rate / (1 + share))} and ${whole(rate / (1 - share))}; ` +
      `fullest tile ${whole(tile)} bytes, between ${whole(tile / (1 + memory))} and ${whole(tile / (1 - memory))}.`));
  }
  const rows = rates.map((one) => ({ ...one, name: `${one.network}, ${one.run}` }));
  chart(node, "published-chart", "errors on published runs", (width) => Plot.plot({
    width, height: 52 + 19 * rows.length, marginBottom: 42, marginLeft: Math.min(250, width * 0.45), x: { label: "predicted / published - 1, %", grid: true }, y: { label: null, domain: rows.map((r) => r.name) },
    marks: [
      Plot.rectX([0], { x1: -100 * share, x2: 100 * share, fill: COLOURS.weights, fillOpacity: 0.14 }), Plot.ruleX([0]),
      Plot.ruleY(rows, { y: "name", x1: 0, x2: (d) => 100 * d.error, stroke: COLOURS.weights }),
      Plot.dot(rows, { y: "name", x: (d) => 100 * d.error, fill: COLOURS.weights, r: 4, title: (d) => `${d.name}: ${(100 * d.error).toFixed(1)} %`, tip: true }),
    ],
  }));
}

function curves(lines) {
  const node = card("curves", "Training", "Training lines and validations of the run so far.");
  const two = el("div", { class: "two" }), colour = { domain: ["train", "validation"], range: ["#0072b2", "#d55e00"] };
  node.append(two);
  for (const key of ["loss", "accuracy"]) {
    const known = lines.filter((line) => Number.isFinite(line[key]) && colour.domain.includes(line.split));
    if (known.length) chart(two, `curve-${key}`, `${key} over weight updates`, (width) => Plot.plot({
      width, height: 280, marginLeft: 54, x: { label: "weight update" }, y: { label: key, grid: true, zero: key === "loss", percent: key === "accuracy" }, color: { ...colour, legend: true },
      marks: [Plot.line(known, { x: "step", y: key, stroke: "split", z: "split", strokeWidth: 2 }),
        Plot.dot(known, { x: "step", y: key, fill: "split", r: known.length > 120 ? 0 : 3, tip: true })],
    }));
  }
  const last = lines.filter((line) => line.split === "validation").pop();
  if (last) node.append(el("p", { id: "last-validation" }, `Last validation, epoch ${last.epoch}: accuracy ${(100 * last.accuracy).toFixed(2)} %, loss ${last.loss === null || last.loss === undefined ? "-" : last.loss.toFixed(4)}.`));
}

// Memory: categories of the fullest tile of each IPU, and live bytes over the schedule with what is alive at a step.
function memoryByCategory(plan) {
  const node = card("memory", "Memory of the fullest tile",
    `Bytes by category against the ${whole(plan.bytes_per_tile)} bytes of a tile; ` +
    `shaded: the model's error of ${percent(contents.error_ranges.memory_share)}.`);
  const used = CATEGORIES.filter((name) => plan.ipus.some((ipu) => ipu.categories_bytes[name]));
  const bars = plan.ipus.flatMap((ipu) => used.map((name) => ({
    ipu: `IPU ${ipu.ipu}`, category: words(name), colour: COLOURS[name],
    kB: onFullestTile(ipu.categories_bytes[name], ipu) / 1e3, MB: ipu.categories_bytes[name] / 1e6,
  })));
  node.append(legend(used.map((name) => [words(name), COLOURS[name]])));
  const limit = plan.bytes_per_tile / 1e3;
  chart(node, "memory-chart", "memory by category", (width) => Plot.plot({
    width, height: 62 + 46 * plan.ipus.length, marginBottom: 42, marginLeft: 58, marginRight: 20,
    x: { label: "kB of the fullest tile", grid: true },
    y: { label: null, domain: plan.ipus.map((ipu) => `IPU ${ipu.ipu}`) },
    marks: [
      Plot.rectX([limit], { x1: limit, x2: limit * (1 + contents.error_ranges.memory_share), fill: "#d33", fillOpacity: 0.12 }),
      Plot.barX(bars, Plot.stackX({ y: "ipu", x: "kB", fill: "colour", insetTop: 3, insetBottom: 3,
        channels: { category: "category", MB: "MB" },
        tip: { format: { fill: false, y: true, x: (d) => d.toFixed(1), MB: (d) => d.toFixed(2) } } })),
      Plot.ruleX([limit], { stroke: "var(--bad)", strokeWidth: 2 }),
      Plot.ruleX([0]),
    ],
  }));
  const rows = used.map((name) => el("tr", {}, el("td", { class: "text" }, words(name)),
    plan.ipus.map((ipu) => el("td", {}, mega(ipu.categories_bytes[name])))));
  const line = (title, value, mark) => el("tr", {}, el("td", { class: "text" }, title),
    plan.ipus.map((ipu) => el("td", { class: mark ? (ipu.fits ? "good" : "bad") : "" }, value(ipu))));
  node.append(el("details", {}, el("summary", {}, "the same as a table, MB over all tiles"),
    el("div", { class: "scroll" }, el("table", { id: "memory-table" },
      el("thead", {}, el("tr", {}, el("th", { class: "text" }, ""), plan.ipus.map((ipu) => el("th", {}, `IPU ${ipu.ipu}`)))),
      el("tbody", {}, rows,
        line("total", (ipu) => mega(ipu.total_bytes)),
        line("fullest tile, bytes", (ipu) => whole(ipu.worst_tile_bytes)),
        line("", (ipu) => (ipu.fits ? "fits" : `over by ${whole(ipu.worst_tile_bytes - plan.bytes_per_tile)}`), true))))));
}

function liveness(plan) {
  const node = card("liveness", "Memory over the schedule of one micro-batch",
    "What is alive at each step, on top of what always is. Click a step to see which layers hold it.");
  let ipu = plan.ipus.reduce((a, b) => (b.worst_tile_bytes > a.worst_tile_bytes ? b : a));
  let step = ipu.peak.step;
  const list = el("div", { id: "alive" });
  const choose = el("div", { class: "controls" });
  if (plan.ipus.length > 1) choose.append(...buttons(plan.ipus.map((one) => `IPU ${one.ipu}`), plan.ipus.indexOf(ipu), (i) => {
    ipu = plan.ipus[i]; step = ipu.peak.step; draw(); alive();
  }));
  choose.append(el("button", { type: "button", id: "to-peak", onclick: () => { step = ipu.peak.step; draw(); alive(); } }, "to the peak"));
  node.append(choose, legend([["always live", COLOURS.weights], ["activations, gradients, temporaries", COLOURS.activations]]));
  const draw = chart(node, "liveness-chart", "live bytes over the schedule", (width) => {
    const scale = (bytes) => onFullestTile(bytes, ipu) / 1e3;
    const always = scale(ipu.always_live_bytes), limit = plan.bytes_per_tile / 1e3;
    const points = ipu.live_bytes.map((bytes, i) => ({
      step: i + 1, kB: always + scale(bytes),
      what: i < ipu.steps.length ? `${ipu.steps[i][0]} of ${ipu.names[ipu.steps[i][1]] || "the network"} (${ipu.steps[i][2].split("::").pop()})` : "weight update",
    }));
    const figure = Plot.plot({
      width, height: 312, marginBottom: 42, marginLeft: 58, x: { label: "step: forward | recompute and backward | update" },
      y: { label: "kB of the fullest tile", grid: true, zero: true },
      marks: [
        Plot.rectY([limit], { y1: limit, y2: limit * (1 + contents.error_ranges.memory_share), fill: "#d33", fillOpacity: 0.12 }),
        Plot.areaY(points, { x: "step", y1: always, y2: "kB", curve: "step", fill: COLOURS.activations, fillOpacity: 0.75 }),
        Plot.areaY(points, { x: "step", y: always, curve: "step", fill: COLOURS.weights, fillOpacity: 0.75 }),
        Plot.ruleY([limit], { stroke: "var(--bad)", strokeWidth: 2 }),
        Plot.ruleX([ipu.forward_steps + 0.5], { strokeDasharray: "3,3", strokeOpacity: 0.6 }),
        Plot.ruleX([step + 1], { stroke: "currentColor", strokeWidth: 1.5 }),
        Plot.dot([points[step]], { x: "step", y: "kB", r: 5, fill: "currentColor" }),
        Plot.tip(points, Plot.pointerX({ x: "step", y: "kB", title: (d) => `step ${d.step}: ${d.kB.toFixed(1)} kB\n${d.what}` })),
      ],
    });
    figure.addEventListener("click", () => { if (figure.value) { step = figure.value.step - 1; draw(); alive(); } });
    return figure;
  });
  function alive() {
    const at = step < ipu.steps.length ? ipu.steps[step] : ["weight update", 0, ""];
    const sums = new Map();
    for (const [start, end, bytes, layer, kind] of ipu.alive)
      if (start <= step && step <= end) {
        const key = `${kind}|${ipu.names[layer]}`;
        sums.set(key, (sums.get(key) || 0) + bytes);
      }
    const tensors = d3.sum(sums.values());
    const temporary = Math.max(0, ipu.live_bytes[step] - tensors);
    if (temporary > 0.5) sums.set(`temporaries|${step < ipu.steps.length ? ipu.names[at[1]] : "all-reduce and update"}`, temporary);
    const rows = [...sums].sort((a, b) => b[1] - a[1]);
    list.replaceChildren(
      el("p", {}, `Step ${whole(step + 1)} of ${whole(ipu.live_bytes.length)}${step === ipu.peak.step ? ", the peak" : ""}: `,
        el("b", {}, `${at[0]} of ${ipu.names[at[1]] || "the network"}`),
        `; ${mega(ipu.live_bytes[step])} MB come and go, ${mega(ipu.always_live_bytes)} MB are always there.`),
      el("div", { class: "scroll", style: "max-height:260px" }, el("table", { id: "alive-table" },
        el("thead", {}, el("tr", {}, el("th", { class: "text" }, "layer"), el("th", { class: "text" }, "what"), el("th", {}, "MB"))),
        el("tbody", {}, rows.slice(0, 40).map(([key, bytes]) => el("tr", {},
          el("td", { class: "text" }, key.split("|")[1]), el("td", { class: "text" }, key.split("|")[0]),
          el("td", {}, (bytes / 1e6).toFixed(2))))))));
  }
  node.append(list);
  alive();
}

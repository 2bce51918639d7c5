// The pipeline of one weight update: which stage works on which micro-batch when, and where it stands still.
const PIPELINED = ["pipelined", "grouped", "interleaved"];

// Blocks [{ipu, phase, micro, start, end}] in cycles. In one turn every stage runs one forward and one backward pass,
// then all stages exchange; micro-batch m goes forward through stage s in turn m + s, back in turn m + 2 (S - 1) - s.
function pipelineBlocks(durations, microBatches) {
  const stages = durations.length, blocks = [];
  let now = 0;
  for (let turn = 0; turn < microBatches + 2 * (stages - 1); turn++) {
    let longest = 0;
    for (let stage = 0; stage < stages; stage++) {
      const { forward, backward } = durations[stage];
      let at = now;
      for (const [phase, micro, length] of [["forward", turn - stage, forward], ["backward", turn - 2 * (stages - 1) + stage, backward]])
        if (micro >= 0 && micro < microBatches && length > 0) {
          blocks.push({ ipu: stage, phase, micro, start: at, end: at + length });
          at += length;
        }
      longest = Math.max(longest, at - now);
    }
    now += longest;
  }
  return { blocks, end: now };
}

function timeline(plan) {
  const piped = plan.ipus.length > 1 && PIPELINED.includes(plan.schedule);
  const durations = plan.ipus.map((ipu) => ({ forward: ipu.cycles_by_phase.forward || 0,
    backward: (ipu.cycles_by_phase.recompute || 0) + (ipu.cycles_by_phase.backward || 0) }));
  const all = plan.gradient_accumulation, drawn = Math.min(all, Math.max(3 * plan.ipus.length, 6));
  const node = card("timeline", piped ? "Pipeline" : "One weight update",
    (piped ? `Forward and backward passes of ${drawn < all ? `${drawn} of the ` : ""}${all} micro-batches of a weight update; ` +
      `filling and draining the pipeline takes ${percent(plan.pipeline_bubble_share)} of the time with all of them. ` :
      `${drawn < all ? `${drawn} of ` : ""}${all} micro-batches of a weight update. `) +
    "Gaps are times at which an IPU waits.");
  const colours = { forward: COLOURS.weights, backward: COLOURS.gradients };
  node.append(legend([["forward", colours.forward], [plan.recompute === "none" ? "backward" : "recompute and backward", colours.backward]]));
  const { blocks, end } = piped ? pipelineBlocks(durations, drawn) : sequentialBlocks(durations, drawn);
  const busy = plan.ipus.map((_, i) => d3.sum(blocks.filter((b) => b.ipu === i), (b) => b.end - b.start) / end);
  chart(node, "timeline-chart", "pipeline timeline", (width) => Plot.plot({
    width, height: 72 + 40 * plan.ipus.length, marginBottom: 42, marginLeft: 58, marginRight: 16,
    x: { label: "million cycles", domain: [0, end / 1e6] }, y: { label: null, domain: plan.ipus.map((ipu) => `IPU ${ipu.ipu}`) },
    marks: [
      Plot.barX(blocks, { y: (d) => `IPU ${d.ipu}`, x1: (d) => d.start / 1e6, x2: (d) => d.end / 1e6, insetTop: 4, insetBottom: 4,
        insetLeft: 0.3, insetRight: 0.3, fill: (d) => colours[d.phase],
        title: (d) => `IPU ${d.ipu}: ${d.phase} of micro-batch ${d.micro + 1}, ${whole(d.end - d.start)} cycles`, tip: true }),
      Plot.text(blocks.filter((b) => ((b.end - b.start) / end) * width > 16), { y: (d) => `IPU ${d.ipu}`,
        x: (d) => (d.start + d.end) / 2e6, text: (d) => String(d.micro + 1), fill: "white", fontSize: 10 }),
    ],
  }));
  const step = plan.seconds_per_weight_update, shares = [["compute and exchange", step.total - step.all_reduce - step.update - step.host - step.streaming_memory],
    ["all-reduce", step.all_reduce], ["update", step.update], ["host transfers", step.host], ["streaming memory", step.streaming_memory]];
  node.append(
    el("p", {}, plan.ipus.map((ipu, i) => `IPU ${ipu.ipu}: ${whole(ipu.cycles)} cycles a micro-batch, works ${percent(busy[i])} of the time drawn`).join("; ") + "."),
    el("p", { class: "soft" }, `A weight update takes ${(1e3 * step.total).toFixed(2)} ms: ` +
      shares.filter(([, s]) => s > 0).map(([name, s]) => `${name} ${(1e3 * s).toFixed(2)} ms`).join(", ") + "."));
}

function sequentialBlocks(durations, microBatches) {
  const blocks = [];
  let now = 0;
  for (let micro = 0; micro < microBatches; micro++) {
    const order = durations.map((_, i) => i);
    for (const phase of ["forward", "backward"])
      for (const ipu of phase === "forward" ? order : [...order].reverse()) {
        blocks.push({ ipu, phase, micro, start: now, end: now + durations[ipu][phase] });
        now += durations[ipu][phase];
      }
  }
  return { blocks, end: now };
}

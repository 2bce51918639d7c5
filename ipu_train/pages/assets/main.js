// The page: head, then each section that there is something to show in.
function head() {
  const page = document.getElementById("page"), plan = contents.plan;
  page.append(el("h1", {}, contents.title),
    el("p", { class: "soft", id: "head" }, Object.entries(contents.head).map(([key, value]) => `${key} ${typeof value === "number" ? whole(value) : value}`).join(" · ")));
  const figure = (value, name, mark) => el("div", { class: "figure" }, el("b", { class: mark || "" }, value), el("span", { class: "soft" }, name));
  if (plan) page.append(el("div", { class: "figures" },
    figure(whole(plan.images_per_second), `images/s on ${plan.replicas} x ${plan.ipus.length} ${plan.target} IPUs`),
    figure(`${percent(plan.worst_tile_bytes / plan.bytes_per_tile)}`, `of the fullest tile: ${whole(plan.worst_tile_bytes)} of ${whole(plan.bytes_per_tile)} bytes`),
    figure(plan.verdict, "in memory", plan.fits ? "good" : "bad"),
    figure(whole(plan.cycles), "cycles a micro-batch on the slowest IPU"),
    figure(percent(plan.pipeline_bubble_share), "of a weight update fills and drains the pipeline")));
  if (contents.words && contents.words.length) page.append(el("section", { id: "words" }, contents.words.map((line) => el("p", {}, line))));
}

head();
if (contents.curves && contents.curves.length) curves(contents.curves);
if (contents.plan) { memoryByCategory(contents.plan); liveness(contents.plan); timeline(contents.plan); }
if (contents.points && contents.points.length > 1) whatIf(contents.points);
if (contents.plan) layerTable(contents.plan);
if (contents.published) published(contents.published);
const drawAll = () => drawings.forEach((draw) => draw());
drawAll();
let width = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); } });

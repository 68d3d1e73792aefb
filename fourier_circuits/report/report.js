"use strict";
// Figures are drawn when they come near the screen, all of them before printing.
const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

function read(place) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure + "-data").textContent);
  const { layout } = figure;
  if (layout.meta?.squares) {  // square panels are as high as they are wide
    const [rows, columns] = layout.meta.squares, { l, r, t, b } = layout.template.layout.margin;
    const row = 0.84 * (place.clientWidth - l - r) / columns + 70;
    layout.height = Math.min(layout.height, rows * row + (layout.margin.t ?? t) + (layout.margin.b ?? b));
  }
  return figure;
}

function draw(place) {
  if (place.dataset.drawn) return Promise.resolve();
  place.dataset.drawn = "yes";
  const figure = read(place);
  return Plotly.newPlot(place, figure.data, figure.layout, options).then(() => {
    if (figure.frames) Plotly.addFrames(place, figure.frames);
    if (place.dataset.figure === "figure-neurons") {
      for (const event of ["plotly_hover", "plotly_click"])
        place.on(event, (at) => showNeuron(at.points[0].customdata));
    }
  });
}

const places = [...document.querySelectorAll(".plot")];
for (const place of places) place.style.minHeight = read(place).layout.height + "px";
const near = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "800px" },
);
places.forEach((place) => near.observe(place));
window.addEventListener("beforeprint", () => places.forEach(draw));

// The grids of the neurons: bytes (neuron, a, b), 16 levels each, deflated.
let grids;
async function unpacked() {
  if (!grids) {
    const bytes = Uint8Array.from(atob(window.NEURONS.deflated), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    grids = new Uint8Array(await new Response(stream).arrayBuffer());
  }
  return grids;
}

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function colour(share) {
  const at = share * (VIRIDIS.length - 1), i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[i].map((low, c) => low + (at - i) * (VIRIDIS[i + 1][c] - low));
}

async function showNeuron([neuron, frequency]) {
  const all = await unpacked(), p = window.NEURONS.p;
  const canvas = document.getElementById("neuron-grid"), context = canvas.getContext("2d");
  canvas.width = canvas.height = p;
  const image = context.createImageData(p, p);
  for (let i = 0; i < p * p; i++) {
    const [red, green, blue] = colour(all[neuron * p * p + i] / 15);
    image.data.set([red, green, blue, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
  document.getElementById("neuron-name").textContent =
    `Neuron ${neuron}, frequency ${frequency}: its activation over all pairs, a down, b to the right, dark is zero.`;
}

// The table of claims: by part of the paper, by verdict, by text.
const filters = ["section", "verdict", "text"].map((name) => document.getElementById(name + "-filter"));
function filter() {
  const [section, verdict, text] = filters.map((field) => field.value.trim());
  let shown = 0;
  for (const row of document.querySelectorAll("#claims tbody tr")) {
    const fits = (!section || row.dataset.section === section) && (!verdict || row.dataset.verdict === verdict)
      && row.textContent.toLowerCase().includes(text.toLowerCase());
    row.hidden = !fits;
    shown += fits;
  }
  document.getElementById("filter-count").textContent = `${shown} claims`;
}
filters.forEach((field) => field.addEventListener("input", filter));
document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());

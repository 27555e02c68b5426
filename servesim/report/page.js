"use strict";
// Draws the charts of the page, in the colours of its theme, and lets the charts of a group zoom together.
const charts = JSON.parse(document.getElementById("charts").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const reset = document.getElementById("reset");
const zooms = {}; // group: the ends of its axis, where it is zoomed
let views = [];

function theme() {
  const of = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [text, soft, line] = [of("--text"), of("--soft"), of("--line")];
  const category = dark.matches
    ? ["#56b4e9", "#e69f00", "#2bc59b", "#e39ac4", "#f0e442", "#ff8a50", "#8fb3ff", "#c0c7ce"]
    : ["#0072b2", "#d55e00", "#009e73", "#b85c93", "#a07900", "#56b4e9", "#e69f00", "#555c63"];
  return {
    background: null,
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
      titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11,
    },
    legend: { labelColor: text, titleColor: text, labelFontSize: 12, symbolStrokeWidth: 3 },
    rule: { color: soft },
    range: { category, heatmap: { scheme: "viridis" }, ramp: { scheme: "viridis" } },
  };
}

// The ends of the axis that a chart shows now: those of its group's zoom, else those it came with.
function apply(view, chart) {
  const ends = zooms[chart.group] ?? [chart.from, chart.to];
  return view.signal("from", ends[0]).signal("to", ends[1]).runAsync();
}

function zoom(group, ends) {
  if (ends) zooms[group] = ends; else delete zooms[group];
  reset.hidden = Object.keys(zooms).length === 0;
  return Promise.all(views.filter((one) => one.chart.group === group).map((one) => apply(one.view, one.chart)));
}

// Dragging across a chart marks a stretch; when the pointer is let go, the group zooms to it.
function listen(view, chart) {
  let marked = null;
  view.addSignalListener("brush", (_, stretch) => { marked = stretch[chart.field] ?? null; });
  const release = () => {
    if (!marked || marked[0] === marked[1]) return;
    const ends = [Math.min(...marked), Math.max(...marked)];
    marked = null;
    view.signal("brush_x", [0, 0]).runAsync().then(() => zoom(chart.group, ends));
  };
  window.addEventListener("pointerup", release);
  view.addEventListener("dblclick", () => zoom(chart.group, null));
  return () => window.removeEventListener("pointerup", release);
}

async function draw() {
  const config = theme();
  for (const one of views) one.close();
  views = [];
  for (const [id, chart] of Object.entries(charts)) {
    const options = {
      mode: "vega-lite", renderer: "svg", config,
      tooltip: { theme: dark.matches ? "dark" : "light" },
      actions: { export: true, source: false, compiled: false, editor: false }, downloadFileName: id,
    };
    const { view, finalize } = await vegaEmbed(document.getElementById(id), chart.spec, options);
    const forget = chart.group ? listen(view, chart) : () => {};
    views.push({ view, chart, close: () => { forget(); finalize(); } });
    if (chart.group) await apply(view, chart);
  }
  document.documentElement.dataset.drawn = String(views.length);
}

let drawing = draw();
dark.addEventListener("change", () => { drawing = drawing.then(draw); });
reset.addEventListener("click", () => Object.keys(zooms).forEach((group) => zoom(group, null)));

// Bar charts over time as SVG, drawn for the width there is, each with the table that it stands for.

import { h, put, svg } from "./dom.js";
import { table } from "./widgets.js";

const HEIGHT = 170;
const TOP = 10;
const BOTTOM = 22;
const LEFT = 56;

/**
 * A chart of bars and, behind "Show as a table", its figures.
 *
 * @param {object} options
 *   title; points: [{label: its time in full, tick: for the axis or null, value: the height, text: the exact figure}];
 *   axis(value): text of a value at the axis.
 */
export function barChart({ title, points, axis }) {
  const canvas = h("div", { class: "canvas" });
  const observer = new ResizeObserver(() => {
    if (!canvas.isConnected) return observer.disconnect();
    return put(canvas, drawn(title, points, axis, canvas.clientWidth));
  });
  observer.observe(canvas);
  return h("figure", { class: "chart" },
    h("figcaption", null, title), canvas,
    h("details", null, h("summary", null, "Show as a table"),
      table(title, [["Time", (point) => point.label], ["Value", (point) => point.text, { number: true }]],
        points.filter((point) => point.value > 0).reverse())));
}

function drawn(title, points, axis, width) {
  const top = niceTop(Math.max(...points.map((point) => point.value), 0));
  const room = { width: Math.max(1, width - LEFT - 4), height: HEIGHT - TOP - BOTTOM };
  const slot = room.width / points.length;
  const y = (value) => TOP + room.height * (1 - value / top);
  const lines = [0, top / 2, top].map((value) => [
    svg("line", { class: "rule", x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
    svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, axis(value)),
  ]);
  // As many labels as there is room for, the newest always among them.
  const ticked = points.flatMap((point, at) => (point.tick === null ? [] : [at]));
  const every = Math.max(1, Math.ceil(ticked.length / Math.max(2, Math.floor(room.width / 70))));
  const labels = new Set(ticked.filter((_, at) => (ticked.length - 1 - at) % every === 0));
  const bars = points.map((point, at) => {
    const x = LEFT + at * slot;
    // Something is never drawn as nothing.
    const height = point.value > 0 ? Math.max(2, TOP + room.height - y(point.value)) : 0;
    return svg("g", null,
      svg("title", null, `${point.label}: ${point.text}`),
      svg("rect", { class: "column", x, y: TOP, width: slot, height: room.height }),
      svg("rect", { class: "mark", x: x + slot * 0.12, y: TOP + room.height - height, width: slot * 0.76, height }),
      labels.has(at) ? svg("text", { x: Math.min(x + slot / 2, width - 20), y: HEIGHT - 6, "text-anchor": "middle" }, point.tick) : null);
  });
  const label = `${title}. ${points.length} points; the table below has the figures.`;
  return svg("svg", { width, height: HEIGHT, role: "img", "aria-label": label }, lines, bars);
}

/** The first of 1, 2, 4, 5, 8 times a power of ten that is not below the value. */
function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((step) => step * power).find((top) => top >= value * (1 - 1e-9));
}

/** The points of a statistics answer's series. `of` gives {value, text} of one. Days and hours are those of UTC. */
export function pointsOf(stats, of) {
  const hourly = stats.interval === "hour";
  const one = stats.series.length <= 49;
  return stats.series.map((point) => {
    const [day, rest] = point.start.split("T");
    const hour = rest.slice(0, 5);
    const short = `${Number(day.slice(8))}.${Number(day.slice(5, 7))}.`;
    return {
      label: hourly ? `${day} ${hour} UTC` : day,
      // Over several days an hour alone says nothing: each day is named where it begins.
      tick: !hourly ? short : one ? hour : hour === "00:00" ? short : null,
      ...of(point),
    };
  });
}

// Statistics over a period: totals, over time, and by model, provider, status or processing.

import * as api from "../api.js";
import { barChart, pointsOf } from "../chart.js";
import { h, put } from "../dom.js";
import { compact, count, counted, milliseconds, percent, rate } from "../format.js";
import { money } from "../money.js";
import { go } from "../router.js";
import { keys } from "../session.js";
import { empty, errorBox, field, figure, figures, input, select, table, titled } from "../widgets.js";

const DAY_MS = 86_400_000;
/** Days of the presets; hours are offered up to the points that one answer may have. */
const PERIODS = [["1", "last 24 hours"], ["7", "last 7 days"], ["30", "last 30 days"], ["90", "last 90 days"], ["", "from … to …"]];

export async function stats({ main, query, signal }) {
  const own = Boolean(query.from || query.to);
  const controls = {
    days: select(PERIODS, own ? "" : query.days ?? "30"),
    from: input({ type: "date", value: query.from ?? "" }),
    to: input({ type: "date", value: query.to ?? "" }),
    interval: select([["day", "days"], ["hour", "hours"]], query.interval ?? "day"),
    group_by: select(["model", "provider", "status", "processing"], query.group_by ?? "model"),
  };
  const dates = [field("From (UTC)", controls.from), field("To, not included (UTC)", controls.to)];
  const show = () => dates.forEach((each) => { each.hidden = controls.days.value !== ""; });
  controls.days.addEventListener("change", show);
  show();
  const form = h("form", {
    class: "filters",
    onsubmit: (event) => {
      event.preventDefault();
      const { days, from, to, interval, group_by: group } = Object.fromEntries(
        Object.entries(controls).map(([name, control]) => [name, control.value]));
      go("/stats", { ...(days ? { days } : { from, to }), interval, group_by: group });
    },
  }, field("Period", controls.days), dates, field("Points", controls.interval), field("By", controls.group_by),
  h("button", { class: "main" }, "Show"));
  const place = h("div", null, h("p", { class: "note" }, "Adding up…"));
  put(main, titled("Statistics"), form, place);
  try {
    const found = await api.get("/v1/stats/{tenant_id}/{project_id}", {
      path: { tenant_id: keys().tenantId, project_id: keys().projectId },
      query: { ...rangeOf(query), interval: query.interval ?? "day", group_by: query.group_by ?? "model" },
      signal,
    });
    put(place, shown(found));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    put(place, errorBox(error));
  }
}

/** The period of the address, as the API takes it. */
function rangeOf(query) {
  if (query.from || query.to) {
    return { from: query.from ? `${query.from}T00:00:00Z` : "", to: query.to ? `${query.to}T00:00:00Z` : "" };
  }
  const days = Number(query.days ?? "30");
  const from = new Date(Date.now() - days * DAY_MS);
  // Whole days begin at UTC's midnight, so that the first bar is no part of one.
  if (query.interval !== "hour" && days > 1) from.setUTCHours(24, 0, 0, 0);
  return { from: from.toISOString() };
}

function shown(found) {
  const totals = found.totals;
  const live = found.live;
  const chart = (title, of, axis) => barChart({ title: `${title} by ${found.interval} (UTC)`, points: pointsOf(found, of), axis });
  return [
    h("p", { class: "note" }, `What ended from ${found.from.slice(0, 16).replace("T", " ")} to ${found.to.slice(0, 16).replace("T", " ")}, UTC.`),
    figures(
      figure("Completions", count(totals.requests), counted(totals.attempts, "call")),
      figure("Succeeded", percent(totals.success_rate), `${count(totals.failed)} failed, ${count(totals.cancelled)} cancelled, ${count(totals.expired)} expired`),
      figure("Tokens", count(totals.input_tokens + totals.output_tokens), `${count(totals.input_tokens)} in (${count(totals.cached_tokens)} cached), `
        + `${count(totals.output_tokens)} out (${count(totals.reasoning_tokens)} reasoning)`),
      figure("Cost", money(totals.cost_usd), totals.unpriced ? `without ${counted(totals.unpriced, "answer")} of unknown price` : null),
      figure("Saved", money(totals.savings_usd), "against the price in real time"),
      figure("Latency", milliseconds(totals.latency_ms.p50), `95\u00a0% within ${milliseconds(totals.latency_ms.p95)}, 99\u00a0% within ${milliseconds(totals.latency_ms.p99)}`),
      figure("First token", milliseconds(totals.time_to_first_token_ms.p50), totals.time_to_first_token_ms.p50 === null
        ? "nothing was streamed" : `of streams; 95\u00a0% within ${milliseconds(totals.time_to_first_token_ms.p95)}`),
      figure("This moment", `${count(live.project.in_flight)} in flight`, `${counted(live.project.queue_depth, "row")} of this project wait. `
        + `Whole service: ${count(live.in_flight)} in flight, ${count(live.queue_depth)} wait${live.rows_per_second === null ? "" : `, ${rate(live.rows_per_second)}`}`)),
    live.note ? h("p", { class: "note" }, live.note) : null,
    totals.requests === 0
      ? empty(h("p", null, "Nothing ended in this period."), h("p", null, "Choose a longer one, or try the ", h("a", { href: "#/playground" }, "playground"), "."))
      : [
        h("section", null, h("h2", null, "Over time"), h("div", { class: "charts" },
          chart("Cost in US dollars", (point) => ({ value: Number(point.cost_usd), text: money(point.cost_usd) }), (value) => `$${Number(value.toPrecision(3))}`),
          chart("Completions", (point) => ({ value: point.requests, text: count(point.requests) }), compact),
          chart("Tokens", (point) => ({ value: point.input_tokens + point.output_tokens, text: count(point.input_tokens + point.output_tokens) }), compact),
          chart("Latency, 95th percentile", (point) => ({ value: point.latency_ms.p95 ?? 0, text: milliseconds(point.latency_ms.p95) }), milliseconds))),
        h("section", null, h("h2", null, `By ${found.group_by}`), grouped(found.groups, found.group_by)),
        found.group_by === "model" ? null : h("section", null, h("h2", null, "By model"), grouped(found.by_model, "model")),
        h("p", { class: "note" }, "Percentiles are exact to 4.5 %; latency is of completions that succeeded."),
      ],
  ];
}

function grouped(groups, name) {
  const rows = Object.entries(groups).sort(([, one], [, other]) => other.requests - one.requests);
  const number = { number: true };
  return table(`Statistics by ${name}`, [
    [name, ([key]) => key],
    ["Completions", ([, of]) => count(of.requests), number],
    ["Succeeded", ([, of]) => percent(of.success_rate), number],
    ["Tokens in", ([, of]) => count(of.input_tokens), number],
    ["Tokens out", ([, of]) => count(of.output_tokens), number],
    ["Cost", ([, of]) => money(of.cost_usd), number],
    ["Saved", ([, of]) => money(of.savings_usd), number],
    ["p50", ([, of]) => milliseconds(of.latency_ms.p50), number],
    ["p95", ([, of]) => milliseconds(of.latency_ms.p95), number],
    ["p99", ([, of]) => milliseconds(of.latency_ms.p99), number],
    ["First token p50", ([, of]) => milliseconds(of.time_to_first_token_ms.p50), number],
  ], rows);
}

// The first page: what today and this month used and cost, what runs, and what stands in the way.

import * as api from "../api.js";
import { barChart, pointsOf } from "../chart.js";
import { h, put } from "../dom.js";
import { compact, count, counted, milliseconds, percent, rate, time } from "../format.js";
import { money, share, some } from "../money.js";
import { poll } from "../polling.js";
import { address } from "../router.js";
import { keys } from "../session.js";
import { badge, empty, errorBox, figure, figures, progressBar, shareBar, table, titled } from "../widgets.js";
import { reasonOf, stopOf, waitingOf } from "../words.js";

const FIGURES_EVERY_MS = 30_000;
const RUNNING_EVERY_MS = 4_000;
const IDLE_EVERY_MS = 15_000;

export async function overview({ main, signal }) {
  const trouble = h("div");
  const places = Object.fromEntries(["warnings", "running", "budgets", "today", "month", "charts"].map((name) => [name, h("section")]));
  put(main, titled("Overview", h("a", { class: "button main", href: "#/new" }, "New batch")), trouble, Object.values(places));
  const onError = (error, waitMs) => put(trouble, errorBox(error),
    waitMs === null ? null : h("p", { class: "note" }, `Asked again in ${Math.ceil(waitMs / 1000)} s.`));
  await Promise.all([
    poll(() => showRunning(places.running, trouble, signal), { everyMs: RUNNING_EVERY_MS, signal, onError }),
    poll(() => showFigures(places, trouble, signal), { everyMs: FIGURES_EVERY_MS, signal, onError }),
  ]);
}

/** Batches that have not ended. Paused ones first: they wait for the reader. */
async function showRunning(place, trouble, signal) {
  const pages = await Promise.all(["paused", "processing", "pending"].map((status) =>
    api.get("/v1/batch", { query: { status, limit: 10 }, signal })));
  const running = pages.flatMap((page) => page.data);
  const more = pages.some((page) => page.has_more);
  put(trouble);
  put(place, h("h2", null, "Running batches"), running.length === 0
    ? empty(h("p", null, "Nothing runs."), h("p", null, h("a", { href: "#/new" }, "Submit a batch"), " or ",
      h("a", { href: "#/batches" }, "look at earlier ones"), "."))
    : table("Running batches", [
      ["Batch", (batch) => h("a", { href: address(`/batches/${batch.id}`) }, batch.name ?? batch.id)],
      ["Status", (batch) => badge(batch.status)],
      ["Rows ended", (batch) => [progressBar(batch.request_counts), h("div", { class: "note" }, endedOf(batch))]],
      ["Speed", (batch) => rate(batch.progress.rows_per_second), { number: true }],
      ["Waits for", (batch) => h("span", { class: "note" }, reasonOf(batch) ?? waitingOf(batch) ?? "")],
    ], running),
  more ? h("p", null, h("a", { href: "#/batches" }, "All batches")) : null);
  return running.length ? RUNNING_EVERY_MS : IDLE_EVERY_MS;
}

function endedOf(batch) {
  const { total, pending, processing, failed } = batch.request_counts;
  return `${count(total - pending - processing)} of ${count(total)}${failed ? `, ${count(failed)} failed` : ""}`;
}

async function showFigures(places, trouble, signal) {
  const now = new Date();
  const path = { tenant_id: keys().tenantId, project_id: keys().projectId };
  const statsSince = (from, interval) =>
    api.get("/v1/stats/{tenant_id}/{project_id}", { path, query: { from: from.toISOString(), interval }, signal });
  const midnight = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()));
  const first = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1));
  const [today, month, budgets, providers] = await Promise.all([
    statsSince(midnight, "hour"), statsSince(first, "day"),
    api.get("/v1/budgets", { signal }), api.get("/v1/providers", { query: { limit: 100 }, signal }),
  ]);
  put(trouble);
  put(places.warnings, warnings(providers.data));
  put(places.today, h("h2", null, "Today"), totals(today.totals));
  put(places.month, h("h2", null, "This month"), totals(month.totals),
    h("p", { class: "note" }, "Days and months are those of UTC. Percentiles are exact to 4.5 %."));
  put(places.budgets, budgets.data.length ? [h("h2", null, "Budgets"), budgets.data.map(budgetLine)] : null);
  // A redraw would close the tables that are open and take the bar from under the pointer.
  if (!places.charts.matches(":hover, :focus-within") && !places.charts.querySelector("details[open]")) {
    put(places.charts, month.totals.requests === 0 ? null : charts(today, month));
  }
}

function totals(found) {
  const judged = found.succeeded + found.failed;
  return figures(
    figure("Completions", count(found.requests), `${counted(found.attempts, "call")} to providers`),
    figure("Tokens", count(found.input_tokens + found.output_tokens), `${count(found.input_tokens)} in, ${count(found.output_tokens)} out`),
    figure("Cost", money(found.cost_usd), found.unpriced ? `without ${counted(found.unpriced, "answer")} of unknown price` : null),
    figure("Saved", money(found.savings_usd), "against the price in real time"),
    figure("Errors", judged ? percent(found.failed / judged) : "–", `${count(found.failed)} of ${count(judged)} failed`),
    figure("Latency", milliseconds(found.latency_ms.p50), `median; 95\u00a0% within ${milliseconds(found.latency_ms.p95)}`));
}

function charts(today, month) {
  const both = (stats, when) => [
    barChart({
      title: `Cost in US dollars, ${when}`, axis: (value) => `$${Number(value.toPrecision(3))}`,
      points: pointsOf(stats, (point) => ({ value: Number(point.cost_usd), text: money(point.cost_usd) })),
    }),
    barChart({
      title: `Completions, ${when}`, axis: compact,
      points: pointsOf(stats, (point) => ({ value: point.requests, text: count(point.requests) })),
    }),
  ];
  return [h("h2", null, "Over time"), h("div", { class: "charts" },
    both(today, "today by hour (UTC)"), both(month, "this month by day"))];
}

function budgetLine(budget) {
  const used = share(budget.spent_usd, budget.limit_usd);
  const label = `${money(budget.spent_usd)} of ${money(budget.limit_usd)} spent this ${budget.period}`;
  const what = budget.on_limit === "stop" ? "at the limit batches pause and calls are refused" : "at the limit it only warns";
  return h("div", { class: "budget" },
    h("p", null, label, some(budget.reserved_usd) ? `, ${money(budget.reserved_usd)} reserved by calls in flight` : null,
      "; ", what, ". The period ends ", time(budget.period_end), "."),
    shareBar(used, label, used >= 1 ? "bad" : used >= 0.8 ? "attention" : "good"));
}

function warnings(providers) {
  if (providers.length === 0) {
    return empty(h("p", null, "No provider is configured yet, so nothing can be called."),
      h("p", null, h("a", { href: "#/settings/providers" }, "Store a provider's key"), "."));
  }
  return providers.filter((provider) => provider.state === "stopped").map((provider) =>
    h("div", { class: "error", role: "alert" }, h("p", null, h("strong", null, stopOf(provider))),
      h("p", null, "Stopped ", time(provider.stopped_at), provider.stop_message ? `; the provider said: ${provider.stop_message}` : null),
      h("p", { class: "note" }, "Batches that need it are paused; calls of its models fail.")));
}

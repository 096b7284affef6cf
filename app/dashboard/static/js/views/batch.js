// One batch: how far it is, how it is run and why, what it cost, what its owner can do with it, and its rows.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { count, rate, seconds, time } from "../format.js";
import { money, some, sum } from "../money.js";
import { poll } from "../polling.js";
import { address } from "../router.js";
import { badge, errorBox, figure, figures, progressBar, table, titled } from "../widgets.js";
import { reasonOf, waitingOf } from "../words.js";
import { batchActions } from "./batch-actions.js";
import { batchRows } from "./batch-rows.js";
import { deliveriesOf } from "./deliveries.js";

const EVERY_MS = 1_500;
/** A batch that runs for minutes is asked less often: a project's requests a minute are limited. */
const LATER_MS = 4_000;
const LATER_AFTER_MS = 60_000;

export async function batch({ main, params, signal }) {
  const places = Object.fromEntries(["head", "trouble", "state", "plan", "errors", "rows", "deliveries"].map((name) => [name, h("section")]));
  put(main, Object.values(places));
  const started = performance.now();
  let shown = null;
  let rowsShown = null;

  const show = (found) => {
    // The actions change with the status only, so that a button is not replaced under the pointer.
    const state = `${found.status} ${found.status_reason} ${found.ended_at}`;
    if (shown !== state) {
      shown = state;
      put(places.head, heading(found), batchActions(found, refresh, signal));
    }
    put(places.state, stateOf(found));
    put(places.plan, planOf(found));
    put(places.errors, causesOf(found));
    const { failed, total, pending } = found.request_counts;
    // Rows are read anew when there is something to see: at first, when the first ones fail, at the end.
    const wanted = found.ended_at !== null ? "ended" : failed > 0 ? "failing" : total > pending ? "running" : "waiting";
    if (rowsShown !== wanted) {
      rowsShown = wanted;
      batchRows(places.rows, found, signal);
      deliveriesOf(places.deliveries, found, signal);
    }
  };
  const refresh = async () => {
    const found = await api.get("/v1/batch/{batch_id}", { path: { batch_id: params.id }, signal });
    put(places.trouble);
    show(found);
    return found;
  };
  await poll(async () => {
    const found = await refresh();
    if (found.ended_at !== null) return false;
    return performance.now() - started > LATER_AFTER_MS || found.status === "paused" ? LATER_MS : EVERY_MS;
  }, {
    everyMs: EVERY_MS, signal,
    onError: (error, waitMs) => put(places.trouble, errorBox(error),
      waitMs === null ? h("p", null, h("a", { href: "#/batches" }, "To all batches"))
        : h("p", { class: "note" }, `Asked again in ${Math.ceil(waitMs / 1000)} s.`)),
  });
}

function heading(found) {
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/batches" }, "Batches")),
    titled(found.name ?? "Batch", badge(found.status)),
    h("p", { class: "note" }, h("code", null, found.id),
      found.retry_of ? [" retries ", h("a", { href: address(`/batches/${found.retry_of}`) }, found.retry_of)] : null),
  ];
}

function stateOf(found) {
  const counts = found.request_counts;
  const why = reasonOf(found);
  const waits = waitingOf(found);
  const homecoming = found.ended_at === null && ["cancelled", "expired", "failed"].includes(found.status);
  return [
    why ? h("p", { class: found.status === "cancelled" ? "note" : "reason" }, why) : null,
    homecoming ? h("p", { class: "note" }, "Calls in flight still come home; no new one starts.") : null,
    progressBar(counts),
    h("p", { class: "legend" }, ["succeeded", "failed", "expired", "cancelled", "processing", "pending"]
      .filter((name) => counts[name] > 0 || name === "succeeded")
      .map((name) => h("span", { class: `key part-${name}` }, `${count(counts[name])} ${name}`)),
    h("span", null, `of ${count(counts.total)}`)),
    waits ? h("p", { class: "note" }, "Waits for ", waits, ".") : null,
    figures(
      figure("Cost", money(found.cost_usd), found.max_cost_usd ? `limit ${money(found.max_cost_usd)}` : "no limit"),
      some(found.savings_usd)
        ? figure("Saved", money(found.savings_usd), `list price ${money(sum(found.cost_usd, found.savings_usd))}`)
        : figure("Saved", money("0"), "at list price in real time"),
      figure("Tokens", count(found.usage.input_tokens + found.usage.output_tokens),
        `${count(found.usage.input_tokens)} in (${count(found.usage.cached_tokens)} cached), ${count(found.usage.output_tokens)} out`),
      figure("Speed", rate(found.progress.rows_per_second), "since its first row started"),
      figure(...whenOf(found))),
    details(found),
  ];
}

function whenOf(found) {
  if (found.ended_at !== null) {
    const from = found.started_at ?? found.created_at;
    return ["Took", seconds((new Date(found.ended_at) - new Date(from)) / 1000), ["ended ", time(found.ended_at)]];
  }
  if (found.progress.eta !== null) {
    return ["Ready", time(found.progress.eta), `at this speed, in ${seconds((new Date(found.progress.eta) - Date.now()) / 1000)}`];
  }
  return ["Window ends", time(found.expires_at), `in ${seconds((new Date(found.expires_at) - Date.now()) / 1000)}`];
}

function details(found) {
  const pairs = [
    ["Submitted", time(found.created_at)], ["Started", time(found.started_at)], ["Window ends", time(found.expires_at)],
    ["Processing asked for", found.processing], ["Priority", found.priority],
    found.max_error_rate === null ? null : ["Stops at an error rate of", found.max_error_rate],
    found.webhook_url ? ["Webhook", found.webhook_url] : null,
    ...Object.entries(found.metadata),
  ].filter(Boolean);
  return h("dl", { class: "pairs" }, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

function planOf(found) {
  const native = found.native;
  return [
    h("h2", null, "How its rows are run"),
    table("How the rows of each model are run", [
      ["Model", (way) => way.model], ["Provider", (way) => way.provider], ["Rows", (way) => count(way.rows), { number: true }],
      ["Way", (way) => (way.processing === "native" ? "provider's batch API" : "real time")], ["Why", (way) => way.reason],
    ], found.processing_plan),
    native ? h("p", { class: "note" },
      `At the providers' batch APIs: ${count(native.shards)} in all, ${count(native.shards_waiting)} to be sent, `
      + `${count(native.shards_at_provider)} there. ${count(native.rows_answered)} rows answered at half the price, `
      + `${count(native.rows_returned)} taken back to run in real time.`,
      native.wasted_rows ? ` ${count(native.wasted_rows)} rows were answered after that: ${money(native.wasted_usd)} paid twice.` : null) : null,
  ];
}

function causesOf(found) {
  if (found.errors.length === 0) return null;
  return [
    h("h2", null, "Why rows failed"),
    table("Causes of failed rows", [
      ["Rows", (cause) => count(cause.count)], ["Kind", (cause) => h("code", null, cause.type)],
      ["Such as", (cause) => cause.message],
    ], found.errors),
  ];
}

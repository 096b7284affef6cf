// One completion: what was asked, what came back, who answered, what it took.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { count, milliseconds, time } from "../format.js";
import { textOf } from "../messages.js";
import { money, some, sum } from "../money.js";
import { keys } from "../session.js";
import { badge, figure, figures, table, titled } from "../widgets.js";

export async function log({ main, params, signal }) {
  const path = { tenant_id: keys().tenantId, project_id: keys().projectId, log_id: params.id };
  const found = await api.get("/v1/logs/{tenant_id}/{project_id}/{log_id}", { path, signal });
  const usage = found.usage;
  put(main,
    h("p", { class: "crumbs" }, h("a", { href: "#/logs" }, "Logs"),
      found.batch_id ? [" / ", h("a", { href: `#/batches/${found.batch_id}` }, "its batch")] : null),
    titled(found.custom_id ?? "Completion", badge(found.status)),
    h("p", { class: "note" }, h("code", null, found.id)),
    found.error ? errorOf(found.error) : null,
    figures(
      figure("Model", found.model_answered ?? found.model, `asked for as ${found.model_requested}, called as ${found.model}`),
      figure("Provider", found.provider, found.processing === "native" ? "through its batch API" : "in real time"),
      figure("Tokens", usage ? count(usage.input_tokens + usage.output_tokens) : "–", usage
        ? `${count(usage.input_tokens)} in (${count(usage.cached_tokens)} cached), ${count(usage.output_tokens)} out `
          + `(${count(usage.reasoning_tokens)} reasoning)` : null),
      figure("Cost", money(found.cost_usd), some(found.savings_usd)
        ? `list price ${money(sum(found.cost_usd, found.savings_usd))}, saved ${money(found.savings_usd)}` : null),
      figure("Call took", milliseconds(found.duration_ms), durationOf(found)),
      figure("Attempts", count(found.attempts), "calls to providers")),
    attempts(found.failed_attempts),
    h("dl", { class: "pairs" }, [
      ["Created", time(found.created_at)], [found.batch_id ? "Last call started" : "First call started", time(found.started_at)], ["Ended", time(found.ended_at)],
      ["Request id", found.request_id ?? "–"], ["Prices of", found.price_version ?? "–"],
    ].map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    bodies(found));
}

/** What the duration is of: a batch's row waits between its attempts, a completion in real time is waited for. */
function durationOf(found) {
  if (found.time_to_first_token_ms !== null) return `first token after ${milliseconds(found.time_to_first_token_ms)}`;
  if (found.batch_id) return "the last attempt";
  return found.attempts > 1 ? "its retries included" : null;
}

function errorOf(error) {
  return h("div", { class: "error" }, h("p", null, h("code", null, error.type), ` ${error.message}`),
    h("p", { class: "note" }, error.provider_status ? `The provider answered ${error.provider_status}. ` : null,
      error.retryable ? "The same request may succeed later." : "The same request would fail again."));
}

function attempts(failed) {
  if (failed.length === 0) return null;
  return h("section", null, h("h2", null, "Attempts that failed before"), table("Attempts that failed before", [
    ["Started", (call) => time(call.started_at)], ["Ended", (call) => time(call.ended_at)],
    ["Provider", (call) => call.provider], ["Model", (call) => call.model],
    ["Why", (call) => h("div", { class: "outcome" }, h("code", null, call.error.type), ` ${call.error.message}`)],
  ], failed));
}

function bodies(found) {
  if (found.bodies === "not_kept") {
    return h("p", { class: "note" }, "Prompt and answer are not in the logs: the project keeps metadata only.");
  }
  return [
    // Embeddings have none: what they were asked for stands in the request.
    found.prompt === null ? null : h("section", null, h("h2", null, "Prompt"), found.prompt.map((message) =>
      h("div", { class: "message" }, h("span", { class: "note" }, message.role), h("pre", { class: "answer" },
        typeof message.content === "string" ? message.content : JSON.stringify(message.content, null, 2))))),
    found.response ? h("section", null, h("h2", null, "Answer"), h("pre", { class: "answer" }, textOf(found.response))) : null,
    whole("Request as JSON", found.request),
    whole("Answer as JSON", found.response),
  ];
}

function whole(name, value) {
  return value ? h("details", null, h("summary", null, name), h("pre", { class: "answer" }, JSON.stringify(value, null, 2))) : null;
}

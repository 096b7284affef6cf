// The project's logs: every completion, by the API's own filters, with an export of all that pass.

import * as api from "../api.js";
import { save } from "../download.js";
import { h, put } from "../dom.js";
import { count, milliseconds, time } from "../format.js";
import { logsFrom } from "../log-pages.js";
import { textOf } from "../messages.js";
import { money } from "../money.js";
import { go } from "../router.js";
import { keys } from "../session.js";
import { act, badge, button, empty, errorBox, field, input, moreButton, select, table, titled } from "../widgets.js";
import { ROW_STATUSES } from "../words.js";

/** Filters that are folded away until one is set. */
const RARE = ["provider", "from", "to", "batch_id", "custom_id", "min_duration_ms"];

export async function logs({ main, query, signal }) {
  const controls = {
    q: input({ type: "search", minlength: "2", maxlength: "200", value: query.q ?? "" }),
    status: select([["", "All"], ...ROW_STATUSES], query.status ?? ""),
    model: input({ value: query.model ?? "" }),
    provider: select([["", "All"], "openai", "anthropic", "openai_compatible"], query.provider ?? ""),
    batch_id: input({ value: query.batch_id ?? "" }),
    custom_id: input({ value: query.custom_id ?? "" }),
    from: input({ type: "datetime-local", value: local(query.from) }),
    to: input({ type: "datetime-local", value: local(query.to) }),
    min_duration_ms: input({ type: "number", min: "0", value: query.min_duration_ms ?? "" }),
  };
  const chosen = () => {
    const values = Object.entries(controls).map(([name, control]) => [name, control.value.trim()]);
    const filters = Object.fromEntries(values);
    for (const name of ["from", "to"]) if (filters[name]) filters[name] = new Date(filters[name]).toISOString();
    return filters;
  };
  const form = h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      go("/logs", chosen());
    },
  },
  h("div", { class: "grid" },
    field("Text in prompt or answer", controls.q), field("Status", controls.status), field("Model", controls.model)),
  // Open where one of them is set, so that nothing filters unseen.
  h("details", { open: RARE.some((name) => query[name]) }, h("summary", null, "More filters"),
    h("div", { class: "grid" },
      field("Provider", controls.provider), field("Created from", controls.from), field("Created before", controls.to),
      field("Batch id", controls.batch_id), field("custom_id", controls.custom_id),
      field("Call took at least (ms)", controls.min_duration_ms))),
  h("div", { class: "actions" }, h("button", { class: "main" }, "Search"), h("a", { class: "button", href: "#/logs" }, "Clear"),
    exportButton("Export NDJSON", "logs.jsonl", "application/x-ndjson", query, signal),
    exportButton("Export CSV", "logs.csv", "text/csv", query, signal)));
  const said = h("div", { id: "export" });
  const place = h("section");
  put(main, titled("Logs"), form, said, place);
  await list(place, query, signal);
}

async function list(place, query, signal) {
  const shown = [];
  let cursor = null;
  const more = async () => {
    try {
      const found = await logsFrom(query, cursor, signal);
      shown.push(...found.logs);
      cursor = found.cursor;
      put(place, shown.length ? listed(shown) : nothing(query, cursor),
        cursor ? h("div", { class: "actions" }, moreButton(shown.length ? "Older" : "Look further back", more)) : null);
    } catch (error) {
      if (error.name !== "AbortError") put(place, errorBox(error));
    }
  };
  put(place, h("p", { class: "note" }, "Looking…"));
  await more();
}

function listed(rows) {
  return table("Logs, newest first", [
    ["Created", (log) => h("a", { href: `#/logs/${log.id}` }, time(log.created_at))],
    ["Status", (log) => badge(log.status)],
    ["Model", (log) => [log.model_answered ?? log.model, log.model_requested === log.model ? null
      : h("div", { class: "note" }, `asked for as ${log.model_requested}`)]],
    ["Prompt and answer", (log) => h("div", { class: "outcome" },
      h("div", { class: "clipped note" }, lastOf(log.prompt)),
      h("div", { class: "clipped" }, log.error ? `${log.error.type}: ${log.error.message}` : log.response ? textOf(log.response) : ""))],
    ["Tokens", (log) => (log.usage ? count(log.usage.input_tokens + log.usage.output_tokens) : "–"), { number: true }],
    ["Took", (log) => milliseconds(log.duration_ms), { number: true }],
    ["Cost", (log) => money(log.cost_usd), { number: true }],
  ], rows);
}

/** What the last message of a prompt says. */
function lastOf(prompt) {
  const last = prompt?.at(-1)?.content;
  return typeof last === "string" ? last : last === undefined ? "" : JSON.stringify(last);
}

function nothing(query, cursor) {
  if (cursor) return empty(h("p", null, "Nothing yet; there are older logs to look through."));
  if (Object.keys(query).length) return empty(h("p", null, "No log passes these filters."));
  return empty(h("p", null, "Nothing has been asked yet. Try the ", h("a", { href: "#/playground" }, "playground"), "."));
}

/** Exports what the present filters pass, all of it, whatever the page shows. */
function exportButton(text, name, type, query, signal) {
  const pressed = button(text, () => {
    const place = document.getElementById("export");
    const said = h("p", { class: "note", role: "status" });
    act(pressed, place, async () => {
      put(place, said);
      try {
        said.textContent = await save({
          name, rows: null, expected: false,
          open: () => api.getStream("/v1/logs/{tenant_id}/{project_id}", {
            path: { tenant_id: keys().tenantId, project_id: keys().projectId }, query, headers: { accept: type }, signal,
          }),
          onProgress: (progress) => { said.textContent = progress; },
        });
      } catch (error) {
        said.remove();
        throw error;
      }
    });
  });
  return pressed;
}

/** A moment of the address as such a control takes it, in the reader's own time. */
function local(text) {
  if (!text) return "";
  const moment = new Date(text);
  return Number.isNaN(moment.getTime()) ? "" : new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

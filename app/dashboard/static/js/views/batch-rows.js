// The rows of a batch, by status, from the project's logs: failed ones with what went wrong.

import { h, put } from "../dom.js";
import { count, milliseconds } from "../format.js";
import { logsFrom } from "../log-pages.js";
import { money } from "../money.js";
import { badge, button, empty, errorBox, field, moreButton, select, table } from "../widgets.js";
import { textOf } from "../messages.js";

export async function batchRows(place, batch, signal) {
  const chosen = batch.request_counts.failed > 0 ? "failed" : "succeeded";
  const chooser = select([["", "All"], "succeeded", "failed", "expired", "cancelled", "pending"], chosen, { onchange: () => show() });
  const listed = h("div");
  put(place, h("div", { class: "title" }, h("h2", null, "Rows"), h("div", { class: "filters" }, field("Status", chooser), button("Refresh", () => show()))), listed);
  let asked = 0;

  const show = async () => {
    asked += 1;
    const mine = asked;
    const rows = [];
    let cursor = null;
    const more = async () => {
      try {
        const page = await logsFrom({ batch_id: batch.id, status: chooser.value }, cursor, signal);
        if (mine !== asked) return;
        rows.push(...page.logs);
        cursor = page.cursor;
        put(listed, rows.length ? tableOf(rows) : nothing(batch, chooser.value, cursor),
          cursor ? moreButton("More rows", more) : null);
      } catch (error) {
        if (error.name !== "AbortError" && mine === asked) put(listed, errorBox(error));
      }
    };
    await more();
  };
  await show();
}

function tableOf(rows) {
  return table("Rows of the batch", [
    ["custom_id", (row) => h("a", { href: `#/logs/${row.id}` }, row.custom_id ?? row.id)],
    ["Status", (row) => badge(row.status)],
    ["Model", (row) => row.model_answered ?? row.model],
    ["Answer or error", (row) => outcomeOf(row)],
    ["Attempts", (row) => count(row.attempts), { number: true }],
    ["Call took", (row) => milliseconds(row.duration_ms), { number: true }],
    ["Cost", (row) => money(row.cost_usd), { number: true }],
  ], rows);
}

function outcomeOf(row) {
  if (row.error) {
    const { type, message, provider_status: answered, retryable } = row.error;
    return h("div", { class: "outcome" }, h("code", null, type), ` ${message}`,
      h("div", { class: "note" }, answered ? `The provider answered ${answered}. ` : null,
        retryable ? "May work when it is run again." : "Will fail again as it is."));
  }
  if (row.bodies === "not_kept") return h("span", { class: "note" }, "not kept in logs (a setting of the project)");
  if (row.bodies === "too_long") return h("span", { class: "note" }, "too long for a list: open the row");
  return h("div", { class: "outcome clipped" }, row.response ? textOf(row.response) : "");
}

function nothing(batch, status, cursor) {
  if (cursor) return empty(h("p", null, "None so far; there are more to look through."));
  return empty(h("p", null, status ? `No row is ${status}${batch.ended_at === null ? " yet" : ""}.` : "There are no rows."));
}

// The list of batches: by status, page by page, its progress kept fresh while it is looked at.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { count, rate, time } from "../format.js";
import { money } from "../money.js";
import { poll } from "../polling.js";
import { address, go } from "../router.js";
import { badge, button, empty, errorBox, field, progressBar, select, table, titled } from "../widgets.js";
import { BATCH_STATUSES } from "../words.js";

const EVERY_MS = 4_000;
const STILL_MS = 20_000;
const PAGE = 20;

export async function batches({ main, query, signal }) {
  const status = query.status ?? "";
  const chooser = select([["", "All"], ...BATCH_STATUSES], status, { onchange: () => go("/batches", { status: chooser.value }) });
  const trouble = h("div");
  const place = h("div", { "aria-busy": "true" }, h("p", { class: "note" }, "Loading…"));
  put(main, titled("Batches", h("a", { class: "button main", href: "#/new" }, "New batch")),
    h("div", { class: "filters" }, field("Status", chooser)), trouble, place);

  await poll(async () => {
    const page = await api.get("/v1/batch", { query: { status, cursor: query.cursor, limit: PAGE }, signal });
    put(trouble);
    // Who is in the middle of the table with the keyboard stays there.
    const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    put(place, page.data.length ? listed(page.data) : nothing(status), pages(page, status, query.cursor));
    place.removeAttribute("aria-busy");
    if (focused) [...place.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
    return page.data.some((batch) => batch.ended_at === null) ? EVERY_MS : STILL_MS;
  }, {
    everyMs: EVERY_MS, signal,
    onError: (error, waitMs) => {
      if (place.hasAttribute("aria-busy")) put(place);
      put(trouble, errorBox(error), waitMs === null ? null : h("p", { class: "note" }, `Asked again in ${Math.ceil(waitMs / 1000)} s.`));
    },
  });
}

function listed(rows) {
  return table("Batches, newest first", [
    ["Batch", (batch) => h("a", { href: address(`/batches/${batch.id}`) }, batch.name ?? h("code", null, batch.id))],
    ["Status", (batch) => badge(batch.status)],
    ["Rows", (batch) => {
      const { total, pending, processing, failed } = batch.request_counts;
      return [progressBar(batch.request_counts), h("div", { class: "note" },
        `${count(total - pending - processing)} of ${count(total)}${failed ? `, ${count(failed)} failed` : ""}`)];
    }],
    ["Speed", (batch) => rate(batch.progress.rows_per_second), { number: true }],
    ["Cost", (batch) => money(batch.cost_usd), { number: true }],
    ["Submitted", (batch) => time(batch.created_at)],
  ], rows);
}

function nothing(status) {
  return empty(h("p", null, status ? `No batch is ${status}.` : "There is no batch yet."),
    h("p", null, h("a", { href: "#/new" }, "Submit one"), status ? [" or ", h("a", { href: "#/batches" }, "look at all")] : null, "."));
}

function pages(page, status, cursor) {
  // A cursor only leads on; the way back is the browser's.
  return h("div", { class: "actions" },
    cursor ? [button("Newer", () => history.back()), h("a", { class: "button", href: address("/batches", { status }) }, "Newest")] : null,
    page.has_more ? h("a", { class: "button", href: address("/batches", { status, cursor: page.next_cursor }) }, "Older") : null);
}

// Endpoints for the project's events, their secrets, and the log of deliveries.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { time } from "../format.js";
import { act, badge, button, confirmed, empty, errorBox, field, input, moreButton, notice, select, table } from "../widgets.js";
import { deliveryTable } from "./deliveries.js";

const EVENTS = ["batch.completed", "batch.failed", "batch.cancelled", "batch.expired", "batch.paused", "budget.threshold", "provider.stopped"];

export async function webhooks(place, signal) {
  const trouble = h("div");
  const listed = h("section");
  const log = h("section");
  const refresh = async () => {
    const page = await api.get("/v1/webhooks", { query: { limit: 100 }, signal });
    put(listed, page.data.length ? tableOf(page.data, trouble, refresh, () => deliveries(log, signal))
      : empty(h("p", null, "No endpoint is set up."), h("p", null, "Add one below to be told when batches end or pause, a budget is reached, or a key stops working.")));
  };
  put(place, trouble, listed, addForm(refresh), ownSecret(), log);
  await Promise.all([refresh(), deliveries(log, signal)]);
}

function tableOf(rows, trouble, refresh, redraw) {
  return table("Webhook endpoints", [
    ["URL", (row) => [h("span", { class: "breaks" }, row.url), row.description ? h("div", { class: "note" }, row.description) : null]],
    ["Events", (row) => (row.event_types ? row.event_types.map((each) => h("div", { class: "note" }, each)) : "all")],
    ["State", (row) => [badge(row.enabled ? "enabled" : "disabled"),
      row.disabled_reason ? h("div", { class: "note" }, row.disabled_reason, " ", time(row.disabled_at)) : null,
      row.failing_since ? h("div", { class: "note" }, "fails since ", time(row.failing_since)) : null]],
    ["", (row) => actionsOf(row, trouble, refresh, redraw)],
  ], rows);
}

function actionsOf(row, trouble, refresh, redraw) {
  const path = { endpoint_id: row.id };
  const offer = (text, what, properties) => {
    const pressed = button(text, () => act(pressed, trouble, what), properties);
    return pressed;
  };
  return h("div", { class: "actions tight" },
    offer("Send a test", async () => {
      await api.post("/v1/webhooks/{endpoint_id}/test", { path });
      notice("A webhook.test event is on its way, in one attempt: see the deliveries.");
      await redraw();
    }),
    offer(row.enabled ? "Disable" : "Enable", async () => {
      await api.patch("/v1/webhooks/{endpoint_id}", { path, body: { enabled: !row.enabled } });
      await refresh();
    }),
    offer("Show secret", async () => {
      const found = await api.get("/v1/webhooks/{endpoint_id}/secret", { path });
      put(trouble, secretOf(`The secret of ${row.url}`, found.secret));
    }),
    offer("Rotate secret", async () => {
      if (!await confirmed(`A new secret for ${row.url}? For 24 hours the old one signs as well.`, "Rotate")) return;
      const found = await api.post("/v1/webhooks/{endpoint_id}/secret/rotate", { path });
      put(trouble, secretOf(`The new secret of ${row.url}`, found.secret));
    }),
    offer("Delete", async () => {
      if (!await confirmed(`Delete the endpoint ${row.url}? Its deliveries stay in the log.`, "Delete the endpoint")) return;
      await api.del("/v1/webhooks/{endpoint_id}", { path });
      await refresh();
    }, { class: "danger" }));
}

/** A secret, until it is hidden again or the page is left. */
function secretOf(name, secret) {
  const shown = h("div", { class: "reason" }, h("p", null, `${name}: `, h("code", null, secret)), button("Hide", () => shown.remove()));
  return shown;
}

/** The project's secret, which signs what the `webhook_url` of batches gets. */
function ownSecret() {
  const place = h("div");
  const show = button("Show", () => act(show, place, async () => {
    const found = await api.get("/v1/webhooks/secret");
    put(place, secretOf("The project's secret", found.secret));
  }));
  const rotate = button("Rotate", () => act(rotate, place, async () => {
    if (!await confirmed("A new secret for the webhook_url of batches? For 24 hours the old one signs as well.", "Rotate")) return;
    const found = await api.post("/v1/webhooks/secret/rotate");
    put(place, secretOf("The project's new secret", found.secret));
  }));
  return h("section", null, h("h2", null, "The project's own secret"),
    h("p", { class: "note" }, "Signs what the webhook_url of a batch gets."), place, h("div", { class: "actions" }, show, rotate));
}

function addForm(refresh) {
  const place = h("div");
  const url = input({ type: "url", required: true, placeholder: "https://…" });
  const description = input({});
  const boxes = EVENTS.map((name) => h("input", { type: "checkbox", value: name, checked: true }));
  const send = h("button", { class: "main" }, "Add the endpoint");
  return h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      act(send, place, async () => {
        const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
        const types = chosen.length === EVENTS.length ? null : chosen;
        await api.post("/v1/webhooks", { body: { url: url.value.trim(), event_types: types, ...(description.value.trim() ? { description: description.value.trim() } : {}) } });
        url.value = "";
        await refresh();
      });
    },
  }, h("fieldset", null, h("legend", null, "Add an endpoint"),
    h("div", { class: "grid" }, field("URL", url), field("Description (optional)", description)),
    h("div", { class: "choices", role: "group", "aria-label": "Events" }, boxes.map((box) => h("label", { class: "choice" }, box, box.value))),
    place, h("div", { class: "actions" }, send)));
}

/** The log of the last 30 days, by status. */
async function deliveries(place, signal) {
  const chooser = select([["", "All"], "pending", "delivered", "failed"], place.dataset.status ?? "", {
    onchange: () => {
      place.dataset.status = chooser.value;
      deliveries(place, signal);
    },
  });
  const listed = h("div");
  put(place, h("div", { class: "title" }, h("h2", null, "Deliveries"),
    h("div", { class: "filters" }, field("Status", chooser), button("Refresh", () => deliveries(place, signal)))), listed);
  const rows = [];
  let cursor = null;
  const more = async () => {
    try {
      const page = await api.get("/v1/webhooks/deliveries", { query: { status: chooser.value, cursor, limit: 20 }, signal });
      rows.push(...page.data);
      cursor = page.next_cursor;
      put(listed, rows.length ? deliveryTable(rows, () => deliveries(place, signal)) : empty(h("p", null, "Nothing was sent in the last 30 days.")),
        page.has_more ? h("div", { class: "actions" }, moreButton("Older", more)) : null);
    } catch (error) {
      if (error.name !== "AbortError") put(listed, errorBox(error));
    }
  };
  await more();
}

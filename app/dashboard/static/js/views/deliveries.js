// Webhook deliveries: every attempt, what the receiver said, and another try.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { milliseconds, time } from "../format.js";
import { act, badge, button, errorBox, notice, table } from "../widgets.js";

/** The deliveries about one batch; nothing where there are none and none are expected. */
export async function deliveriesOf(place, batch, signal) {
  try {
    const page = await api.get("/v1/webhooks/deliveries", { query: { batch_id: batch.id, limit: 20 }, signal });
    if (page.data.length === 0 && !batch.webhook_url) return put(place);
    return put(place, h("h2", null, "Webhooks"), page.data.length
      ? deliveryTable(page.data, () => deliveriesOf(place, batch, signal))
      : h("p", { class: "note" }, "Nothing was sent yet: a batch tells when it pauses and when it ends."));
  } catch (error) {
    return error.name === "AbortError" ? null : put(place, errorBox(error));
  }
}

export function deliveryTable(deliveries, refresh) {
  const trouble = h("div");
  const resend = (delivery) => {
    const pressed = button("Send again", () => act(pressed, trouble, async () => {
      await api.post("/v1/webhooks/deliveries/{delivery_id}/resend", { path: { delivery_id: delivery.id } });
      notice("It is tried again now, under the same webhook-id.");
      await refresh();
    }));
    return pressed;
  };
  return [trouble, table("Webhook deliveries", [
    ["Event", (delivery) => delivery.event_type],
    ["To", (delivery) => h("span", { class: "breaks" }, delivery.url)],
    ["Status", (delivery) => badge(delivery.status)],
    ["Attempts", (delivery) => attemptsOf(delivery)],
    ["Made", (delivery) => time(delivery.created_at)],
    ["", resend],
  ], deliveries)];
}

function attemptsOf(delivery) {
  const next = delivery.next_attempt_at ? h("div", { class: "note" }, "next at ", time(delivery.next_attempt_at)) : null;
  if (delivery.attempts.length === 0) return next ?? "none yet";
  return [h("ol", { class: "attempts" }, delivery.attempts.map((attempt) =>
    h("li", { value: attempt.number }, attempt.status ?? "no answer", ` in ${milliseconds(attempt.latency_ms)}`,
      attempt.error ? h("div", { class: "note" }, attempt.error) : null,
      attempt.excerpt ? h("div", { class: "note clipped" }, attempt.excerpt) : null))), next];
}

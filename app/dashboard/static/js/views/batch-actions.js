// What its owner can do with a batch in its present state; each thing is one call of the API.

import * as api from "../api.js";
import { save } from "../download.js";
import { h, put } from "../dom.js";
import { counted } from "../format.js";
import { go } from "../router.js";
import { act, button, confirmed, field, input, notice } from "../widgets.js";

/**
 * @param found the batch object
 * @param refresh reads and shows the batch again
 */
export function batchActions(found, refresh, signal) {
  const place = h("div");
  const path = { batch_id: found.id };
  const offers = [];
  const offer = (text, what, properties) => {
    const pressed = button(text, () => act(pressed, place, what), properties);
    offers.push(pressed);
  };
  const running = ["pending", "processing"].includes(found.status);
  const ended = found.ended_at !== null;
  if (running) offer("Pause", async () => {
    await api.post("/v1/batch/{batch_id}/pause", { path });
    await refresh();
  });
  if (found.status === "paused") offer("Resume", () => resume(found, path, refresh), { class: "main" });
  if (running || found.status === "paused") offer("Cancel", async () => {
    const question = `Cancel this batch of ${counted(found.request_counts.total, "row")}? No call starts after that, and rows `
      + "that have ended are kept. It cannot be resumed.";
    if (!await confirmed(question, "Cancel the batch")) return;
    await api.post("/v1/batch/{batch_id}/cancel", { path });
    await refresh();
  }, { class: "danger" });
  if (ended || found.request_counts.total > found.request_counts.pending) {
    offer(ended ? "Download results" : "Download results so far", () => download(found, path, ended, place, signal));
  }
  const { failed, expired } = found.request_counts;
  if (ended && failed + expired > 0) {
    const again = api.newKey();
    offer(`Retry ${counted(failed + expired, "row")} that failed`, async () => {
      const made = await api.post("/v1/batch/{batch_id}/retry", { path, headers: { "idempotency-key": again } });
      go(`/batches/${made.id}`);
    });
  }
  if (ended) offer("Delete", async () => {
    if (!await confirmed(`Delete this batch with the results of its ${counted(found.request_counts.total, "row")}? `
      + "They cannot be brought back; what they cost stays in the statistics.", "Delete the batch")) return;
    await api.del("/v1/batch/{batch_id}", { path });
    notice("The batch is deleted.");
    go("/batches");
  }, { class: "danger" });
  return [h("div", { class: "actions" }, offers), place];
}

/** Resume, at a cost limit with a higher one, which the API would pause at again otherwise. */
async function resume(found, path, refresh) {
  let body = {};
  if (found.status_reason === "cost_limit") {
    const limit = input({ inputmode: "decimal", required: true, value: found.max_cost_usd });
    const question = "It was paused at its cost limit. How much may it cost in all?";
    if (!await confirmed(question, "Resume", field("Limit in US dollars", limit))) return;
    body = { max_cost_usd: limit.value.trim() };
  }
  await api.post("/v1/batch/{batch_id}/resume", { path, body });
  await refresh();
}

async function download(found, path, ended, place, signal) {
  const said = h("p", { class: "note", role: "status" }, "Asking for the results…");
  put(place, said);
  try {
    said.textContent = await save({
      name: `${found.id}.jsonl`,
      rows: found.request_counts.total,
      expected: ended,
      open: () => api.getStream("/v1/batch/{batch_id}/results", {
        path, signal, query: ended ? {} : { partial: "true" }, headers: { accept: "application/x-ndjson" },
      }),
      onProgress: (text) => { said.textContent = text; },
    });
  } catch (error) {
    said.remove();
    throw error;
  }
}

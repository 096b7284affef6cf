// The project's keys at providers. A key goes up once; what comes back are its last four characters.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { count, counted, milliseconds, time } from "../format.js";
import { act, badge, button, confirmed, empty, field, input, notice, select, table } from "../widgets.js";
import { nameOf, stopOf } from "../words.js";

/** Name, words, and what holds where none is set. */
const LIMITS = [
  ["requestsPerMinute", "Requests per minute", "learned from its headers"],
  ["tokensPerMinute", "Tokens per minute", "learned from its headers"],
  ["maxConcurrency", "Calls at once", "the service's own limit"],
];

export async function providers(place, signal) {
  const trouble = h("div");
  const listed = h("section");
  const refresh = async () => {
    const page = await api.get("/v1/providers", { query: { limit: 100 }, signal });
    put(listed, page.data.length ? tableOf(page.data, trouble, refresh)
      : empty(h("p", null, "No provider is configured yet."), h("p", null, "Store a key below; then try it with Test.")));
  };
  put(place, trouble, listed, addForm(refresh));
  await refresh();
}

function tableOf(rows, trouble, refresh) {
  return table("Providers", [
    ["Provider", (row) => [nameOf(row), h("div", { class: "note breaks" }, row.baseUrl), row.organization ? h("div", { class: "note" }, row.organization) : null]],
    ["Key", (row) => h("code", null, `••••${row.apiKeyHint}`)],
    ["State", (row) => [badge(row.state), row.state === "stopped"
      ? h("div", { class: "outcome note" }, stopOf(row), row.stop_message ? ` It said: ${row.stop_message} ` : " ", time(row.stopped_at)) : null]],
    ["Limits", (row) => LIMITS.map(([name, text, otherwise]) => h("div", { class: "note" }, `${text}: ${row.limits[name] === null ? otherwise : count(row.limits[name])}`))],
    ["", (row) => actionsOf(row, trouble, refresh)],
  ], rows);
}

function actionsOf(row, trouble, refresh) {
  const path = { provider_id: row.id };
  const offer = (text, what, properties) => {
    const pressed = button(text, () => act(pressed, trouble, what), properties);
    return pressed;
  };
  return h("div", { class: "actions tight" },
    offer("Test", async () => {
      const body = { providerType: row.providerType, ...(row.name ? { name: row.name } : {}) };
      const found = await api.post("/v1/providers/test", { body });
      put(trouble, h("p", { class: found.ok ? "reason good" : "error", role: "status" }, found.ok
        ? `${nameOf(row)} answered in ${milliseconds(found.latencyMs)} and has ${counted(found.models.length, "model")}.`
        : `${nameOf(row)} does not work: ${found.error}`));
    }),
    offer("Replace key", async () => {
      const key = input({ type: "password", required: true, placeholder: "sk-…" });
      if (!await confirmed(`A new key for ${nameOf(row)}. It is used at once, and a stopped provider works again.`, "Replace", field("Key", key))) return;
      await api.patch("/v1/providers/{provider_id}", { path, body: { apiKey: key.value.trim() } });
      notice("The key is replaced.");
      await refresh();
    }),
    offer("Limits", async () => {
      const controls = LIMITS.map(([name, text, otherwise]) =>
        [name, input({ type: "number", min: "1", value: row.limits[name] ?? "", placeholder: otherwise }), text]);
      const extra = controls.map(([, control, text]) => field(text, control));
      if (!await confirmed(`Limits of ${nameOf(row)}`, "Set", extra)) return;
      const limits = Object.fromEntries(controls.map(([name, control]) => [name, control.value ? Number(control.value) : null]));
      await api.patch("/v1/providers/{provider_id}", { path, body: { limits } });
      await refresh();
    }),
    offer("Delete", async () => {
      if (!await confirmed(`Delete ${nameOf(row)} with its key? Its models cannot be called any more, and rows that wait for it fail.`, "Delete the provider")) return;
      await api.del("/v1/providers/{provider_id}", { path });
      await refresh();
    }, { class: "danger" }));
}

function addForm(refresh) {
  const place = h("div");
  const type = select([["openai", "OpenAI"], ["anthropic", "Anthropic"], ["openai_compatible", "OpenAI-compatible"]], "openai");
  const key = input({ type: "password", required: true, placeholder: "sk-…" });
  const name = input({});
  const baseUrl = input({ type: "url", placeholder: "https://…/v1" });
  const organization = input({});
  const send = h("button", { class: "main" }, "Store the key");
  const again = () => api.newKey();
  let attempt = again();
  return h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      act(send, place, async () => {
        const given = { name: name.value.trim(), baseUrl: baseUrl.value.trim(), organization: organization.value.trim() };
        const body = { providerType: type.value, apiKey: key.value.trim(), ...Object.fromEntries(Object.entries(given).filter(([, value]) => value)) };
        await api.post("/v1/providers", { body, headers: { "idempotency-key": attempt } });
        // The page does not keep it.
        key.value = "";
        attempt = again();
        notice("The key is stored, encrypted. Only its last four characters can be seen from now on.");
        await refresh();
      });
    },
    oninput: () => { attempt = again(); },
  }, h("fieldset", null, h("legend", null, "Add a provider, or replace the key of one"),
    h("div", { class: "grid" }, field("Provider", type), field("Key", key, "Stored encrypted, never shown again."),
      field("Name", name, "Needed for OpenAI-compatible servers."), field("Base URL (optional)", baseUrl), field("Organization (optional)", organization)),
    place, h("div", { class: "actions" }, send)));
}

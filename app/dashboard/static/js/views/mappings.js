// Names of the project's own for models, with what takes over when a provider is down.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { time } from "../format.js";
import { modelField } from "../models.js";
import { act, button, confirmed, empty, field, input, select, table } from "../widgets.js";

export async function mappings(place, signal) {
  const trouble = h("div");
  const listed = h("section");
  const more = h("div", { class: "actions" });
  let rows = [];
  const load = async (cursor) => {
    const page = await api.get("/v1/model-mappings", { query: { limit: 100, cursor }, signal });
    rows = cursor ? [...rows, ...page.data] : page.data;
    put(listed, rows.length ? tableOf(rows, trouble, () => load(null))
      : empty(h("p", null, "There are no mappings."), h("p", null, "With one, callers ask for “fast” or “gpt-4” and you decide what answers, without touching them.")));
    const next = button("More", () => act(next, trouble, () => load(page.next_cursor)));
    put(more, page.has_more ? next : null);
  };
  put(place, trouble, listed, more, form(() => load(null), signal));
  await load(null);
}

function tableOf(rows, trouble, refresh) {
  return table("Model mappings", [
    ["Alias", (row) => h("code", null, row.alias)],
    ["Leads to", (row) => targetOf(row)],
    ["Then, when it is down", (row) => (row.fallbacks.length ? row.fallbacks.map(targetOf).join(", then ") : "–")],
    ["Changed", (row) => time(row.updated_at)],
    ["", (row) => {
      const pressed = button("Delete", () => act(pressed, trouble, async () => {
        if (!await confirmed(`Delete the alias ${row.alias}? Callers that use it get what the name itself means, or an error.`, "Delete the alias")) return;
        await api.del("/v1/model-mappings/{alias}", { path: { alias: row.alias } });
        await refresh();
      }), { class: "danger" });
      return pressed;
    }],
  ], rows);
}

function targetOf(target) {
  return target.provider ? `${target.model} at ${target.provider}` : target.model;
}

function form(refresh, signal) {
  const place = h("div");
  const alias = input({ required: true, placeholder: "fast" });
  const model = modelField(signal);
  const provider = select([["", "as the model's name says"], "openai", "anthropic", "openai_compatible"], "");
  const fallbacks = input({ placeholder: "claude-haiku-4-5, gpt-4o" });
  const send = h("button", { class: "main" }, "Set the alias");
  return h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      act(send, place, async () => {
        const models = fallbacks.value.split(",").map((each) => each.trim()).filter(Boolean);
        const body = { model: model.control.value.trim(), ...(provider.value ? { provider: provider.value } : {}), fallbacks: models.map((each) => ({ model: each })) };
        await api.put("/v1/model-mappings/{alias}", { path: { alias: alias.value.trim() }, body });
        alias.value = "";
        await refresh();
      });
    },
  }, h("fieldset", null, h("legend", null, "Add an alias, or change one"),
    h("div", { class: "grid" }, field("Alias", alias, "Any name, a real model's included."), model.element, field("Provider", provider),
      field("Fallbacks, in order (optional)", fallbacks, "Models, with commas between; tried when a provider is down, never when the request is wrong.")),
    place, h("div", { class: "actions" }, send)));
}

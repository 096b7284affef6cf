// The form for a project's keys. They are tried with one call before they are kept.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { findKeys, keep } from "../session.js";
import { act, errorBox, field, input } from "../widgets.js";

const FIELDS = [
  ["apiKey", "API key", "text", "llms_ak_…"],
  ["secretKey", "Secret key", "password", "llms_sk_…"],
  ["tenantId", "Tenant id", "text", "tenant_…"],
  ["projectId", "Project id", "text", "proj_…"],
];

/**
 * @param error why the user is here, or null
 * @param start called when the keys are right and kept
 */
export function signIn(error, start) {
  const place = h("div", null, error ? errorBox(error) : null);
  const controls = Object.fromEntries(FIELDS.map(([part, , type, placeholder]) =>
    [part, input({ type, placeholder, required: true, name: part })]));
  const send = h("button", { class: "main" }, "Sign in");
  const form = h("form", {
    class: "sign-in",
    // Not the browser's own way of sending a form, which would put the keys into an address.
    onsubmit: (event) => {
      event.preventDefault();
      const given = Object.fromEntries(FIELDS.map(([part]) => [part, controls[part].value.trim()]));
      act(send, place, async () => {
        // A header cannot carry anything else; fetch would fail without a word on why.
        if (!Object.values(given).every((value) => /^[\x21-\x7e]+$/.test(value))) {
          throw new Error("Keys and ids are letters, digits, _ and -: something else came along when they were copied.");
        }
        await api.get("/v1/project", { given });
        keep(given);
        start();
      });
    },
    onpaste: (event) => {
      const found = findKeys(event.clipboardData.getData("text"));
      if (Object.keys(found).length < 2) return;
      event.preventDefault();
      for (const [part, value] of Object.entries(found)) controls[part].value = value;
      put(place, h("p", { class: "note" }, "Filled in from what you pasted."));
    },
  },
  h("h1", null, "Sign in to your project"),
  h("p", { class: "note" }, "With the keys of a project, as for any call of the API. Paste all four at once into any field: "
    + "what bin/up prints, or the lines of its demo.env."),
  FIELDS.map(([part, label]) => field(label, controls[part])),
  place, send,
  h("p", { class: "note" }, "The keys stay in this tab until you sign out or close it. They are sent to this service only, in headers."));
  return form;
}

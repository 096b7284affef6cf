// The project's own settings: what is kept of completions, how long, and how many requests it may make.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { time } from "../format.js";
import { act, field, input, notice, select } from "../widgets.js";

export async function project(place, signal) {
  const found = await api.get("/v1/project", { signal });
  const trouble = h("div");
  const whole = (value) => (value === "" ? null : Number(value));
  const name = input({ required: true, maxlength: "200", value: found.name });
  const bodies = select([["full", "full: prompts and answers are kept"], ["metadata_only", "metadata_only: neither is kept"]], found.log_bodies);
  const retention = input({ type: "number", min: "1", max: "3650", value: found.retention_days ?? "", placeholder: "for ever" });
  const unknown = select([["retry", "retry: called again, and maybe paid for twice"], ["fail", "fail: the row fails"]], found.on_unknown_outcome);
  const requests = input({ type: "number", min: "1", value: found.requests_per_minute ?? "", placeholder: "as many as the service allows" });
  const send = h("button", { class: "main" }, "Save");
  put(place, h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      act(send, trouble, async () => {
        await api.patch("/v1/project", {
          body: {
            name: name.value.trim(), log_bodies: bodies.value, retention_days: whole(retention.value),
            on_unknown_outcome: unknown.value, requests_per_minute: whole(requests.value),
          },
        });
        notice("The settings are saved.");
      });
    },
  }, h("fieldset", null, h("legend", null, "Project"),
    h("p", { class: "note" }, h("code", null, found.id), " of ", h("code", null, found.tenant_id), ", made ", time(found.created_at)),
    h("div", { class: "grid" },
      field("Name", name),
      field("Logs keep", bodies, "Holds for what ends from now on."),
      field("Days until completions are removed", retention, "Batches that have ended go with them. Empty: never."),
      field("A call whose outcome a crash left unknown", unknown),
      field("Requests a minute to this API", requests, "This page's own calls count, too.")),
    trouble, h("div", { class: "actions" }, send))));
}

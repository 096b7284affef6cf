// A new batch: a file of requests or pasted prompts, what they will take and cost first, then the submission.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { bytes } from "../format.js";
import { modelField } from "../models.js";
import { go } from "../router.js";
import { act, button, errorList, field, input, select, titled } from "../widgets.js";
import { estimateView } from "./estimate.js";

export async function newBatch({ main, signal }) {
  const source = sourceFields(signal);
  const options = optionFields();
  const trouble = h("div");
  const outcome = h("section", { "aria-live": "polite" });
  const estimating = h("button", { class: "main" }, "Estimate");

  const form = h("form", {
    class: "new-batch",
    onsubmit: (event) => {
      event.preventDefault();
      put(outcome);
      act(estimating, trouble, async () => {
        const file = source.file();
        const query = options.query();
        const found = await sent("/v1/batch/estimate", { file, query }, trouble, "Checking", signal);
        put(trouble);
        put(outcome, h("h2", null, "What it will take"), estimateView(found), found.valid
          ? submission(file, query, signal)
          : [h("p", null, "A batch with a wrong row is not taken. Mend these, then estimate again:"), errorList(found.errors)]);
      });
    },
    // What was estimated is not what would be submitted any more.
    oninput: () => put(outcome),
  }, source.element, options.element, h("div", { class: "actions" }, estimating), trouble);
  put(main, titled("New batch"), form, outcome);
}

/** The button that submits exactly what was estimated. Pressed twice, or again after a lost answer, it makes one batch. */
function submission(file, query, signal) {
  const place = h("div");
  const again = api.newKey();
  const pressed = button("Submit the batch", () => act(pressed, place, async () => {
    const made = await sent("/v1/batch", { file, query, headers: { "idempotency-key": again } }, place, "Submitting", signal);
    go(`/batches/${made.id}`);
  }), { class: "main" });
  return [h("div", { class: "actions" }, pressed), place];
}

/** POST the file, its progress shown in `place`. */
function sent(template, { file, query, headers }, place, doing, signal) {
  const bar = h("progress", { max: "1", value: 0, "aria-label": `${doing}: upload` });
  const said = h("p", { class: "note" });
  put(place, bar, said);
  return api.upload(template, {
    query, file, headers, signal,
    onProgress: (share) => {
      bar.value = share;
      said.textContent = share < 1 ? `${doing}: ${Math.round(share * 100)} % of ${bytes(file.size)} sent` : `${doing} …`;
    },
  });
}

/** Where the requests come from: {element, file()}; `file` throws what the user has to do first. */
function sourceFields(signal) {
  let dropped = null;
  const chosen = h("p", { class: "note", role: "status" });
  const picker = input({ type: "file", accept: ".jsonl,.ndjson,application/x-ndjson" });
  const take = (file) => {
    dropped = file ?? null;
    chosen.textContent = dropped ? `${dropped.name}, ${bytes(dropped.size)}` : "";
  };
  picker.addEventListener("change", () => take(picker.files[0]));
  const zone = h("div", {
    class: "drop",
    ondragover: (event) => {
      event.preventDefault();
      zone.classList.add("over");
    },
    ondragleave: () => zone.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      picker.files = event.dataTransfer.files;
      take(picker.files[0]);
      form.dispatchEvent(new Event("input", { bubbles: true }));
    },
  }, field("File of requests, one JSON object a line (NDJSON)", picker,
    'Drop it here or choose it. Each line: {"custom_id": …, "model": …, "messages": […]} and any parameter of a completion.'), chosen);

  const model = modelField(signal);
  model.control.required = false;
  const prompts = h("textarea", { rows: "7", name: "prompts", placeholder: "Why is the sky blue?\nWhat is 2 + 2?" });
  const system = h("textarea", { rows: "2", name: "system" });
  const maxTokens = input({ type: "number", min: "1", name: "max_tokens" });
  const pasted = h("div", { hidden: true }, model.element,
    field("Prompts, one a line", prompts), field("System message, the same for all (optional)", system),
    field("Longest answer, in tokens (optional)", maxTokens, "Makes the estimate of the cost a ceiling."));

  const way = (value, text, checked) => h("label", { class: "choice" },
    h("input", {
      type: "radio", name: "source", value, checked,
      onchange: () => {
        zone.hidden = value !== "file";
        pasted.hidden = value === "file";
      },
    }), text);
  const form = h("fieldset", null, h("legend", null, "Requests"),
    h("div", { class: "choices" }, way("file", "From a file", true), way("prompts", "Pasted prompts", false)), zone, pasted);
  const file = () => {
    if (!pasted.hidden) return linesOf(prompts.value, model.control.value.trim(), system.value.trim(), maxTokens.value);
    if (dropped === null) throw new Error("Choose a file of requests first, or paste prompts.");
    return dropped;
  };
  return { element: form, file };
}

/** Pasted prompts as the lines that the API takes. */
function linesOf(text, model, system, maxTokens) {
  const prompts = text.split("\n").map((line) => line.trim()).filter(Boolean);
  if (prompts.length === 0) throw new Error("Paste at least one prompt.");
  if (model === "") throw new Error("Name a model for the prompts.");
  const first = system ? [{ role: "system", content: system }] : [];
  const rows = prompts.map((prompt, at) => JSON.stringify({
    custom_id: `prompt-${at + 1}`,
    model,
    messages: [...first, { role: "user", content: prompt }],
    ...(maxTokens ? { max_tokens: Number(maxTokens) } : {}),
  }));
  return new Blob([`${rows.join("\n")}\n`]);
}

/** What goes into the query beside the lines: {element, query()}. */
function optionFields() {
  const controls = {
    name: input({ name: "name", maxlength: "200" }),
    processing: select([["auto", "auto: half price where it pays"], ["realtime", "realtime: at once, full price"],
      ["native", "native: batch API, half price"]], "auto"),
    completion_window: select([["1h", "1 hour"], ["6h", "6 hours"], ["24h", "24 hours"], ["48h", "2 days"], ["7d", "7 days"]], "24h"),
    priority: input({ type: "number", min: "-10", max: "10", step: "1", value: "0" }),
    max_cost_usd: input({ inputmode: "decimal", placeholder: "no limit" }),
    webhook_url: input({ type: "url", placeholder: "https://…" }),
  };
  const element = h("fieldset", { class: "grid" }, h("legend", null, "Options"),
    field("Name (optional)", controls.name),
    field("Processing", controls.processing),
    field("To be done within", controls.completion_window),
    field("Priority, −10 to 10", controls.priority, "Among the project's own batches; higher goes first."),
    field("Cost limit in US dollars (optional)", controls.max_cost_usd, "It pauses before it would cost more."),
    field("Webhook (optional)", controls.webhook_url, "Is told when the batch ends or pauses."));
  const query = () => Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value.trim()]));
  return { element, query };
}

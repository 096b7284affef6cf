// One completion, now: as it is produced, with what it took and cost and who answered.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { count, milliseconds } from "../format.js";
import { textOf } from "../messages.js";
import { modelField } from "../models.js";
import { money } from "../money.js";
import { events } from "../sse.js";
import { button, errorBox, field, figure, figures, input, titled } from "../widgets.js";

export async function playground({ main, signal }) {
  const model = modelField(signal);
  const system = h("textarea", { rows: "2", name: "system" });
  const prompt = h("textarea", { rows: "5", name: "prompt", required: true });
  const maxTokens = input({ type: "number", min: "1", name: "max_tokens" });
  const temperature = input({ type: "number", min: "0", max: "2", step: "0.1", name: "temperature", placeholder: "0.7" });
  const streamed = h("input", { type: "checkbox", checked: true, name: "stream" });
  const send = h("button", { class: "main" }, "Send");
  const stop = button("Stop", () => current?.abort(), { disabled: true });
  const answer = h("pre", { class: "answer", "aria-label": "Answer", "aria-live": "polite" });
  const facts = h("div");
  let current = null;
  signal.addEventListener("abort", () => current?.abort());

  const ask = async () => {
    const body = {
      model: model.control.value.trim(),
      messages: [
        ...(system.value.trim() ? [{ role: "system", content: system.value }] : []),
        { role: "user", content: prompt.value },
      ],
      ...(maxTokens.value ? { max_tokens: Number(maxTokens.value) } : {}),
      ...(temperature.value ? { temperature: Number(temperature.value) } : {}),
    };
    current = new AbortController();
    send.disabled = true;
    stop.disabled = false;
    put(facts);
    put(answer);
    try {
      const found = await (streamed.checked ? readStream : readWhole)(body, answer, current.signal);
      put(facts, factsOf(found));
    } catch (error) {
      put(facts, error.name === "AbortError" ? h("p", { class: "note" }, "Stopped; so is the provider's call.") : errorBox(error));
    } finally {
      send.disabled = false;
      stop.disabled = true;
    }
  };
  const form = h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      ask();
    },
  },
  h("div", { class: "grid" }, model.element,
    field("Longest answer, in tokens (optional)", maxTokens), field("Temperature, 0 to 2 (optional)", temperature)),
  field("System message (optional)", system), field("Prompt", prompt),
  h("label", { class: "choice" }, streamed, "Show the answer as it is produced"),
  h("div", { class: "actions" }, send, stop));
  put(main, titled("Playground"), form, h("section", null, answer, facts));
}

async function readWhole(body, answer, signal) {
  const started = performance.now();
  const found = await api.post("/v1/completions", { body, signal });
  put(answer, textOf(found));
  return { ...found, totalMs: performance.now() - started, finish: found.choices?.[0]?.finish_reason };
}

async function readStream(body, answer, signal) {
  const started = performance.now();
  const found = {};
  const response = await api.postStream("/v1/completions", {
    body: { ...body, stream: true, stream_options: { include_usage: true } },
    headers: { accept: "text/event-stream" },
    signal,
  });
  for await (const chunk of events(response)) {
    if (chunk.error) throw new api.ApiError(500, { detail: chunk.error.message }, response.headers);
    const choice = chunk.choices?.[0];
    const text = choice?.delta?.content ?? choice?.delta?.refusal ?? "";
    if (text) {
      found.firstMs ??= performance.now() - started;
      answer.append(text);
    }
    found.finish = choice?.finish_reason ?? found.finish;
    for (const name of ["model", "usage", "provider", "cost_usd", "request_id"]) found[name] = chunk[name] ?? found[name];
  }
  return { ...found, totalMs: performance.now() - started };
}

function factsOf(found) {
  const usage = found.usage ?? {};
  return [
    found.finish === "length" ? h("p", { class: "reason" }, "The answer was cut at the longest length allowed.") : null,
    figures(
      figure("Answered by", found.model, found.provider),
      figure("Tokens", count(usage.total_tokens), `${count(usage.prompt_tokens)} in, ${count(usage.completion_tokens)} out`),
      figure("Cost", money(found.cost_usd)),
      figure("Took", milliseconds(found.totalMs), found.firstMs === undefined ? "whole" : `first text after ${milliseconds(found.firstMs)}`)),
    h("p", { class: "note" }, "Request id: ", h("code", null, found.request_id)),
  ];
}

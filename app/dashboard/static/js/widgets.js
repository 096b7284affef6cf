// The pieces that pages are made of: badges, bars, tables, fields, errors, dialogs.

import { h, put, svg } from "./dom.js";
import { count, counted } from "./format.js";
import { STATUS_TONES } from "./words.js";

export function badge(status) {
  return h("span", { class: `badge ${STATUS_TONES[status] ?? "off"}` }, status);
}

/** One figure with its name, and what explains it in small. A long one is set smaller: no digit is left out or alone. */
export function figure(name, value, note) {
  const long = typeof value === "string" && value.length > 12;
  return h("div", { class: "figure" }, h("dt", null, name), h("dd", { class: long ? "long" : null }, value), note ? h("dd", { class: "note" }, note) : null);
}

export function figures(...items) {
  return h("dl", { class: "figures" }, items);
}

const PARTS = ["succeeded", "failed", "expired", "cancelled", "processing"];

/** How far a batch is: a bar with a part for each status of rows. */
export function progressBar(counts) {
  const total = counts.total || 1;
  const ended = counts.total - counts.pending - counts.processing;
  const label = `${count(ended)} of ${counted(counts.total, "row")} ended: `
    + PARTS.filter((name) => counts[name]).map((name) => `${count(counts[name])} ${name}`).join(", ");
  let at = 0;
  const parts = PARTS.map((name) => {
    const width = (counts[name] / total) * 100;
    const part = svg("rect", { class: `part-${name}`, x: `${at}%`, width: `${width}%`, height: "100%" });
    at += width;
    return part;
  });
  return svg("svg", { class: "bar", role: "img", "aria-label": label }, svg("title", null, label), parts);
}

/** A bar that is full to a share of 0 to 1. */
export function shareBar(share, label, tone = "busy") {
  return svg("svg", { class: "bar", role: "img", "aria-label": label },
    svg("rect", { class: `tone-${tone}`, width: `${share * 100}%`, height: "100%" }));
}

/**
 * A table that scrolls by itself where it is too wide.
 * @param columns [heading, cell(row), {number: true}]
 */
export function table(caption, columns, rows) {
  const cells = (row) => columns.map(([heading, cell, options]) =>
    h("td", { class: options?.number ? "number" : null, "data-name": heading }, cell(row)));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null,
      h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, columns.map(([heading, , options]) =>
        h("th", { scope: "col", class: options?.number ? "number" : null }, heading)))),
      h("tbody", null, rows.map((row) => h("tr", null, cells(row))))));
}

export function empty(...children) {
  return h("div", { class: "empty" }, children);
}

let fields = 0;

/** A control under its label, with a hint. */
export function field(label, control, hint) {
  fields += 1;
  control.id ||= `field-${fields}`;
  const hinted = hint ? h("span", { class: "hint", id: `${control.id}-hint` }, hint) : null;
  if (hinted) control.setAttribute("aria-describedby", hinted.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hinted);
}

export function input(properties) {
  return h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...properties });
}

/** A choice among values; [value, text] pairs or plain values. */
export function select(options, chosen, properties) {
  const control = h("select", properties, options.map((option) => {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    return h("option", { value }, text);
  }));
  control.value = chosen ?? (Array.isArray(options[0]) ? options[0][0] : options[0]);
  return control;
}

export function button(text, onclick, properties) {
  return h("button", { type: "button", onclick, ...properties }, text);
}

/** A button for more of a list. It waits while more is read: pressed twice at once, it would bring the same twice. */
export function moreButton(text, load) {
  const pressed = button(text, async () => {
    pressed.disabled = true;
    try {
      await load();
    } finally {
      pressed.disabled = false;
    }
  });
  return pressed;
}

/** What the API says is wrong: its own detail, everything in `errors`, and the request id to report it with. */
export function errorBox(error) {
  const listed = (error.errors ?? []).filter((each) => each.message);
  return h("div", { class: "error", role: "alert" },
    h("p", null, error.message),
    listed.length ? errorList(listed) : null,
    error.requestId ? h("p", { class: "note" }, "Request id: ", h("code", null, error.requestId)) : null);
}

/** Wrong fields or lines, as the API names them. */
export function errorList(errors) {
  return h("ul", { class: "errors" }, errors.map((each) =>
    h("li", null, each.line === undefined ? null : h("strong", null, `Line ${each.line} `),
      each.pointer ? h("code", null, each.pointer) : null, each.pointer ? " " : null, each.message)));
}

/** Say something for a few seconds. */
export function notice(text) {
  const said = h("p", null, text);
  document.getElementById("notices").append(said);
  setTimeout(() => said.remove(), 6000);
}

/** Ask before something is done: true if the user agrees. `extra`: fields, between the question and the buttons. */
export function confirmed(question, action, extra) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": question },
      h("form", {
        onsubmit: (event) => {
          event.preventDefault();
          dialog.close("yes");
        },
      }, h("p", null, question), extra,
      h("div", { class: "actions" }, button("Go back", () => dialog.close("no")), h("button", { class: extra ? "main" : "main danger" }, action))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    // What was asked on one page is not answered on another.
    addEventListener("hashchange", () => dialog.close("no"), { once: true });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Do something for a pressed button, which waits meanwhile; what goes wrong is shown in `place`. */
export async function act(pressed, place, what) {
  pressed.disabled = true;
  put(place);
  try {
    return await what();
  } catch (error) {
    if (error.name !== "AbortError") put(place, errorBox(error));
    return undefined;
  } finally {
    pressed.disabled = false;
  }
}

/** A page's heading with what stands beside it; it names the tab, too. */
export function titled(text, ...beside) {
  document.title = `${text} · LLM Service`;
  return h("div", { class: "title" }, h("h1", null, text), h("div", { class: "actions" }, beside));
}

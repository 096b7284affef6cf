// What POST /v1/batch/estimate says, before anything is spent.

import { h } from "../dom.js";
import { count, counted, seconds } from "../format.js";
import { money } from "../money.js";
import { figure, figures, table } from "../widgets.js";

export function estimateView(found) {
  const totals = found.totals;
  return [
    figures(
      figure("Rows", count(found.rows), found.invalid_rows ? `of these wrong: ${count(found.invalid_rows)}` : "all valid"),
      figure("Tokens, at most", count(totals.input_tokens + totals.output_tokens_max),
        `${count(totals.input_tokens)} in, ${count(totals.output_tokens_max)} out`
        + (totals.rows_without_max_tokens ? `, assumed for ${counted(totals.rows_without_max_tokens, "row")} without max_tokens` : "")),
      figure("Cost, as chosen", money(totals.cost_usd.chosen),
        `real time ${money(totals.cost_usd.realtime)}, provider's batch API ${money(totals.cost_usd.native)}`),
      totals.expected ? figure("Expected cost", money(totals.expected.cost_usd), "with answers as long as the last week's") : null,
      figure("In real time", seconds(totals.expected_duration_seconds), "if nothing else runs")),
    h("ul", { class: "checks" },
      check(totals.within_window, "Real time alone makes the window.", "Real time alone would not make the window."),
      totals.within_max_cost === null ? null
        : check(totals.within_max_cost, "Within the cost limit.", "May cost more than the limit: it would pause there."),
      totals.unpriced_rows ? h("li", null, `${counted(totals.unpriced_rows, "row")} of models without a known price: not in these costs.`) : null,
      totals.notes.map((note) => h("li", null, note))),
    found.models.length ? table("The estimate by model", [
      ["Model", (model) => model.model], ["Provider", (model) => model.provider],
      ["Rows", (model) => count(model.rows), { number: true }],
      ["Way", (model) => (model.processing === "native" ? "provider's batch API" : "real time")],
      ["Why", (model) => model.processing_reason],
      ["Real time", (model) => money(model.cost_usd.realtime), { number: true }],
      ["Batch API", (model) => money(model.cost_usd.native), { number: true }],
    ], found.models) : null,
  ];
}

function check(holds, yes, no) {
  return h("li", { class: holds ? "holds" : "fails" }, holds ? yes : no);
}

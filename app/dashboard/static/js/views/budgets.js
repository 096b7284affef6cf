// What the project may spend in a month and in a day.

import * as api from "../api.js";
import { h, put } from "../dom.js";
import { time } from "../format.js";
import { money, share } from "../money.js";
import { act, button, confirmed, field, input, select, shareBar } from "../widgets.js";

export async function budgets(place, signal) {
  const refresh = async () => {
    const found = await api.get("/v1/budgets", { signal });
    put(place, ["month", "day"].map((period) => oneBudget(period, found.data.find((each) => each.period === period), refresh)),
      h("p", { class: "note" }, "Months and days are those of UTC; with both, the tighter one counts."));
  };
  await refresh();
}

function oneBudget(period, budget, refresh) {
  const place = h("div");
  const path = { period };
  const limit = input({ inputmode: "decimal", required: true, value: budget?.limit_usd ?? "", placeholder: "250.00" });
  const onLimit = select([["stop", "stop: batches pause, calls are refused"], ["warn", "warn: events only"]], budget?.on_limit ?? "stop");
  const thresholds = input({ value: (budget?.thresholds ?? [0.5, 0.8, 1]).join(", ") });
  const send = h("button", { class: budget ? null : "main" }, budget ? "Change" : "Set a budget");
  const remove = budget ? button("Delete", () => act(remove, place, async () => {
    if (!await confirmed(`Delete the budget of the ${period}? Batches that wait for it go on.`, "Delete the budget")) return;
    await api.del("/v1/budgets/{period}", { path });
    await refresh();
  }), { class: "danger" }) : null;
  return h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      act(send, place, async () => {
        const shares = thresholds.value.split(",").map((each) => each.trim()).filter(Boolean).map(Number);
        // The amount goes as the text that was typed: no float comes between.
        await api.put("/v1/budgets/{period}", { path, body: { limit_usd: limit.value.trim(), on_limit: onLimit.value, thresholds: shares } });
        await refresh();
      });
    },
  }, h("fieldset", null, h("legend", null, `Budget of the ${period}`),
    budget ? stateOf(budget) : h("p", { class: "note" }, "There is none: nothing is held back."),
    h("div", { class: "grid" }, field("Limit in US dollars", limit), field("At the limit", onLimit),
      field("Warn at these shares", thresholds, "1 is the limit itself; each sends a budget.threshold event once per period.")),
    place, h("div", { class: "actions" }, send, remove)));
}

function stateOf(budget) {
  const used = share(budget.spent_usd, budget.limit_usd);
  const text = `${money(budget.spent_usd)} of ${money(budget.limit_usd)} spent, ${money(budget.reserved_usd)} reserved by calls in flight, `
    + `${money(budget.remaining_usd)} left`;
  return h("div", { class: "budget" }, h("p", null, text, ". The period ends ", time(budget.period_end), "."),
    shareBar(used, text, used >= 1 ? "bad" : used >= 0.8 ? "attention" : "good"));
}

// What the project sets up for itself, in parts that each have a page.

import { h, put } from "../dom.js";
import { titled } from "../widgets.js";
import { budgets } from "./budgets.js";
import { mappings } from "./mappings.js";
import { project } from "./project.js";
import { providers } from "./providers.js";
import { webhooks } from "./webhooks.js";

const PARTS = { providers, mappings, budgets, webhooks, project };
const NAMES = { providers: "Providers", mappings: "Model mappings", budgets: "Budgets", webhooks: "Webhooks", project: "Project" };

export async function settings({ main, params, signal }) {
  const chosen = Object.hasOwn(PARTS, params.part ?? "providers") ? params.part ?? "providers" : "providers";
  const place = h("div");
  put(main, titled("Settings"),
    h("nav", { class: "tabs", "aria-label": "Settings" }, Object.entries(NAMES).map(([part, name]) =>
      h("a", { href: `#/settings/${part}`, "aria-current": part === chosen ? "page" : null }, name))), place);
  await PARTS[chosen](place, signal);
}

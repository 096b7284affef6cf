// The frame around all pages: who is signed in, the navigation, and the page of the present address.

import * as api from "./api.js";
import { h, put } from "./dom.js";
import { match } from "./router.js";
import { forget, keys } from "./session.js";
import { empty, errorBox } from "./widgets.js";
import { signIn } from "./views/sign-in.js";
import { overview } from "./views/overview.js";
import { batches } from "./views/batches.js";
import { batch } from "./views/batch.js";
import { newBatch } from "./views/new-batch.js";
import { playground } from "./views/playground.js";
import { logs } from "./views/logs.js";
import { log } from "./views/log.js";
import { stats } from "./views/stats.js";
import { settings } from "./views/settings.js";

const ROUTES = [
  ["/", overview],
  ["/batches", batches],
  ["/batches/:id", batch],
  ["/new", newBatch],
  ["/playground", playground],
  ["/logs", logs],
  ["/logs/:id", log],
  ["/stats", stats],
  ["/settings", settings],
  ["/settings/:part", settings],
];
const NAVIGATION = [
  ["/", "Overview"],
  ["/batches", "Batches"],
  ["/new", "New batch"],
  ["/playground", "Playground"],
  ["/logs", "Logs"],
  ["/stats", "Statistics"],
  ["/settings", "Settings"],
];

const header = document.getElementById("header");
const main = document.getElementById("main");
let leaving = new AbortController();
let projectName = null;

function drawHeader(path) {
  const current = (to) => (to === "/" ? path === "/" || path === "" : path.startsWith(to));
  put(header,
    h("a", { class: "brand", href: "#/" }, "LLM Service"),
    h("nav", { "aria-label": "Pages" }, NAVIGATION.map(([to, name]) =>
      h("a", { href: `#${to}`, "aria-current": current(to) ? "page" : null }, name))),
    h("div", { class: "who" },
      h("span", { id: "project", title: keys().projectId }, projectName ?? ""),
      h("a", { href: "/docs" }, "API docs"),
      h("button", { type: "button", id: "sign-out", onclick: () => signOut() }, "Sign out")));
}

/** Nothing of the project stays: the page is loaded anew, without keys. */
function signOut() {
  forget();
  location.replace("/dashboard");
}

async function nameProject() {
  try {
    const project = await api.get("/v1/project");
    projectName = project.name;
    const place = document.getElementById("project");
    if (place) place.textContent = projectName;
  } catch {
    // Only a name; the page itself says what is wrong.
  }
}

function showSignIn(error) {
  leaving.abort();
  document.title = "Sign in · LLM Service";
  put(header, h("span", { class: "brand" }, "LLM Service"), h("div", { class: "who" }, h("a", { href: "/docs" }, "API docs")));
  put(main, signIn(error, start));
}

/** Show the page of the present address; what the last one still waits for is ended. */
async function show() {
  if (keys() === null) return showSignIn(null);
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const found = match(ROUTES, location.hash);
  drawHeader(found?.path ?? "");
  scrollTo(0, 0);
  put(main);
  if (found === null) {
    return put(main, empty(h("p", null, "There is no such page."), h("a", { href: "#/" }, "To the overview")));
  }
  try {
    await found.page({ main, params: found.params, query: found.query, signal });
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) put(main, errorBox(error));
  }
  return undefined;
}


function start() {
  nameProject();
  return show();
}

api.onUnauthenticated((error) => {
  // Revoked or expired while the page was open.
  forget();
  showSignIn(error);
});
addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
});
start();

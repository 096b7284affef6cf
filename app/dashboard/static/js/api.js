// Calls the public API with the user's keys in headers, and nothing else that it would not do for any other client.

import { headersOf, keys } from "./session.js";

/** An answer that is no success, with what the API says about it (RFC 9457). */
export class ApiError extends Error {
  constructor(status, problem, headers = new Headers()) {
    super(problem.detail ?? problem.title ?? `The service answered ${status}.`);
    this.status = status;
    this.title = problem.title ?? "";
    this.type = problem.type ?? "";
    this.errors = problem.errors ?? [];
    this.requestId = problem.request_id ?? headers.get("x-request-id");
    this.retryAfterMs = waitOf(headers);
  }

  /** True if the same request may be answered later: over a limit, a part away, or nobody there. */
  get passing() {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

function waitOf(headers) {
  const exact = Number(headers.get("retry-after-ms"));
  return exact > 0 ? exact : Number(headers.get("retry-after")) * 1000 || null;
}

/** A path of the OpenAPI document with its ids, and a query without what is empty. */
function addressOf(template, path, query) {
  const filled = template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(path[name]));
  const pairs = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(pairs).toString();
  return text ? `${filled}?${text}` : filled;
}

let unauthenticated = () => {};

/** What happens when the keys of this tab are refused. */
export function onUnauthenticated(listener) {
  unauthenticated = listener;
}

/**
 * The Response to a call that succeeded; ApiError otherwise, DOMException if `signal` ended it.
 *
 * @param {object} options
 *   path: ids for the template; query; body: sent as JSON; headers; signal;
 *   given: keys other than those of the tab (the sign-in tries them before they are kept).
 */
export async function call(method, template, options = {}) {
  const { path = {}, query = {}, body, headers = {}, signal, given } = options;
  const credentials = given ?? keys();
  if (credentials === null) throw new ApiError(401, { detail: "Nobody is signed in." });
  let response;
  try {
    response = await fetch(addressOf(template, path, query), {
      method,
      headers: {
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
        ...headersOf(credentials),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { detail: "The service does not answer: it may be down, or the network is." });
  }
  if (response.ok) return response;
  const failed = await asError(response);
  if (failed.status === 401 && given === undefined) unauthenticated(failed);
  throw failed;
}

async function asError(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // A proxy's page, say; the status has to do.
  }
  return new ApiError(response.status, problem, response.headers);
}

async function json(method, template, options) {
  const response = await call(method, template, options);
  return response.status === 204 ? null : response.json();
}

export const get = (template, options) => json("GET", template, options);
export const post = (template, options) => json("POST", template, options);
export const put = (template, options) => json("PUT", template, options);
export const patch = (template, options) => json("PATCH", template, options);
export const del = (template, options) => json("DELETE", template, options);

/** The Response of a POST whose body is read bit by bit. */
export const postStream = (template, options) => call("POST", template, options);
/** The Response of a GET whose body is read bit by bit. */
export const getStream = (template, options) => call("GET", template, options);

/**
 * POST a file as lines, read from the disk as it is sent: the answer's JSON.
 * fetch cannot tell how far an upload is, XMLHttpRequest can.
 *
 * @param {object} options query, file (a Blob), headers, signal, onProgress(share from 0 to 1)
 */
export function upload(template, { query = {}, file, headers = {}, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", addressOf(template, {}, query));
    const all = { ...headers, ...headersOf(keys()), "content-type": "application/x-ndjson" };
    for (const [name, value] of Object.entries(all)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.total ? event.loaded / event.total : 0);
    request.onload = () => {
      const found = parsed(request.responseText);
      if (request.status < 300) return resolve(found);
      const answered = new Headers();
      for (const name of ["retry-after", "retry-after-ms", "x-request-id"]) {
        const value = request.getResponseHeader(name);
        if (value !== null) answered.set(name, value);
      }
      const failed = new ApiError(request.status, found, answered);
      if (failed.status === 401) unauthenticated(failed);
      return reject(failed);
    };
    request.onerror = () => reject(new ApiError(0, { detail: "The connection ended during the upload." }));
    request.onabort = () => reject(new DOMException("Stopped.", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** A new Idempotency-Key. Not crypto.randomUUID, which plain HTTP does not have away from localhost. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

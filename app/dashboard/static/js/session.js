// The user's keys: in this tab's sessionStorage and in request headers, nowhere else. They end with the tab.

const NAME = "llm-service-keys";

/** The header of each part of a project's credentials, as in the OpenAPI document. */
export const HEADERS = {
  apiKey: "x-api-key",
  secretKey: "x-secret-key",
  tenantId: "x-tenant-id",
  projectId: "x-project-id",
};

/** {apiKey, secretKey, tenantId, projectId}, or null when nobody is signed in. */
export function keys() {
  const text = sessionStorage.getItem(NAME);
  return text === null ? null : JSON.parse(text);
}

export function keep(given) {
  sessionStorage.setItem(NAME, JSON.stringify(given));
}

export function forget() {
  sessionStorage.removeItem(NAME);
}

/** The four request headers of some keys. */
export function headersOf(given) {
  return Object.fromEntries(Object.entries(HEADERS).map(([part, header]) => [header, given[part]]));
}

const PATTERNS = {
  apiKey: /\bllms_ak_\w+/,
  secretKey: /\bllms_sk_\w+/,
  tenantId: /\btenant_[0-9a-f]{32}\b/,
  projectId: /\bproj_[0-9a-f]{32}\b/,
};

/** What of the four is found in a text, such as what bin/up prints or the lines of demo.env. */
export function findKeys(text) {
  const found = {};
  for (const [part, pattern] of Object.entries(PATTERNS)) {
    const match = text.match(pattern);
    if (match) found[part] = match[0];
  }
  return found;
}

// Pages by the part of the address behind #: "#/batches/batch_1?status=failed". The server never sees it.

/**
 * The page of the present address.
 *
 * @param routes [pattern, page] pairs; a ":name" of a pattern matches one part.
 * @returns {{page, params, query, path}} or null if no pattern matches.
 */
export function match(routes, hash) {
  const [path, search = ""] = hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter(Boolean);
  for (const [pattern, page] of routes) {
    const wanted = pattern.split("/").filter(Boolean);
    if (wanted.length !== parts.length) continue;
    const params = {};
    const fits = wanted.every((want, at) => {
      if (!want.startsWith(":")) return want === parts[at];
      params[want.slice(1)] = decoded(parts[at]);
      return true;
    });
    if (fits) return { page, params, path, query: Object.fromEntries(new URLSearchParams(search)) };
  }
  return null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a page, with its query without what is empty. */
export function address(path, query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(pairs).toString();
  return `#${path}${search ? `?${search}` : ""}`;
}

export function go(path, query) {
  location.hash = address(path, query);
}

// Pages of the project's logs. A page of a filter may hold few logs, even none, and yet not be the last.

import * as api from "./api.js";
import { keys } from "./session.js";

const PAGE = 25;
/** So many pages are followed for one press of a button; then the reader decides whether to look further. */
const MAX_PAGES = 20;

/** {logs, cursor}: what passes the filters from a cursor on; the cursor is null at the end. */
export async function logsFrom(filters, cursor, signal) {
  const found = [];
  let next = cursor;
  for (let pages = 0; pages < MAX_PAGES && found.length < PAGE; pages += 1) {
    const page = await api.get("/v1/logs/{tenant_id}/{project_id}", {
      path: { tenant_id: keys().tenantId, project_id: keys().projectId },
      query: { ...filters, cursor: next, limit: PAGE },
      signal,
    });
    found.push(...page.data);
    next = page.has_more ? page.next_cursor : null;
    if (next === null) break;
  }
  return { logs: found, cursor: next };
}

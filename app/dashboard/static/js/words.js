// What the API's closed vocabularies mean, in plain words, with what to do about them.

/** Statuses of batches and rows, with the colour that they are shown in. */
export const STATUS_TONES = {
  pending: "waiting", processing: "busy", paused: "attention", completed: "good", succeeded: "good",
  failed: "bad", cancelled: "off", expired: "attention", active: "good", stopped: "bad",
  delivered: "good", disabled: "bad", enabled: "good",
};

export const BATCH_STATUSES = ["pending", "processing", "paused", "completed", "failed", "cancelled", "expired"];
export const ROW_STATUSES = ["pending", "succeeded", "failed", "cancelled", "expired"];

/** Why a batch is paused or failed: `status_reason`. */
const REASONS = {
  budget: "The project's budget has no room for its next row. It goes on by itself when the next period begins or the budget is raised.",
  cost_limit: "The next row may cost more than is left of its cost limit. Resume it with a higher limit.",
  error_limit: "More of its rows failed than its error limit allows.",
  authentication_failed: "The provider refuses the key. Store a new one in Settings; then the batch goes on by itself.",
  permission_denied: "The provider's key may not do this. Grant it the permission and resume the batch, or store another key in Settings: then it goes on by itself.",
  quota_exhausted: "The provider's account has no credit left. Top it up there, then resume the batch.",
};

/** Why a batch stands still, or null. */
export function reasonOf(batch) {
  if (!["paused", "failed", "cancelled", "expired"].includes(batch.status)) return null;
  const said = batch.status_message;
  const known = REASONS[batch.status_reason];
  if (known) return said ? `${known} (${said})` : known;
  return said ?? batch.status_reason;
}

/** Why a provider is stopped: `stop_reason`. */
export function stopOf(provider) {
  const known = {
    authentication_failed: "refuses the key. Store a new one in Settings.",
    permission_denied: "says that the key lacks a permission. Grant it there, or store another key in Settings.",
    quota_exhausted: "says that the account has no credit left. Top it up there, then store the key again in Settings, or resume a batch that waits for it.",
  };
  return `${nameOf(provider)} ${known[provider.stop_reason] ?? "has stopped working. Store its key again in Settings."}`;
}

export function nameOf(provider) {
  const types = { openai: "OpenAI", anthropic: "Anthropic", openai_compatible: "OpenAI-compatible" };
  const type = types[provider.providerType] ?? provider.providerType;
  return provider.name ? `${type} (${provider.name})` : type;
}

/** What a batch waits for: `progress.waiting_for`, as the end of a sentence. */
export function waitingOf(batch) {
  const what = batch.progress.waiting_for;
  if (what === null || batch.status === "paused") return null;
  if (what.endsWith("per minute")) return `the provider's limit of ${what}`;
  const known = { "workers": "workers to take its rows", "provider limits": "the provider's limits to allow more" };
  return known[what] ?? what;
}

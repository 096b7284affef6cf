// What a completion object says, as text.

/** The text of a completion's first choice; tool calls and other answers as JSON. */
export function textOf(completion) {
  const message = completion.choices?.[0]?.message;
  if (message === undefined) return JSON.stringify(completion);
  const calls = message.tool_calls?.length ? JSON.stringify(message.tool_calls) : "";
  return [message.content, message.refusal, calls].filter(Boolean).join("\n");
}

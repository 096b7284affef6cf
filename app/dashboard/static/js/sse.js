// Server-sent events of a completion, as they come.

/** The JSON of each event of a Response until `[DONE]`. @throws Error if the stream ends before that */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const blocks = (held + piece.value).split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      // Lines that begin with a colon are signs of life.
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
  throw new Error("The answer ended before its end.");
}

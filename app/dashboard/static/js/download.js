// Saves what the API streams to a file. A link cannot carry the keys, so the page reads the stream itself.

import { bytes } from "./format.js";

/** Up to here an answer is held in the tab's memory; above, it is written to the disk as it comes, where that can be. */
const IN_MEMORY_ROWS = 50_000;

/**
 * Save a stream to a file.
 *
 * @param {object} options
 *   name: of the file; rows: how many are expected, null if not known; expected: true if there must be exactly so many;
 *   open: makes the Response, called once the user has chosen a file; onProgress(text).
 * @returns words on what was saved
 * @throws Error if the stream ended before its end
 */
export async function save({ name, rows, expected, open, onProgress }) {
  const large = rows !== null && rows > IN_MEMORY_ROWS;
  const sink = large && "showSaveFilePicker" in window ? await diskSink(name) : memorySink(name);
  const response = await open();
  let size = 0;
  let lines = 0;
  let last = 10;
  try {
    const reader = response.body.getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      await sink.write(piece.value);
      size += piece.value.length;
      for (const byte of piece.value) if (byte === 10) lines += 1;
      last = piece.value.at(-1) ?? last;
      onProgress(`${bytes(size)} received…`);
    }
    // A stream that breaks has no other sign of it than its missing end.
    if (last !== 10 || (expected && lines !== rows)) {
      throw new Error(`The download ended early, after ${lines} rows; the file is not saved. Try it again.`);
    }
  } catch (error) {
    await sink.discard();
    throw error;
  }
  await sink.close();
  return `${name} is saved: ${bytes(size)}.`;
}

function memorySink(name) {
  const pieces = [];
  return {
    write: (piece) => pieces.push(piece),
    discard: () => {},
    close: () => {
      const address = URL.createObjectURL(new Blob(pieces));
      const link = document.createElement("a");
      link.href = address;
      link.download = name;
      link.click();
      // The browser has taken its hold of the blob once the click is handled.
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    },
  };
}

async function diskSink(name) {
  const file = await window.showSaveFilePicker({ suggestedName: name });
  const writable = await file.createWritable();
  return {
    write: (piece) => writable.write(piece),
    discard: () => writable.abort(),
    close: () => writable.close(),
  };
}

// US dollars as the API gives them, decimal strings: shown to their last digit and added exactly, never as floats.

/** "$1,234.5" of "1234.5"; a dash where no price is known. */
export function money(text) {
  if (text === null || text === undefined) return "–";
  const [whole, part] = String(text).replace("-", "").split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return `${String(text).startsWith("-") ? "−" : ""}$${grouped}${part ? `.${part}` : ""}`;
}

/** The exact sum of decimal strings, as a decimal string without zeros that say nothing. */
export function sum(...texts) {
  const places = Math.max(0, ...texts.map((text) => (text.split(".")[1] ?? "").length));
  const total = texts.reduce((added, text) => added + scaled(text, places), 0n);
  const digits = (total < 0n ? -total : total).toString().padStart(places + 1, "0");
  const whole = digits.slice(0, digits.length - places);
  const part = digits.slice(digits.length - places).replace(/0+$/, "");
  return `${total < 0n ? "-" : ""}${whole}${part ? `.${part}` : ""}`;
}

/** True if the amount is more than nothing. */
export function some(text) {
  return text !== null && text !== undefined && /[1-9]/.test(text) && !text.startsWith("-");
}

/** A share of one amount in another for the length of a bar, 0 to 1; figures are never made of it. */
export function share(part, whole) {
  const of = Number(whole);
  return of > 0 ? Math.min(1, Math.max(0, Number(part) / of)) : 0;
}

function scaled(text, places) {
  const negative = text.startsWith("-");
  const [whole, part = ""] = text.replace("-", "").split(".");
  const value = BigInt(whole + part.padEnd(places, "0"));
  return negative ? -value : value;
}

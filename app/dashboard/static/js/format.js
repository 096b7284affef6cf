// Numbers, times and durations as people read them, each with its unit.

import { h } from "./dom.js";

const NUMBER = new Intl.NumberFormat("en-US");
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const MOMENT = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
export const NOTHING = "–";
/** Between a number and its unit: they stay on one line. */
const GAP = "\u00a0";

export function count(value) {
  return value === null || value === undefined ? NOTHING : NUMBER.format(value);
}

/** 12,345 as 12.3K, for the axis of a chart. */
export function compact(value) {
  return SHORT.format(value);
}

/** "1 row", "2,000 rows". */
export function counted(value, word) {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** A share between 0 and 1. One that is not all is never rounded up to all, nor one that is something to nothing. */
export function percent(share) {
  if (share === null || share === undefined) return NOTHING;
  const value = share * 100;
  const rounded = Math.round(value * 10) / 10;
  if (share > 0 && rounded === 0) return `<${GAP}0.1${GAP}%`;
  if (share < 1 && rounded === 100) return `>${GAP}99.9${GAP}%`;
  return `${rounded}${GAP}%`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return NOTHING;
  return value < 1000 ? `${Math.round(value)}${GAP}ms` : seconds(value / 1000);
}

/** A duration: "0.4 s", "2 min 5 s", "3 h 12 min", "2 d 4 h". */
export function seconds(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value < 60) return `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)}${GAP}s`;
  const whole = Math.round(value);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([unit]) => whole >= unit);
  const [unit, name] = parts[first];
  const [next, nextName] = parts[first + 1] ?? [1, ""];
  const rest = Math.floor((whole % unit) / next);
  return `${Math.floor(whole / unit)}${GAP}${name}${rest ? ` ${rest}${GAP}${nextName}` : ""}`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  let left = value;
  while (left >= 1000 && at < units.length - 1) {
    left /= 1000;
    at += 1;
  }
  return `${at === 0 ? left : left.toFixed(1)}${GAP}${units[at]}`;
}

export function rate(value) {
  return value === null || value === undefined ? NOTHING : `${count(Math.round(value * 10) / 10)}${GAP}rows/s`;
}

/** A moment in the reader's own time, the API's text behind it. */
export function time(text) {
  if (!text) return NOTHING;
  return h("time", { datetime: text, title: text }, MOMENT.format(new Date(text)));
}


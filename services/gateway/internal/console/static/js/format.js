// Numbers and times as people read them, always with their unit. The page is English, and so are its dates; times are of
// the viewer's zone.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat("en", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

export const unknown = "–";

export function count(n) {
  if (n == null) return unknown;
  return Math.abs(n) < 100_000 ? whole.format(n) : compact.format(n);
}

// exact is a number by which something is looked up, as an offset.
export function exact(n) {
  return n == null ? unknown : String(n);
}

export function units(n) {
  return `${count(n)} ${n === 1 ? "unit" : "units"}`;
}

// rate is a number a second, to two digits where it is small.
export function rate(n) {
  if (n == null) return unknown;
  return n > 0 && n < 10 ? String(Number(n.toPrecision(2))) : count(n);
}

// duration is a time span given in milliseconds.
export function duration(ms) {
  if (ms == null) return unknown;
  if (ms < 1) return ms === 0 ? "0 ms" : "<1 ms";
  if (ms < 1000) return `${whole.format(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  if (ms < 86_400_000 * 2) return `${Math.floor(ms / 3_600_000)} h`;
  return `${Math.floor(ms / 86_400_000)} days`;
}

export function ago(time) {
  const ms = Date.now() - time;
  return ms < 2000 ? "just now" : `${duration(ms)} ago`;
}

export function at(time) {
  return clock.format(time);
}

export function when(time) {
  return moment.format(time);
}

export function date(text) {
  return text ? day.format(new Date(`${text}T00:00:00Z`)) : "in stock";
}

// quoted is text as one word of a POSIX shell: who pastes a command must not run what an id says.
export function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

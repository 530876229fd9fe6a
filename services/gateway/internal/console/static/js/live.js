// What the gateway says of the pipeline, a sample a second. The stream goes on by itself after an outage, and stops while
// nobody looks at the page.
import { stream, Problem } from "./api.js";

const keep = 600; // seconds
const soonest = 1000; // between two streams, if the gateway ends them
const hiddenMax = 60_000;
const waitMax = 10_000;

export const live = {
  info: null, // what the parts of the pipeline are called
  samples: [],
  connected: false,
  lostAt: null, // since when there are no samples
  problem: null, // what the gateway says about that; null: it does not answer
  again: null, // what a person calls to try again, where it needs one
};

const listeners = new Set();

// onSample calls fn with each sample, or with nothing when only the connection has changed. It returns how to end that.
export function onSample(fn) {
  listeners.add(fn);
  return () => listeners.delete(fn);
}

export function latest() {
  return live.samples.at(-1);
}

function tell(sample) {
  for (const fn of listeners) fn(sample);
}

function lost(err) {
  if (!live.lostAt) live.lostAt = Date.now();
  live.connected = false;
  live.problem = err instanceof Problem && err.status > 0 ? err : null;
  tell();
}

// person returns once somebody wants to try again, or has given a key for something else.
function person(signal) {
  return new Promise((resolve) => {
    live.again = resolve;
    signal.addEventListener("abort", resolve, { once: true });
    document.addEventListener("lotline-key", resolve, { once: true });
    tell();
  }).finally(() => { live.again = null; });
}

async function follow(signal) {
  let wait = 500;
  while (!signal.aborted) {
    let opened = 0;
    let why = null;
    try {
      await stream("/console/live", {
        signal,
        lastID: latest()?.id,
        onOpen() {
          live.connected = true;
          live.lostAt = null;
          live.problem = null;
          opened = Date.now();
          wait = 500;
          tell();
        },
        onEvent(id, data) {
          if (data.topics) {
            live.info = data;
            return;
          }
          live.samples.push(data);
          while (live.samples[0].time <= data.time - keep * 1000) live.samples.shift();
          tell(data);
        },
      });
      if (Date.now() - opened > soonest) continue; // the gateway ends a stream now and then, to see the key again
    } catch (err) {
      why = err;
    }
    if (signal.aborted) return;
    lost(why);
    if (live.problem?.status === 401) await person(signal); // who closed the dialog does not want it back at once
    else await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, waitMax);
  }
}

let running = null;
let hiding = null;

function begin() {
  if (running) return;
  running = new AbortController();
  follow(running.signal);
}

export function start() {
  begin();
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.visibilityState === "visible") {
      begin();
      return;
    }
    hiding = setTimeout(() => {
      running?.abort();
      running = null;
      live.connected = false;
    }, hiddenMax);
  });
}

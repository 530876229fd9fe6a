// What the gateway says of the pipeline, a sample a second. The stream goes on by itself after an outage, and stops while
// nobody looks at the page.
import { stream } from "./api.js";

const keep = 600; // samples
const hiddenMax = 60_000;
const waitMax = 10_000;

export const live = {
  info: null, // what the parts of the pipeline are called
  samples: [],
  connected: false,
  lostAt: null, // since when the gateway does not answer
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

function lost() {
  if (!live.lostAt) live.lostAt = Date.now();
  live.connected = false;
  tell();
}

async function follow(signal) {
  let wait = 500;
  while (!signal.aborted) {
    try {
      await stream("/console/live", {
        signal,
        lastID: latest()?.id,
        onOpen() {
          live.connected = true;
          live.lostAt = null;
          wait = 500;
          tell();
        },
        onEvent(id, data) {
          if (data.topics) {
            live.info = data;
            return;
          }
          live.samples.push(data);
          if (live.samples.length > keep) live.samples.shift();
          tell(data);
        },
      });
    } catch {
      // Whatever it was, the page says that it has lost the gateway, and tries again.
    }
    if (signal.aborted) return;
    lost();
    await new Promise((resolve) => setTimeout(resolve, wait));
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

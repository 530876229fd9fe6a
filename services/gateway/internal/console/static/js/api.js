// Questions to the gateway, with the key if it wants one, and streams of server-sent events. A stream is read with fetch:
// EventSource sends no Authorization.

const keyName = "lotline-key";
let ask = null; // resolves once a person has given a key

// Problem is an answer that says why not.
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

// onKeyWanted says who asks a person for a key: a function that returns a promise of one.
let wanted = () => Promise.reject(new Problem(401, "A key is needed"));
export function onKeyWanted(fn) {
  wanted = fn;
}

export function headers(more) {
  const key = sessionStorage.getItem(keyName);
  return { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...more };
}

export function forgetKey() {
  sessionStorage.removeItem(keyName);
}

export function hasKey() {
  return sessionStorage.getItem(keyName) !== null;
}

// send does a request, and asks for a key when there is none, or a wrong one. It throws if nobody answered.
export async function send(path, options = {}) {
  for (;;) {
    const response = await fetch(path, { ...options, headers: headers(options.headers), cache: "no-store" });
    if (response.status !== 401) return response;
    ask ??= wanted(hasKey()).then((key) => { sessionStorage.setItem(keyName, key); document.dispatchEvent(new Event("lotline-key")); }).finally(() => { ask = null; });
    await ask;
  }
}

// json does a request and returns its answer; it throws a Problem if that says why not, or if there is none.
export async function json(path, options) {
  let response;
  try {
    response = await send(path, options);
  } catch (err) {
    if (err instanceof Problem || err.name === "AbortError") throw err;
    throw new Problem(0, "The gateway does not answer");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, body.detail ?? body.message ?? response.statusText);
  return body;
}

// inOrder is for questions whose answers replace each other. It returns what is called for each question, and returns what is called
// with its answer: whether none that was asked later has been answered already.
export function inOrder() {
  let turn = 0;
  let answered = 0;
  return () => {
    const mine = ++turn;
    return () => {
      if (mine < answered) return false;
      answered = mine;
      return true;
    };
  };
}

// stream calls onEvent with each event's id and data until the stream ends, which it returns after, or throws. One in
// which nothing comes for so long, not even a heartbeat, is broken off.
const silentMax = 25_000;

export async function stream(path, { signal, lastID, onOpen, onEvent }) {
  const broken = new AbortController();
  const stop = () => broken.abort();
  signal?.addEventListener("abort", stop);
  let timer = setTimeout(stop, silentMax);
  try {
    const response = await send(path, { signal: broken.signal, headers: lastID ? { "Last-Event-ID": String(lastID) } : {} });
    if (!response.ok) {
      const body = await response.json().catch(() => ({}));
      throw new Problem(response.status, body.detail ?? response.statusText);
    }
    onOpen?.();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      clearTimeout(timer);
      if (done) return;
      timer = setTimeout(stop, silentMax);
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
        if (fields.data) onEvent(Number(fields.id ?? 0), JSON.parse(fields.data));
      }
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

// The page's frame: which view is shown, search, theme, keyboard, and what is wrong with the pipeline.
import { render } from "../vendor/lit-html/lit-html.js";
import { html, nothing, route } from "./ui.js";
import { live, latest, onSample, start } from "./live.js";
import { askForKey, keyDialog } from "./key.js";
import { onKeyWanted, hasKey, forgetKey } from "./api.js";
import * as format from "./format.js";
import "./chart.js";
import { overview } from "./views/overview.js";
import { sku } from "./views/sku.js";
import { order } from "./views/order.js";
import { search } from "./views/search.js";
import { command } from "./views/command.js";
import { send } from "./views/send.js";
import { letters } from "./views/letters.js";

const views = { "": overview, sku, order, search, command, send, "dead-letters": letters };
const pages = [
  { view: "", name: "Overview", key: "o" },
  { view: "send", name: "Send", key: "s" },
  { view: "dead-letters", name: "Dead letters", key: "d" },
];

const root = document.getElementById("app");
let current = null;
let shown = null; // the view's name

let due = false;
function update() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    render(frame(), root);
  });
}

// parse reads a hash: #/view/id?query. What is not well formed is the overview.
function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split(/\?(.*)/s, 2);
  const slash = path.indexOf("/");
  const view = slash < 0 ? path : path.slice(0, slash);
  try {
    return { view, id: slash < 0 ? "" : decodeURIComponent(path.slice(slash + 1)), query: Object.fromEntries(new URLSearchParams(query ?? "")) };
  } catch {
    return { view: "", id: "", query: {} };
  }
}

function show() {
  const { view, id, query } = parse(location.hash);
  current?.stop?.();
  shown = Object.hasOwn(views, view) ? view : "";
  current = views[shown]({ id, query }, update);
  document.title = `${current.title} · Lotline`;
  due = false;
  render(frame(), root);
  window.scrollTo(0, 0);
  // A person who does not see the page hears where it has gone, except when it opens.
  if (arrived) document.querySelector("main")?.focus({ preventScroll: true });
  arrived = true;
}
let arrived = false;

// Themes: what the system says, or one of two.
const themes = ["system", "light", "dark"];
let theme = localStorage.getItem("lotline-theme") ?? "system";

function paint() {
  document.documentElement.dataset.theme = theme;
  document.dispatchEvent(new Event("lotline-theme"));
}

function nextTheme() {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem("lotline-theme", theme);
  paint();
  update();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

function find(event) {
  event.preventDefault();
  const q = new FormData(event.target).get("q").trim();
  const to = route("search", null, { q });
  if (q && location.hash === to) show(); // what was not there a moment ago
  else if (q) location.hash = to;
}

// Keys: / searches, g and a letter goes to a page, ? says which there are.
// A dialog that was just closed has the focus until the next frame: it is open that counts.
let goes = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog[open]")) return;
  const page = goes && pages.find((p) => p.key === event.key);
  goes = event.key === "g";
  if (page) {
    location.hash = route(page.view);
  } else if (event.key === "/") {
    event.preventDefault();
    document.getElementById("search").focus();
  } else if (event.key === "?") {
    document.getElementById("keys").showModal();
  }
});

const parts = {
  kafka: ["Kafka is away", "commands are refused until it is back; questions are answered"],
  tail: ["The events cannot be followed", "commands are sent, but their outcome is not seen"],
};

// troubles says what is away and since when. It goes by itself.
function troubles() {
  const found = [];
  if (live.lostAt && live.problem) {
    found.push(html`<li><b>There are no live numbers</b> since ${format.at(live.lostAt)}: ${live.problem.message}.
      ${live.again ? html`<button type="button" class="plain" @click=${() => live.again()}>Give a key</button>` : "This page goes on asking."}</li>`);
  } else if (live.lostAt) {
    found.push(html`<li><b>The gateway does not answer</b> since ${format.at(live.lostAt)}. What you see is from then; it goes on by itself.</li>`);
  } else {
    for (const o of latest()?.outages ?? []) {
      const [what, so] = parts[o.component] ?? [`The read model (${o.component}) is away`, "questions are not answered until it is back; commands are accepted and decided"];
      found.push(html`<li><b>${what}</b> since ${format.when(Date.parse(o.since))}: ${so}.</li>`);
    }
  }
  if (latest()?.refused) found.push(html`<li><b>Kafka does not let this gateway see how the pipeline stands</b>: ${latest().refused}</li>`);
  return html`<div class="watch" role="status" aria-live="polite">${found.length ? html`<ul class="troubles">${found}</ul>` : nothing}</div>`;
}

function frame() {
  const state = live.lostAt ? ["bad", live.problem ? "no numbers" : "no gateway"] : !latest() ? ["unknown", "connecting"] : latest().outages.length ? ["warn", "impaired"] : ["ok", "live"];
  return html`
    <a class="skip" href="#main" @click=${(e) => { e.preventDefault(); document.querySelector("main").focus(); }}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${route("")}><svg viewBox="0 0 32 32" aria-hidden="true"><path d="M2 16h28"></path><circle cx="9" cy="16" r="4"></circle><circle class="b" cx="23" cy="16" r="4"></circle></svg>Lotline</a>
      <nav aria-label="Pages"><ul>
        ${pages.map((p) => html`<li><a href=${route(p.view)} aria-current=${p.view === shown ? "page" : nothing}>${p.name}</a></li>`)}
      </ul></nav>
      <form role="search" @submit=${find}>
        <label class="visually-hidden" for="search">Search for a SKU, an order, a command or a batch</label>
        <input id="search" name="q" type="search" maxlength="512" autocomplete="off" spellcheck="false" placeholder="SKU, order, command, batch">
        <kbd aria-hidden="true">/</kbd>
      </form>
      <p class="state" data-tone=${state[0]}><span class="dot" aria-hidden="true"></span>${state[1]}</p>
      <div class="tools">
        ${hasKey() ? html`<button type="button" class="plain" @click=${() => { forgetKey(); location.reload(); }}>Forget key</button>` : nothing}
        <button type="button" class="plain" @click=${nextTheme} aria-label=${`Theme: ${theme}`} title="Theme">${{ system: "◐", light: "☀", dark: "☾" }[theme]}</button>
        <button type="button" class="plain" aria-label="Keyboard shortcuts" title="Keyboard shortcuts" @click=${() => document.getElementById("keys").showModal()}>?</button>
      </div>
    </header>
    <main id="main" tabindex="-1">
      ${troubles()}
      ${current.template()}
    </main>
    <dialog id="keys" aria-labelledby="keys-title">
      <h2 id="keys-title">Keyboard</h2>
      <dl>
        <dt><kbd>/</kbd></dt><dd>search</dd>
        ${pages.map((p) => html`<dt><kbd>g</kbd> <kbd>${p.key}</kbd></dt><dd>${p.name}</dd>`)}
        <dt><kbd>?</kbd></dt><dd>this</dd>
        <dt><kbd>Esc</kbd></dt><dd>close</dd>
      </dl>
      <form method="dialog"><button>Close</button></form>
    </dialog>
    ${keyDialog(update)}`;
}

paint();
onKeyWanted((again) => askForKey(again, update));
onSample(update);
window.addEventListener("hashchange", show);
start();
show();

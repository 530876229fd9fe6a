// The dialog that asks for an API key when the gateway wants one. The key is kept for this tab only.
import { html, nothing } from "./ui.js";
import { Problem } from "./api.js";

let open = null; // who waits for a key: {resolve, reject, again}

// askForKey returns a promise of a key. again says that the last one was refused.
export function askForKey(again, update) {
  return new Promise((resolve, reject) => {
    open = { resolve, reject, again };
    update();
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById("key").showModal()));
  });
}

function settle(key) {
  const waiting = open;
  open = null;
  if (!waiting) return;
  if (key) waiting.resolve(key);
  else waiting.reject(new Problem(401, "The gateway wants a key"));
}

export function keyDialog(update) {
  return html`<dialog id="key" aria-labelledby="key-title" @close=${() => { settle(null); update(); }}>
    <form method="dialog" @submit=${(e) => { settle(new FormData(e.target).get("key").trim()); e.target.reset(); }}>
      <h2 id="key-title">A key, please</h2>
      ${open?.again ? html`<p class="notice" data-tone="bad" role="alert">The gateway does not take that key.</p>` : nothing}
      <p>This gateway answers those who have an API key. It is kept in this tab until you close it.</p>
      <label for="key-input">API key</label>
      <input id="key-input" name="key" type="password" autocomplete="off" required pattern="[ ]*[!-~]+[ ]*" title="Letters, digits and signs as lotline keys new printed them, and no others">
      <button>Use it</button>
    </form>
  </dialog>`;
}

// What has an id, whatever it is an id of. A single find is gone to at once.
import { html, nothing, route, loading, failed, empty } from "../ui.js";
import { json } from "../api.js";

const kinds = { sku: "SKU", order: "Order", command: "Command", batch: "Batch" };

function address(hit) {
  return hit.kind === "batch" ? route("sku", hit.sku, { batch: hit.id }) : route(hit.kind, hit.id);
}

export function search({ query }, update) {
  const q = (query.q ?? "").trim();
  let hits = null;
  let problem = null;
  let ended = false;

  async function load() {
    problem = null;
    try {
      hits = (await json(`/console/search?${new URLSearchParams({ q })}`)).hits;
    } catch (err) {
      problem = err;
    }
    if (ended) return;
    if (hits?.length === 1) location.replace(address(hits[0]));
    else update();
  }
  if (q) load();

  return {
    title: "Search",
    stop() {
      ended = true;
    },
    template() {
      return html`
        <header class="page"><p class="kind">Search</p><h1 class="id">${q || "Search"}</h1></header>
        ${problem ? failed(problem, load) : !q ? nothing : !hits ? loading(q) : hits.length ? found() : nothingFound()}`;
    },
  };

  function found() {
    return html`<section class="card"><h2 class="visually-hidden">Found</h2><ul class="hits">${hits.map((hit) => html`
      <li><a href=${address(hit)}><span class="kind">${kinds[hit.kind]}</span> <b class="id">${hit.id}</b>
        ${hit.sku ? html`<span class="note">of ${hit.sku}</span>` : nothing}</a></li>`)}</ul></section>`;
  }

  function nothingFound() {
    return empty("Nothing has this id",
      html`<p>The search wants a whole id: of a SKU (<code>GREEN-CHAIR</code>), an order, a command, or a batch. What was sent a moment ago is found when it is projected. Commands that could not be read have no outcome; they are <a href=${route("dead-letters")}>dead letters</a>.</p>`);
  }
}

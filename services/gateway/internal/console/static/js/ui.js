// Parts that several views show. Whatever comes from outside goes through templates as text, or into an attribute that is
// none of a script's.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import * as format from "./format.js";

export { html, nothing };

// route is the address of a view: a hash, so that ids may hold anything.
export function route(view, id, query) {
  const more = query ? `?${new URLSearchParams(query)}` : "";
  return id == null ? `#/${view}${more}` : `#/${view}/${encodeURIComponent(id)}${more}`;
}

export function link(view, id, query) {
  return html`<a class="id" href=${route(view, id, query)}>${id}</a>`;
}

export function time(t) {
  const at = new Date(t);
  return html`<time datetime=${at.toISOString()} title=${at.toISOString()}>${format.when(at)}</time>`;
}

// What an event means for a person, and how it is marked.
const words = {
  BatchCreated: ["Batch created", "in"],
  BatchQuantityChanged: ["Quantity changed", "change"],
  Allocated: ["Allocated", "ok"],
  Deallocated: ["Deallocated", "out"],
  OutOfStock: ["Out of stock", "bad"],
  CommandIgnored: ["Nothing to do", "quiet"],
  CommandRejected: ["Rejected", "bad"],
};

export function word(type) {
  return words[type]?.[0] ?? type;
}

export function tone(type) {
  return words[type]?.[1] ?? "quiet";
}

export function badge(type) {
  return html`<span class="badge" data-tone=${tone(type)}>${word(type)}</span>`;
}

// sentence says what a change did.
export function sentence(c) {
  const batch = html`batch <b class="id">${c.batchref}</b>`;
  switch (c.type) {
    case "BatchCreated":
      return html`${batch}: ${format.units(c.batch_qty)}, ${format.date(c.eta)}`;
    case "BatchQuantityChanged":
      return html`${batch} is now ${format.units(c.batch_qty)}, ${format.count(c.batch_available)} left`;
    case "Allocated":
      return html`${format.units(c.qty)} from ${batch}${c.eta ? html`, which arrives ${format.date(c.eta)}` : nothing}`;
    case "Deallocated":
      return html`${format.units(c.qty)} back to ${batch}${c.reason === "batch_quantity_changed" ? ": it holds less now" : nothing}`;
    case "OutOfStock":
      return html`${format.units(c.qty)} wanted, no batch has that many: ${format.units(c.available)} left in all`;
    default:
      return html`${c.message || c.reason}`;
  }
}

export function loading(what) {
  return html`<p class="note" role="status">Looking for ${what} …</p>`;
}

// failed says why there is no answer.
export function failed(problem, again) {
  return html`<div class="notice" data-tone="bad" role="alert">
    <p>${problem.message}</p>
    <button type="button" @click=${again}>Try again</button>
  </div>`;
}

export function empty(title, ...body) {
  return html`<section class="empty"><h2>${title}</h2>${body}</section>`;
}

export function command(text) {
  return html`<pre class="command" tabindex="0"><code>${text}</code></pre>`;
}

export function legend(...items) {
  return html`<ul class="legend">${items.map(([color, label, value]) => html`
    <li><span class="swatch" data-color=${color}></span>${label}${value == null ? nothing : html` <b>${value}</b>`}</li>`)}</ul>`;
}

// An order: where its lines are, and what happened to each, in order.
import { html, nothing, badge, sentence, link, time, loading, failed, empty, route, command } from "../ui.js";
import { json, inOrder } from "../api.js";
import { onSample } from "../live.js";
import * as format from "../format.js";

const refreshEvery = 5000;

export function order({ id }, update) {
  let data = null;
  let problem = null;
  let asked = 0;
  const ask = inOrder();
  let ended = false;

  async function load() {
    asked = Date.now();
    const newest = ask();
    try {
      const fresh = await json(`/console/order?${new URLSearchParams({ id })}`);
      if (!newest()) return;
      data = fresh;
      problem = null;
    } catch (err) {
      if (!newest()) return;
      problem = err;
    }
    if (!ended) update();
  }

  load();
  const stop = onSample((sample) => {
    if (sample && (Date.now() - asked > refreshEvery || sample.recent.some((e) => e.orderid === id))) load();
  });

  return {
    title: id,
    stop() {
      ended = true;
      stop();
    },
    template() {
      return html`
        <header class="page"><p class="kind">Order</p><h1 class="id">${id}</h1>
          <a class="button" href=${route("send", null, { order: id })}>Send a command</a></header>
        ${problem && !data ? failed(problem, load) : nothing}
        ${problem && data ? html`<p class="notice" data-tone="warn" role="status">${problem.message}. What is below may be old.</p>` : nothing}
        ${!data ? (problem ? nothing : loading(id)) : page()}`;
    },
  };

  function page() {
    const skus = [...new Set([...data.lines.map((l) => l.sku), ...data.changes.map((c) => c.sku)])];
    if (skus.length === 0) {
      return empty("Nobody has heard of this order",
        html`<p>An order is known from its first line on. Allocate one on the <a href=${route("send", null, { order: id })}>Send</a> page. If you did a moment ago, it will be here when it is projected.</p>`);
    }
    return html`
      <p class="lead">${format.count(data.lines.length)} of ${format.count(skus.length)} ${skus.length === 1 ? "line has a batch" : "lines have a batch"}.</p>
      ${data.kept ? nothing : html`<section class="card"><p>The read model of this installation keeps what is, but not what was. With <code>--read-model=clickhouse</code> the story of the order is here; until then the events topic has it:</p>${command("bin/lotline tail events")}</section>`}
      <div class="grid lines">${skus.map(line)}</div>`;
  }

  function line(sku) {
    const now = data.lines.find((l) => l.sku === sku);
    const story = data.changes.filter((c) => c.sku === sku);
    const last = story.findLast((c) => c.type !== "CommandIgnored");
    return html`<section class="card">
      <header><h2>${link("sku", sku)}</h2>
        ${now ? html`<p><b>${format.units(now.qty)}</b> from batch <a class="id" href=${route("sku", sku, { batch: now.batchref })}>${now.batchref}</a>, ${now.eta ? `arrives ${format.date(now.eta)}` : "in stock"}</p>`
          : html`<p>${last ? badge(last.type) : nothing} no batch</p>`}</header>
      <ol class="tale">
        ${story.map((c) => html`<li data-tone=${c.type}>
          <p>${badge(c.type)} ${time(c.event_time)}</p>
          <p>${sentence(c)}</p>
          <p class="note">by command ${link("command", c.commandid)}</p>
        </li>`)}
      </ol>
    </section>`;
  }
}

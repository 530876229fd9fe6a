// A SKU: what can be promised and when, its batches, and its history.
import { html, nothing, badge, sentence, link, time, loading, failed, empty, legend, route, command } from "../ui.js";
import { json, inOrder } from "../api.js";
import { onSample } from "../live.js";
import * as format from "../format.js";

const refreshEvery = 5000;
const shownFirst = 20; // changes in the list

export function sku({ id, query }, update) {
  let data = null;
  let problem = null;
  let older = false; // more changes are being fetched
  let wanted = "1"; // as it was typed
  let asked = 0;
  const ask = inOrder();
  let shown = shownFirst;
  let ended = false;

  async function load() {
    asked = Date.now();
    const newest = ask();
    try {
      const fresh = await json(`/console/sku?${new URLSearchParams({ id })}`);
      if (!newest()) return;
      // Changes that were fetched before the newest stay; where there would be a hole they do not.
      const known = data?.changes ?? [];
      const from = fresh.changes[0]?.version ?? 0;
      const before = known.filter((c) => c.version < from);
      fresh.changes = before.length && before.at(-1).version === from - 1 ? [...before, ...fresh.changes] : fresh.changes;
      data = fresh;
      problem = null;
    } catch (err) {
      if (!newest()) return;
      problem = err;
    }
    if (!ended) update();
  }

  async function more() {
    shown += 5 * shownFirst;
    if (shown <= data.changes.length || data.changes[0].version === 1) {
      update();
      return;
    }
    older = true;
    update();
    const before = data.changes[0].version;
    try {
      const answer = await json(`/console/sku?${new URLSearchParams({ id, before })}`);
      if (data.changes[0].version === before) data.changes = [...answer.changes, ...data.changes];
    } catch (err) {
      problem = err;
    }
    older = false;
    if (!ended) update();
  }

  load();
  const stop = onSample((sample) => {
    if (!sample) return;
    const due = Date.now() - asked > refreshEvery;
    if (due || sample.recent.some((e) => e.sku === id)) load();
  });

  return {
    title: id,
    stop() {
      ended = true;
      stop();
    },
    template() {
      const known = data && data.version > 0;
      return html`
        <header class="page">
          <p class="kind">SKU</p>
          <h1 class="id">${id}</h1>
          ${known ? html`<a class="button" href=${route("send", null, { sku: id })}>Send a command</a>` : nothing}
        </header>
        ${problem && !data ? failed(problem, load) : nothing}
        ${problem && data ? html`<p class="notice" data-tone="warn" role="status">${problem.message}. What is below may be old.</p>` : nothing}
        ${!data ? (problem ? nothing : loading(id)) : known ? page() : unknown()}`;
    },
  };

  function unknown() {
    return empty("No batch of this SKU was ever created",
      html`<p>A SKU begins with its first batch. Create one on the <a href=${route("send", null, { sku: id })}>Send</a> page. If you did a moment ago, it will be here when it is projected.</p>`);
  }

  function page() {
    return html`
      ${promise()}
      ${batches()}
      ${history()}`;
  }

  // promise answers the shop's question: how many, and when?
  function promise() {
    const qty = Number(wanted);
    const fits = data.batches.find((b) => b.available >= qty);
    const answer = !(Number.isInteger(qty) && qty >= 1) ? "a whole number, please" : !fits ? "no single batch has that many"
      : fits.eta ? html`from <b>${format.date(fits.eta)}</b>, batch <b class="id">${fits.ref}</b>` : html`<b>now</b>, batch <b class="id">${fits.ref}</b>`;
    const now = data.batches.filter((b) => !b.eta).reduce((n, b) => n + b.available, 0);
    const figure = (n) => html`${format.count(n)} <span class="unit">${n === 1 ? "unit" : "units"}</span>`;
    return html`<section class="card hero" aria-label="Available to promise">
      <dl class="figures">
        <div><dt>In stock</dt><dd>${figure(now)}</dd></div>
        <div><dt>On its way</dt><dd>${figure(data.available - now)}</dd></div>
        <div><dt>Version</dt><dd>${format.exact(data.version)}</dd></div>
      </dl>
      <div class="ask">
        <label for="qty">When can a line have</label>
        <input id="qty" type="number" min="1" max="1000000000" inputmode="numeric" value="1" @input=${(e) => { wanted = e.target.value; update(); }}>
        <span>${qty === 1 ? "unit" : "units"}?</span><output for="qty">${answer}</output>
      </div>
      ${curve(now)}
    </section>`;
  }

  // curve is what will have arrived by each day, as far as it is known.
  function curve(now) {
    const today = Math.floor(Date.now() / 86_400_000) * 86_400;
    const coming = data.batches.filter((b) => b.eta);
    if (coming.length === 0) return nothing;
    const days = new Map([[today, now]]);
    let have = now;
    for (const b of coming) {
      const at = Math.max(today, Date.parse(`${b.eta}T00:00:00Z`) / 1000);
      have += b.available;
      days.set(at, have);
    }
    const last = Math.max(...days.keys());
    days.set(last + Math.max(86_400 * 2, (last - today) * 0.1), have);
    const spec = {
      data: [[...days.keys()], [...days.values()]],
      series: [{ label: "available", color: "--c-commands", fill: true, step: true }],
      format: format.count, height: 150, days: true,
      label: `Available to promise: ${format.units(now)} now, ${format.units(have)} by ${format.date(coming.at(-1).eta)}`,
    };
    return html`<h2>Available to promise, by day</h2><lot-chart .spec=${spec}></lot-chart>`;
  }

  function batches() {
    const most = Math.max(1, ...data.batches.map((b) => b.qty));
    const used = data.batches.filter((b) => b.available === 0 && b.ref !== query.batch);
    const open = data.batches.filter((b) => !used.includes(b));
    return html`<section class="card">
      <header><h2>Batches</h2>${legend(["commands", "available"], ["taken", "allocated"])}</header>
      ${open.length ? html`<ol class="batches">${open.map((b) => batch(b, most))}</ol>` : html`<p>All of them are used up.</p>`}
      ${used.length ? html`<details><summary>${format.count(used.length)} used up</summary><ol class="batches">${used.map((b) => batch(b, most))}</ol></details>` : nothing}
    </section>`;
  }

  function batch(b, most) {
    const free = (100 * b.available) / most;
    return html`<li ?data-found=${b.ref === query.batch}>
      <span class="id">${b.ref}</span>
      <span class="note">${b.eta ? `arrives ${format.date(b.eta)}` : "in stock"}</span>
      <svg class="stack" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        <rect class="free" x="0" y="0" height="4" width=${free}></rect>
        <rect class="taken" x=${free} y="0" height="4" width=${(100 * (b.qty - b.available)) / most}></rect>
      </svg>
      <span class="n"><b>${format.count(b.available)}</b> of ${format.count(b.qty)}<span class="visually-hidden"> units left</span></span>
    </li>`;
  }

  function history() {
    if (!data.kept) {
      return html`<section class="card"><header><h2>History</h2></header>
        <p>The read model of this installation keeps what is, but not what was. With <code>--read-model=clickhouse</code> the history is here; until then the events topic has it:</p>
        ${command(`bin/lotline tail events --sku=${format.quoted(id)}`)}</section>`;
    }
    const changes = data.changes;
    const times = [];
    const values = [];
    for (const c of changes) { // uPlot wants times that grow
      const t = Date.parse(c.event_time) / 1000;
      times.push(times.length && t <= times.at(-1) ? times.at(-1) + 0.001 : t);
      values.push(c.available);
    }
    const spec = {
      data: [times, values], series: [{ label: "available", color: "--c-commands", fill: true, step: true, points: changes.length < 60 }],
      format: format.count, height: 190,
      label: `Units left over the last ${changes.length} changes, now ${format.count(data.available)}`,
    };
    return html`<section class="card">
      <header><h2>History</h2><p class="note">units left after each change</p></header>
      <lot-chart .spec=${spec}></lot-chart>
      <ol class="story">
        ${changes.slice(-shown).toReversed().map((c) => html`
          <li data-tone=${c.type}>
            ${badge(c.type)}
            <span class="what">${c.orderid ? html`${link("order", c.orderid)}: ` : nothing}${sentence(c)}</span>
            <span class="n"><b>${format.count(c.available)}</b> left</span>
            <a class="note id" href=${route("command", c.commandid)} title=${`Command ${c.commandid}`}>v${c.version}</a>
            ${time(c.event_time)}
          </li>`)}
      </ol>
      ${changes[0]?.version > 1 || shown < changes.length ? html`<button type="button" class="second" @click=${more} ?disabled=${older}>${older ? "Looking …" : "Older changes"}</button>` : nothing}
    </section>`;
  }
}

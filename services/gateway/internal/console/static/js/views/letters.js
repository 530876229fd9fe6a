// The dead letters: commands that could not be read, why, and sending them again.
import { html, nothing, time, loading, failed, empty, link, command as shell } from "../ui.js";
import { json } from "../api.js";
import { onSample } from "../live.js";
import * as format from "../format.js";

const reloadAfter = 3000;

export function letters({ query }, update) {
  let data = null;
  let problem = null;
  let asked = 0;
  let busy = false;
  let again = false; // something else was asked for while it was busy
  let ended = false;
  let all = query.all === "1";
  let reason = query.reason ?? "";
  const chosen = new Set();
  const opened = new Set(); // by place: the list's elements are others' once it has grown
  let plan = null; // what would be done: {action, places, count, unreadable, token}
  let done = null;

  async function load() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    again = false;
    asked = Date.now();
    try {
      data = await json(`/console/dead-letters?${new URLSearchParams({ ...(all ? { all: "1" } : {}), ...(reason ? { reason } : {}) })}`);
      problem = null;
      const open = new Set(data.letters.filter((l) => l.status === "open").map((l) => l.place));
      for (const place of chosen) if (!open.has(place)) chosen.delete(place);
    } catch (err) {
      problem = err;
    }
    busy = false;
    if (ended) return;
    update();
    if (again) load();
  }
  load();
  // Reading them all is work: not more often than every few seconds, and only if there may be others.
  let end = null;
  let due = false;
  const stop = onSample((sample) => {
    if (sample?.letters_end == null) return;
    due ||= sample.letters_end !== end;
    end = sample.letters_end;
    if (due && Date.now() - asked > reloadAfter) {
      due = false;
      load();
    }
  });

  function post(path, body) {
    return json(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-Lotline-Console": "1" } });
  }

  // prepare asks what an action would be for, and shows it before anything is done.
  async function prepare(action, places) {
    done = null;
    try {
      plan = { action, places, ...(await post("/console/dead-letters/plan", { action, places })) };
      update();
      requestAnimationFrame(() => document.getElementById("confirm")?.showModal());
    } catch (err) {
      done = { tone: "bad", text: err.message };
      update();
    }
  }

  async function carryOut(event) {
    event.preventDefault();
    const { action, places, token } = plan;
    const why = new FormData(event.target).get("why").trim();
    event.target.closest("dialog").close();
    try {
      const answer = await post("/console/dead-letters/answer", { action, places, token, why });
      done = { tone: "ok", text: `${format.count(answer.done)} ${answer.done === 1 ? "dead letter was" : "dead letters were"} ${action === "replay" ? "replayed" : "discarded"}.` };
      chosen.clear();
    } catch (err) {
      done = { tone: "bad", text: err.message };
    }
    plan = null;
    update();
    load();
  }

  function filter(event) {
    event.preventDefault();
    reason = new FormData(event.target).get("reason").trim();
    load();
  }

  return {
    title: "Dead letters",
    stop() {
      ended = true;
      stop();
    },
    template() {
      return html`
        <header class="page"><h1>Dead letters</h1></header>
        <p class="lead">Commands that could not be read. They are kept as they came, and wait here until somebody sends them again or discards them.</p>
        ${done ? html`<p class="notice" data-tone=${done.tone} role=${done.tone === "bad" ? "alert" : "status"}>${done.text}</p>` : nothing}
        ${problem ? failed(problem, load) : nothing}
        ${!data ? (problem ? nothing : loading("dead letters")) : page()}
        ${dialog()}`;
    },
  };

  function page() {
    const filtered = reason || all;
    if (data.letters.length === 0 && !filtered) {
      return empty("There are none", html`<p>Every command could be read. One that is no JSON, or has a type that nobody knows, would be here a moment later; try it:</p>`,
        shell("echo 'no JSON' | kcat -P -b 127.0.0.1:9092 -t lotline.commands -H ce_type=lotline.command.v1.Allocate"));
    }
    return html`
      ${reasons()}
      <section class="card" aria-label="Dead letters">
        <form class="filter" @submit=${filter}>
          <label for="reason">Reason</label>
          <input id="reason" name="reason" type="search" maxlength="200" .value=${reason} placeholder="a part of it" autocomplete="off">
          <button class="second">Filter</button>
          <label class="check"><input type="checkbox" .checked=${all} @change=${(e) => { all = e.target.checked; load(); }}> answered ones too</label>
        </form>
        ${toolbar()}
        ${data.letters.length === 0 ? html`<p>None of them.</p>` : html`<ol class="letters">${data.letters.map(letter)}</ol>`}
        ${data.more ? html`<p class="note">The newest ${format.count(data.letters.length)} of ${format.count(data.count)}. Choose fewer by their reason, or use <code>bin/lotline dlq list</code>.</p>` : nothing}
      </section>`;
  }

  // reasons shows which mistakes there are: one that is made often is mended at its producer.
  function reasons() {
    const entries = data.reasons;
    if (entries.length < 1) return nothing;
    const most = Math.max(...entries.map((e) => e.count));
    return html`<section class="card"><header><h2>Why</h2><p class="note">${format.count(data.count)} in all</p></header>
      <ol class="reasons">${entries.map((e) => html`<li>
        <button type="button" class="plain" @click=${() => { reason = e.reason; load(); }} title="Only these">${e.reason}</button>
        <svg class="stack" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect class="dead" width=${(100 * e.count) / most} height="4"></rect></svg>
        <span class="n">${format.count(e.count)}</span></li>`)}</ol></section>`;
  }

  function toolbar() {
    const open = data.letters.filter((l) => l.status === "open");
    if (open.length === 0) return nothing;
    const each = chosen.size === open.length;
    return html`<div class="toolbar">
      <label class="check"><input type="checkbox" .checked=${each} .indeterminate=${chosen.size > 0 && !each}
        @change=${(e) => { chosen.clear(); if (e.target.checked) for (const l of open) chosen.add(l.place); update(); }}> ${chosen.size ? `${format.count(chosen.size)} chosen` : "all shown"}</label>
      <button type="button" ?disabled=${chosen.size === 0} @click=${() => prepare("replay", [...chosen])}>Replay …</button>
      <button type="button" class="second" ?disabled=${chosen.size === 0} @click=${() => prepare("discard", [...chosen])}>Discard …</button>
    </div>`;
  }

  // found takes in that the browser opened one itself, in which it found what is searched for in the page.
  function found(open, place) {
    if (!open || opened.has(place)) return;
    opened.add(place);
    update();
  }

  function letter(l) {
    const open = l.status === "open";
    return html`<li>
      <div class="head">
        ${open ? html`<input type="checkbox" aria-label=${`Choose dead letter ${l.place}`} .checked=${chosen.has(l.place)}
          @change=${(e) => { if (e.target.checked) chosen.add(l.place); else chosen.delete(l.place); update(); }}>` : html`<span class="badge">${l.status}</span>`}
        <p class="reason">${l.reason}</p>
        ${time(l.time)}
      </div>
      <p class="note">${l.place}, from ${l.topic} ${l.partition}@${format.exact(l.offset)}${l.key ? html`, key ${link("sku", l.key)}` : nothing}
        ${open ? (l.unreadable ? nothing : html`<span class="badge" data-tone="ok">can be read now</span>`) : nothing}</p>
      <details .open=${opened.has(l.place)} @toggle=${(e) => found(e.target.open, l.place)}><summary @click=${(e) => { e.preventDefault(); if (!opened.delete(l.place)) opened.add(l.place); update(); }}>As it came, ${format.count(l.bytes)} bytes</summary>
        <dl class="headers">${l.headers.map((h) => html`<dt>${h.key}</dt><dd class="id">${h.value}</dd>`)}</dl>
        <pre class="command" tabindex="0">${l.value}${l.bytes > l.shown ? html`<span class="note"> … and ${format.count(l.bytes - l.shown)} bytes more</span>` : nothing}</pre>
        ${l.unreadable ? html`<p class="note">Replayed now, it would be a dead letter again: ${l.unreadable}</p>` : nothing}
      </details>
    </li>`;
  }

  function dialog() {
    const replay = plan?.action === "replay";
    return html`<dialog id="confirm" aria-labelledby="confirm-title">
      ${plan ? html`<form @submit=${carryOut}>
        <h2 id="confirm-title">${replay ? "Replay" : "Discard"} ${format.count(plan.count)} ${plan.count === 1 ? "dead letter" : "dead letters"}?</h2>
        <p>${replay
          ? html`What came goes to <b class="id">${plan.topic}</b> again, unchanged, once, whoever asks how often.`
          : "It is marked as not to be replayed, and stays on its topic until the retention ends."}</p>
        ${replay && plan.unreadable ? html`<p class="notice" data-tone="warn">This version cannot read ${format.count(plan.unreadable)} of them either: those would be dead letters again.</p>` : nothing}
        <label for="why">Why, for the record${replay ? " (optional)" : ""}</label>
        <input id="why" name="why" maxlength="500" autocomplete="off" ?required=${!replay}>
        <p class="toolbar"><button>${replay ? "Replay" : "Discard"}</button>
          <button type="button" class="second" @click=${(e) => e.target.closest("dialog").close()}>Do nothing</button></p>
      </form>` : html`<h2 id="confirm-title">Nothing to confirm</h2>`}
    </dialog>`;
  }
}

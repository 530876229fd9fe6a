// How far a command has come: from Kafka's acknowledgement over what was decided to the row that everybody can read. It is
// asked for often until the command has arrived, and then no more.
import { html, nothing, badge, sentence, time, link } from "./ui.js";
import { json } from "./api.js";
import { live } from "./live.js";
import * as format from "./format.js";

const askEvery = 150;
const giveUpAfter = 60_000;

// journey follows a command. given is what the page knows itself: {status, ms}, of the request that sent it.
export function journey(id, update, given) {
  let state = null;
  let problem = null;
  let ended = false;
  const began = Date.now();

  async function follow() {
    while (!ended) {
      try {
        state = await json(`/console/command?${new URLSearchParams({ id })}`);
        problem = null;
      } catch (err) {
        problem = err;
      }
      if (ended) return;
      update();
      if (problem?.status === 401 || problem?.status === 403) { // a person has to change that first
        await new Promise((resolve) => document.addEventListener("lotline-key", resolve, { once: true }));
        continue;
      }
      if (state && (state.outcome || (!state.kept && state.decided?.last))) return;
      const patient = Date.now() - began > giveUpAfter || (!given && !state?.sent);
      await new Promise((resolve) => setTimeout(resolve, patient ? 3000 : askEvery));
    }
  }
  follow();

  return {
    get state() {
      return state;
    },
    get problem() {
      return problem;
    },
    stop() {
      ended = true;
    },
    template() {
      const { sent, decided, outcome, visible, kept } = state ?? { kept: true };
      const arrived = Boolean(outcome);
      const happened = outcome ? Date.parse(outcome.event_time) : null;
      const steps = [
        {
          name: "Sent", done: Boolean(given || sent || decided || outcome),
          value: given ? format.duration(given.ms) : nothing,
          note: given ? `the gateway answered ${given.status}` : outcome ? html`by ${outcome.commandsource || "a producer without a name"}` : "over HTTP",
        },
        {
          name: "In the log", done: Boolean(sent || decided || outcome),
          value: sent ? html`${sent.partition}<span class="unit">@</span>${format.exact(sent.offset)}` : happened ? format.at(happened) : nothing,
          note: sent ? "partition and offset" : happened ? "when Kafka took it" : given ? "not acknowledged yet" : "not seen here", topic: live.info?.topics.commands,
        },
        {
          name: "Decided", done: Boolean(decided?.last || outcome),
          value: decided?.last ? format.duration(decided.took) : nothing,
          note: decided ? html`as ${decided.count === 1 ? "one event" : `${format.count(decided.count)} events`}, the first at ${decided.events[0].partition}@${format.exact(decided.events[0].offset)}` : outcome ? "before this page looked" : "waiting for the allocator",
          topic: live.info?.topics.events,
        },
        {
          name: "Visible", done: arrived, value: visible == null ? nothing : html`${format.duration(visible)} <span class="unit">later</span>`,
          note: arrived ? "in the read model" : kept ? "waiting for the projector" : "this read model keeps no outcomes", topic: live.info?.read_model,
        },
      ];
      const at = steps.findIndex((s) => !s.done);
      return html`
        <ol class="line journey" aria-label="The command's way">
          ${steps.map((s, i) => html`
            <li class="station" data-tone=${s.done ? "ok" : i === at ? "now" : "unknown"} ?data-flow=${i === at - 1 && given}>
              <h2>${s.name}${s.done ? html`<span class="visually-hidden">: done</span>` : nothing}</h2>
              <p class="value">${s.value === nothing ? (s.done ? "✓" : "…") : s.value}</p>
              <p class="note">${s.note}</p>
              <p class="note id">${s.topic ?? ""}</p>
            </li>`)}
        </ol>
        ${problem ? html`<p class="notice" data-tone="warn" role="status">${problem.message}.${problem.status === 401 || problem.status === 403 ? nothing : " This page goes on asking."}</p>` : nothing}
        ${what(decided?.changes ?? (outcome ? [outcome] : []), decided?.count)}`;
    },
  };
}

// what says what was decided.
function what(changes, count) {
  if (changes.length === 0) return nothing;
  return html`<section class="card" role="status">
    <header><h2>What was decided</h2></header>
    <ol class="story">
      ${changes.map((c) => html`<li>
        ${badge(c.type)}
        <span class="what">${c.orderid ? html`${link("order", c.orderid)}: ` : nothing}${c.batch_qty === undefined ? plain(c) : sentence(c)}</span>
        <span class="note">${link("sku", c.sku)} v${c.version}</span>
        ${time(c.event_time)}
      </li>`)}
    </ol>
    ${count > changes.length ? html`<p class="note">and ${format.count(count - changes.length)} more</p>` : nothing}
  </section>`;
}

// plain says it of an outcome, which has no quantities.
function plain(o) {
  if (o.message || o.reason) return o.message || o.reason;
  return o.batchref ? html`batch <b class="id">${o.batchref}</b>` : "no batch has that many";
}

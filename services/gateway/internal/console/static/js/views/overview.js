// The overview: the pipeline as a line of stations, and how its numbers went in the last minutes.
import { html, nothing, route, badge, legend, command, empty, link } from "../ui.js";
import { live, latest, onSample } from "../live.js";
import * as format from "../format.js";

const minutes = 10;
const recentMax = 10;

export function overview(_, update) {
  let recent = [];
  let hover = null;
  const stop = onSample((sample) => {
    if (sample?.recent.length) recent = [...sample.recent.toReversed(), ...recent].slice(0, recentMax);
    update();
  });
  for (const sample of live.samples.slice(-60)) recent = [...sample.recent.toReversed(), ...recent].slice(0, recentMax);

  return {
    title: "Overview",
    stop,
    template() {
      const now = latest();
      return html`
        <h1 class="visually-hidden">Overview</h1>
        ${line(now)}
        <div class="grid two">
          ${throughput(hover, (v) => { hover = v; update(); })}
          ${lag(now)}
          ${partitions(now)}
          ${events(now, recent)}
        </div>`;
    },
  };
}

function sum(lag) {
  return lag?.reduce((a, b) => a + b, 0);
}

// line shows the way of a command: where it is fast, and where something waits.
function line(now) {
  const waiting = (group) => (group ? html`${format.count(sum(group.lag))} <span class="unit">waiting</span>` : format.unknown);
  const members = (group) => {
    if (!group) return "not known";
    if (group.members === 0) return "nobody works here";
    return `${group.members} at work`;
  };
  const tone = (group) => (!group ? "unknown" : group.members === 0 ? "bad" : sum(group.lag) > 1000 ? "warn" : "ok");
  const stale = now?.outages.some((o) => o.component === live.info?.read_model);
  const stations = [
    { name: "Commands", flow: now?.commands, tone: now?.commands == null ? "unknown" : "ok",
      value: html`${format.rate(now?.commands)} <span class="unit">/s</span>`, note: "sent by shops and systems" },
    { name: "Allocator", flow: now?.events, tone: tone(now?.allocators), value: waiting(now?.allocators), note: members(now?.allocators) },
    { name: "Events", flow: now?.events, tone: now ? "ok" : "unknown",
      value: html`${format.rate(now?.events)} <span class="unit">/s</span>`,
      note: now?.decision ? `decided in ${format.duration(now.decision.p50)}` : "what was decided" },
    ...(live.info?.projectors === "" ? [] : [{ name: "Projector", flow: now?.events, tone: tone(now?.projectors), value: waiting(now?.projectors), note: members(now?.projectors) }]),
    { name: "Read model", tone: stale ? "bad" : now?.unprojected == null ? "unknown" : now.unprojected > 5000 ? "warn" : "ok",
      value: stale ? "away" : now?.unprojected === 0 ? "up to date" : now?.unprojected == null ? format.unknown
        : html`${format.duration(now.unprojected)} <span class="unit">behind</span>`,
      note: live.info?.read_model ?? "not known" },
  ];
  return html`
    <section aria-label="The pipeline now">
      <ol class="line">
        ${stations.map((s) => html`
          <li class="station" data-tone=${s.tone} ?data-flow=${s.flow > 0}>
            <h2>${s.name}</h2>
            <p class="value">${s.value}</p>
            <p class="note">${s.note}</p>
          </li>`)}
      </ol>
    </section>`;
}

// columns returns values of each sample by time, with a gap (null) where the page saw nothing. An undefined value is drawn
// over.
function columns(...of) {
  const times = [];
  const values = of.map(() => []);
  let before = 0;
  for (const [i, s] of live.samples.entries()) {
    if (before && s.time - before > 5000) {
      times.push(before / 1000 + 1);
      values.forEach((v) => v.push(null));
    }
    before = s.time;
    times.push(s.time / 1000);
    of.forEach((fn, column) => values[column].push(fn(s, i)));
  }
  return [times, ...values];
}

// The time axis grows with what there is to show.
const range = (min, max) => [Math.max(max - minutes * 60, Math.min(min, max - 60)), max];

function throughput(hover, onHover) {
  const now = latest();
  const at = hover ? { commands: hover[1], events: hover[2], dead: hover[3] } : { commands: now?.commands, events: now?.events, dead: now?.dead_letters };
  const spec = {
    data: columns((s) => s.commands, (s) => s.events, (s) => s.dead_letters),
    series: [
      { label: "commands", color: "--c-commands", fill: true }, { label: "events", color: "--c-events" }, { label: "dead letters", color: "--c-dead" },
    ],
    format: format.rate, height: 210, range,
    label: `Throughput of the last ${minutes} minutes: now ${format.rate(now?.commands)} commands and ${format.rate(now?.events)} events a second`,
  };
  return html`<section class="card">
    <header><h2>Throughput</h2><p class="note">${hover ? `at ${format.at(hover[0] * 1000)}` : "a second"}</p></header>
    ${legend(["commands", "commands", format.rate(at.commands)], ["events", "events", format.rate(at.events)], ["dead", "dead letters", format.rate(at.dead)])}
    <lot-chart .spec=${spec} @lot-hover=${(e) => onHover(e.detail)}></lot-chart>
  </section>`;
}

// behind is the most that the read model was behind in the last seconds: up to date at one moment and not at the next is how it
// always is.
const behindOver = 5;

function behind(i) {
  if (live.samples[i].unprojected == null) return null;
  const last = live.samples.slice(Math.max(0, i - behindOver + 1), i + 1);
  return Math.max(1, ...last.map((s) => s.unprojected ?? 0)); // the axis has no 0
}

function lag(now) {
  const last = live.samples.findLast((s) => s.decision)?.decision;
  const spec = {
    data: columns((s) => s.decision?.p50, (s) => s.decision?.p95, (_, i) => behind(i)),
    series: [
      { label: "half", color: "--c-commands", fill: true }, { label: "95 of 100", color: "--c-events" },
      { label: "read model behind", color: "--c-behind", dash: [4, 3] },
    ],
    format: format.duration, height: 210, range, log: true,
    label: `End-to-end lag of the last ${minutes} minutes: half of the commands are decided within ${format.duration(last?.p50)}`,
  };
  return html`<section class="card">
    <header><h2>End-to-end lag</h2><p class="note">from a command's append</p></header>
    ${legend(["commands", "half decided in", format.duration(last?.p50)], ["events", "95 % in", format.duration(last?.p95)],
      ["behind", "read model behind", now?.unprojected === 0 ? "none" : format.duration(now?.unprojected)])}
    <lot-chart .spec=${spec}></lot-chart>
  </section>`;
}

// partitions shows what waits, by partition: one that stands out is one that is stuck.
function partitions(now) {
  const bars = (name, group, topic) => {
    if (!group) return html`<p class="note">${name}: not known</p>`;
    const most = Math.max(1, ...group.lag);
    return html`<figure class="bars" ?data-idle=${sum(group.lag) === 0}>
      <figcaption><b>${name}</b> <span class="note">${format.count(sum(group.lag))} waiting in ${topic}</span></figcaption>
      <ol>${group.lag.map((n, i) => html`
        <li aria-label=${`Partition ${i}: ${format.count(n)} waiting`} title=${`Partition ${i}: ${format.count(n)} waiting`}>
          <svg viewBox="0 0 10 60" preserveAspectRatio="none" aria-hidden="true"><rect width="10" height=${(60 * n) / most} y=${60 - (60 * n) / most}></rect></svg>
          <span class="n" aria-hidden="true">${n > 0 ? format.count(n) : ""}</span>
          <span class="p" aria-hidden="true">${i}</span>
        </li>`)}</ol>
    </figure>`;
  };
  return html`<section class="card">
    <header><h2>Consumer lag</h2><p class="note">records, by partition</p></header>
    ${bars("Allocator", now?.allocators, live.info?.topics.commands)}
    ${live.info?.projectors === "" ? nothing : bars("Projector", now?.projectors, live.info?.topics.events)}
  </section>`;
}

function events(now, recent) {
  return html`<section class="card">
    <header><h2>Just decided</h2><p class="note">a few of the newest events</p></header>
    ${recent.length === 0
      ? !now ? html`<p class="note">not known</p>` : empty("Nothing is happening", html`<p>Send a command from the <a href=${route("send")}>Send</a> page, or from a terminal:</p>`,
        command(`echo '{"type":"CreateBatch","ref":"b-1","sku":"GREEN-CHAIR","qty":10,"eta":null}' | bin/lotline send -`))
      : html`<ol class="feed">${recent.map((e) => html`
        <li>${badge(e.type)}
          <span class="what">${e.qty ? html`<b>${format.count(e.qty)}</b> × ` : nothing}${link("sku", e.sku)}${e.orderid ? html` for ${link("order", e.orderid)}` : e.batchref ? html` in <span class="id">${e.batchref}</span>` : nothing}</span>
          <time class="note" datetime=${new Date(e.time).toISOString()}>${format.at(e.time)}</time></li>`)}</ol>`}
  </section>`;
}

// Sending a command, and watching it travel. The form sends what any client would: POST /commands.
import { html, nothing, route, link, command as shell } from "../ui.js";
import { send as request, Problem } from "../api.js";
import { journey } from "../journey.js";

const qtyMax = 1_000_000_000;
const idMax = 255; // bytes, which the gateway checks

const kinds = {
  Allocate: { name: "Allocate an order line", fields: ["orderid", "sku", "qty"], says: "The line gets a batch, whole: from stock if it can, else the one that arrives first." },
  CreateBatch: { name: "Create a batch", fields: ["ref", "sku", "qty", "eta"], says: "Stock, or with a date a shipment on its way." },
  ChangeBatchQuantity: { name: "Change a batch's quantity", fields: ["ref", "sku", "qty"], says: "Sets what was purchased. Lines that no longer fit move to other batches, newest first." },
  Deallocate: { name: "Deallocate an order line", fields: ["orderid", "sku"], says: "Gives the units back to their batch." },
};

const fields = {
  orderid: { label: "Order", hint: "order-1" },
  ref: { label: "Batch reference", hint: "batch-1" },
  sku: { label: "SKU", hint: "GREEN-CHAIR" },
  qty: { label: "Quantity, in units", hint: "3", type: "number" },
  eta: { label: "Arrives on (nothing: it is in stock)", type: "date", optional: true },
};

export function send({ query }, update) {
  let kind = Object.hasOwn(kinds, query.type ?? "") ? query.type : "Allocate";
  const values = { orderid: query.order ?? "", sku: query.sku ?? "", ref: query.ref ?? "", qty: "1", eta: "" };
  let sending = false;
  let fault = null;
  let way = null; // of the command that was sent last
  let sent = null;
  const before = []; // the ones before it

  async function submit(event) {
    event.preventDefault();
    if (sending) return;
    const body = { type: kind };
    for (const field of kinds[kind].fields) body[field] = field === "qty" ? Number(values.qty) : field === "eta" ? values.eta || null : values[field];
    sending = true;
    fault = null;
    update();
    const began = performance.now();
    try {
      const response = await request("/commands", {
        method: "POST", body: `${JSON.stringify(body)}\n`, headers: { "Content-Type": "application/x-ndjson", Prefer: "respond-async" },
      });
      const ms = performance.now() - began;
      const text = await response.text();
      let answer = {};
      try {
        answer = JSON.parse(text.trim());
      } catch {
        // Not the gateway's own answer, but a proxy's.
      }
      const status = answer.line ? answer.status : response.status;
      if (status >= 300) throw new Problem(status, answer.message ?? answer.detail ?? `The answer is ${status}`);
      way?.stop();
      if (sent) before.unshift(sent);
      before.splice(5);
      sent = { id: answer.commandid, body };
      way = journey(answer.commandid, update, { status, ms });
    } catch (err) {
      fault = err instanceof Problem ? err.message : "The gateway does not answer. The command may have been sent: look before you send it again.";
    }
    sending = false;
    update();
  }

  return {
    title: "Send a command",
    stop() {
      way?.stop();
    },
    template() {
      return html`
        <header class="page"><h1>Send a command</h1></header>
        <form class="card send" @submit=${submit}>
          <fieldset class="kinds"><legend>What should happen?</legend>
            ${Object.entries(kinds).map(([value, k]) => html`
              <label><input type="radio" name="kind" value=${value} .checked=${value === kind} @change=${() => { kind = value; update(); }}> ${k.name}</label>`)}
          </fieldset>
          <p class="note">${kinds[kind].says}</p>
          <div class="fields">${Object.keys(fields).map((name) => field(name, kinds[kind].fields.includes(name)))}</div>
          ${fault ? html`<p class="notice" data-tone="bad" role="alert">${fault}</p>` : nothing}
          <button ?disabled=${sending}>${sending ? "Sending …" : "Send it"}</button>
        </form>
        ${way ? html`
          <section aria-labelledby="way">
            <h2 id="way">${kinds[sent.body.type].name}: ${link("command", sent.id)}</h2>
            ${way.template()}
          </section>` : html`<section class="empty"><h2>Here you will see it travel</h2>
            <p>A command is accepted by Kafka, decided by the allocator, and visible once it is projected. Each hop appears as it happens, with the time that it took. The same from a terminal:</p>
            ${shell(`curl -si ${location.origin}/allocate -H 'Content-Type: application/json' -d '{"orderid":"order-1","sku":"GREEN-CHAIR","qty":3}'`)}
          </section>`}
        ${before.length ? html`<section><h2>Before that</h2><ul class="hits">${before.map((b) => html`
          <li><a href=${route("command", b.id)}><span class="kind">${b.body.type}</span> <span class="id">${b.id}</span></a></li>`)}</ul></section>` : nothing}`;
    },
  };

  // Every field is there all the time: an input that became another one would keep what was typed into the first.
  function field(name, wanted) {
    const f = fields[name];
    const number = f.type === "number";
    return html`<div ?hidden=${!wanted}>
      <label for=${`f-${name}`}>${f.label}</label>
      <input id=${`f-${name}`} name=${name} type=${f.type ?? "text"} ?required=${!f.optional} ?disabled=${!wanted} maxlength=${f.type ? nothing : idMax} placeholder=${f.hint ?? nothing}
        min=${number ? (kind === "ChangeBatchQuantity" ? 0 : 1) : f.type === "date" ? "1970-01-01" : nothing} max=${number ? qtyMax : f.type === "date" ? "2299-12-31" : nothing}
        autocomplete="off" spellcheck="false" .value=${values[name]} @input=${(e) => { values[name] = e.target.value; }}>
    </div>`;
  }
}

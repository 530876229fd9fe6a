// A command: its way through the pipeline, and what became of it.
import { html, empty, route, loading, failed, command as shell } from "../ui.js";
import { journey } from "../journey.js";

export function command({ id }, update) {
  const way = journey(id, update);
  return {
    title: id,
    stop: way.stop,
    template() {
      const known = way.state && (way.state.sent || way.state.decided || way.state.outcome);
      return html`
        <header class="page"><p class="kind">Command</p><h1 class="id">${id}</h1></header>
        ${known ? way.template() : way.problem ? failed(way.problem, update) : !way.state ? loading(id) : unknown(way.state.kept)}`;
    },
  };

  function unknown(kept) {
    return kept
      ? empty("No outcome of this command is known, or not yet", html`<p>Every command that could be read has one. This page looks again until it is there. What could not be read is a <a href=${route("dead-letters")}>dead letter</a>.</p>`)
      : empty("This read model keeps no outcomes", html`<p>With <code>--read-model=clickhouse</code> they are here; until then the events topic has them:</p>`, shell("bin/lotline tail events"));
  }
}

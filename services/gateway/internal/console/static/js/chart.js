// <lot-chart> draws a chart with uPlot: lines over time, in the colours of the page, as wide as there is room. Its property
// `spec` says what to draw:
//   {data: [times in s, values, …], series: [{label, color: "--name", fill?, step?, dash?}], format: number -> text,
//    height, label: what a person who does not see it is told, log?: true, days?: true where times are days of UTC}

const grid = "--line";
const text = "--muted";

const hms = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const parts = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1, hourCycle: "h23" });
const hm = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dm = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });

// Days are UTC's, wherever the person is who looks.
const day = 86_400;
const days = [1, 2, 7, 14, 28, 91, 182, 364, 728, 3640, 36_400].map((n) => n * day);
const utc = { tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "Etc/UTC") };
const dmy = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const dayTick = (t) => dmy.format(t * 1000);

// timeTick is a time in seconds, as exact as the distance to the next tick wants it.
function timeTick(t, step) {
  const time = t * 1000;
  return step >= 86_400 ? dm.format(time) : step >= 60 ? hm.format(time) : step >= 1 ? hms.format(time) : parts.format(time);
}

class Chart extends HTMLElement {
  #spec = null;
  #plot = null;
  #shape = "";
  #observer = new ResizeObserver(() => this.#fit());

  set spec(spec) {
    this.#spec = spec;
    this.setAttribute("role", "img");
    this.setAttribute("aria-label", spec.label);
    if (this.isConnected) this.#draw();
  }

  connectedCallback() {
    this.#observer.observe(this);
    document.addEventListener("lotline-theme", this.#redraw);
    if (this.#spec) this.#draw();
  }

  disconnectedCallback() {
    this.#observer.disconnect();
    document.removeEventListener("lotline-theme", this.#redraw);
    this.#drop();
  }

  #redraw = () => {
    this.#drop();
    this.#draw();
  };

  #drop() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#shape = "";
  }

  #color(name, alpha) {
    this.style.color = alpha ? `color-mix(in srgb, var(${name}) ${alpha}%, transparent)` : `var(${name})`;
    const color = getComputedStyle(this).color;
    this.style.color = "";
    return color;
  }

  #fit() {
    if (this.#plot && this.clientWidth) this.#plot.setSize({ width: this.clientWidth, height: this.#spec.height });
  }

  #draw() {
    const spec = this.#spec;
    if (!spec || !this.clientWidth) return;
    const shape = JSON.stringify([spec.series, spec.log, spec.height]);
    if (this.#plot && shape === this.#shape) {
      this.#plot.setData(spec.data);
      return;
    }
    this.#drop();
    this.#shape = shape;
    const axis = {
      stroke: this.#color(text), font: "11px system-ui, sans-serif", ticks: { show: false }, gap: 6,
      grid: { stroke: this.#color(grid), width: 1 },
    };
    const decades = (_, ticks) => ticks.map((v) => (Number.isInteger(Math.log10(v)) ? v : null));
    this.#plot = new uPlot({
      width: this.clientWidth,
      height: spec.height,
      padding: [10, spec.days ? 40 : 8, 0, 0],
      ...(spec.days ? utc : {}),
      legend: { show: false },
      cursor: { show: true, points: { size: 6 }, drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: (_, min, max) => (this.#spec.range ? this.#spec.range(min, max) : min === max ? [min - 60, max + 60] : [min, max]) },
        y: spec.log
          ? { distr: 3, range: (_, min, max) => [Math.min(1, min || 1), Math.max(100, (max || 100) * 1.5)] }
          : { range: (_, __, max) => [0, Math.max(1, (max || 0) * 1.15)] },
      },
      axes: [
        { ...axis, ...(spec.days ? { incrs: days } : {}), space: 80, size: 34, values: (_, ticks) => ticks.map((t, i) => (spec.days ? dayTick : timeTick)(t, ticks[i + 1] ? ticks[i + 1] - t : ticks.length > 1 ? t - ticks[i - 1] : 60)) },
        { ...axis, ...(spec.log ? { filter: decades, grid: { ...axis.grid, filter: decades } } : {}), size: 56, space: 32, values: (_, ticks) => ticks.map((v) => (v == null ? "" : spec.format(v))) },
      ],
      series: [
        {},
        ...spec.series.map((s) => ({
          label: s.label,
          stroke: this.#color(s.color),
          width: s.width ?? 1.75,
          dash: s.dash,
          fill: s.fill ? this.#color(s.color, 14) : undefined,
          paths: s.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: Boolean(s.points), size: 5 },
          spanGaps: false,
        })),
      ],
      hooks: { setCursor: [(plot) => this.#hover(plot)] },
    }, spec.data, this);
  }

  // hover tells whoever shows the chart which values the pointer is at.
  #hover(plot) {
    const i = plot.cursor.idx;
    this.dispatchEvent(new CustomEvent("lot-hover", { detail: i == null || plot.cursor.left < 0 ? null : plot.data.map((column) => column[i]) }));
  }
}

customElements.define("lot-chart", Chart);

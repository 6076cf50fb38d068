// Live curves: <live-plots> draws the figures inside it with uPlot and keeps them growing.
// Without this script the figures hold an SVG and the last values, drawn by the server.
//
// A table is {steps: [...], columns: {name: [...]}}. Tables come from the address in `src` once, and
// from "rows" events of the stream around the element; rows that are not news are dropped, so that a
// stream may tell again what it told before.
import { toast } from "./app.js";
import "./log.js";

const SMOOTHING = 0.9; // weight of what was before, corrected for the beginning
const NOISY_FROM = 30; // values; a shorter course is drawn as it is, its end where the legend says
const RAW_ALPHA = 0.28;
const NOISE = 1e-9; // below it, a number of a run is rounding
const HEIGHT = 148;
const FONT = 11; // whole pixels: fractions are drawn too small on dense screens
const WHOLE = [1, 2, 2.5, 5]
  .flatMap((digit) => [...Array(9).keys()].map((power) => digit * 10 ** power))
  .filter(Number.isInteger)
  .sort((a, b) => a - b);
const CLOCK = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 604800];
const INCREMENTS = { plain: WHOLE, seconds: CLOCK };
const language = document.documentElement.lang || "en";

const formats = {
  plain: (value) => {
    if (Math.abs(value) < NOISE) return "0";
    return Math.abs(value) >= 10000 ? number(value, { notation: "compact", maximumFractionDigits: 1 }) : small(value);
  },
  percent: (value) => number(value, { style: "percent", maximumSignificantDigits: 3 }),
  bytes: (value) => {
    for (const [unit, factor] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
      if (value >= factor) return `${small(value / factor)} ${unit}`;
    }
    return `${Math.round(value)} B`;
  },
  seconds: (value) => {
    const whole = Math.round(value);
    const two = (part) => String(part).padStart(2, "0");
    const minutes = `${Math.floor((whole % 3600) / 60)}`;
    return whole >= 3600
      ? `${Math.floor(whole / 3600)}:${two(minutes)}:${two(whole % 60)}`
      : `${minutes}:${two(whole % 60)}`;
  },
};

function number(value, options) {
  return new Intl.NumberFormat(language, options).format(value).replace("-", "−");
}

function small(value) {
  if (value !== 0 && Math.abs(value) < 1e-4) return Number(value.toPrecision(3)).toExponential().replaceAll("-", "−");
  return number(value, { maximumSignificantDigits: 3 });
}

/** Numbers over steps of one run; smoothed courses are kept beside them. */
class Table {
  steps = [];
  columns = new Map();
  #smooth = new Map();

  get last() {
    return this.steps.length ? this.steps[this.steps.length - 1] : -Infinity;
  }

  /** Takes in the rows that are news; whether there were any. */
  add({ steps, columns }) {
    const names = Object.keys(columns);
    for (const name of names) {
      if (!this.columns.has(name)) this.columns.set(name, new Array(this.steps.length).fill(null));
    }
    let news = false;
    for (let row = 0; row < steps.length; row++) {
      if (!(steps[row] > this.last)) continue;
      this.steps.push(steps[row]);
      for (const [name, column] of this.columns) column.push(columns[name]?.[row] ?? null);
      news = true;
    }
    return news;
  }

  column(name) {
    return this.columns.get(name) ?? new Array(this.steps.length).fill(null);
  }

  /** The exponential moving average of a long column, grown where it ended before. */
  smooth(name) {
    let state = this.#smooth.get(name);
    if (!state) this.#smooth.set(name, (state = { values: [], mean: 0, weight: 0, count: 0 }));
    const column = this.column(name);
    for (let row = state.values.length; row < column.length; row++) {
      const value = column[row];
      if (value !== null) {
        state.mean = SMOOTHING * state.mean + (1 - SMOOTHING) * value;
        state.weight = SMOOTHING * state.weight + (1 - SMOOTHING);
        state.count++;
      }
      state.values.push(value === null ? null : state.mean / state.weight);
    }
    return state.count < NOISY_FROM ? column : state.values;
  }
}

/** One figure: its legend, its lines and its drawing. */
class Plot {
  constructor(figure, owner) {
    this.figure = figure;
    this.owner = owner;
    this.lines = JSON.parse(figure.dataset.lines);
    this.format = formats[figure.dataset.form] ?? formats.plain;
    this.xFormat = formats[figure.dataset.xForm] ?? formats.plain;
    this.room = figure.querySelector("[data-room]");
    this.swatches = [...figure.querySelectorAll("[data-swatch]")];
    this.values = [...figure.querySelectorAll("[data-value]")];
    this.readColours();
  }

  /** Resolved colours; a custom property with light-dark() would come back unresolved. */
  readColours() {
    this.colours = this.swatches.map((swatch) => getComputedStyle(swatch).color);
    const style = getComputedStyle(this.figure.querySelector("[data-ink]"));
    this.ink = style.color;
    this.grid = style.borderTopColor;
    this.font = `${FONT}px ${style.fontFamily}`;
  }

  get data() {
    const parts = [];
    for (const { table, name, smooth } of this.lines) {
      const found = this.owner.table(table);
      const columns = smooth ? [found.column(name), found.smooth(name)] : [found.column(name)];
      const last = parts[parts.length - 1];
      if (last && last.table === table) last.columns.push(...columns);
      else parts.push({ table, columns: [found.steps, ...columns] });
    }
    if (parts.length === 1) return parts[0].columns;
    return uPlot.join(parts.map((part) => part.columns));
  }

  /** Place of a line's raw values in the data. */
  place(line) {
    return 1 + this.lines.slice(0, line).reduce((sum, { smooth }) => sum + (smooth ? 2 : 1), 0);
  }

  series() {
    const found = [{}];
    this.lines.forEach(({ smooth, dots }, line) => {
      const stroke = () => this.colours[line];
      if (smooth) {
        found.push({ stroke, width: 1, alpha: RAW_ALPHA, spanGaps: true, points: { show: false } });
        const points = { show: (plot, series) => lone(plot.data[series]), size: 5, fill: stroke, stroke };
        found.push({ stroke, width: 1.75, spanGaps: true, points });
      } else {
        const show = (plot, series) => lone(plot.data[series]) || (dots && few(plot.data[series]));
        found.push({ stroke, width: 1.75, spanGaps: true, points: { show, size: 5, fill: stroke, stroke } });
      }
    });
    return found;
  }

  draw() {
    const axis = { stroke: () => this.ink, font: this.font, ticks: { show: false } };
    const grid = { stroke: () => this.grid, width: 1 };
    this.room.replaceChildren();
    this.plot = new uPlot(
      {
        width: Math.max(160, this.room.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        padding: [8, 18, 0, 0],
        scales: { x: { time: false, range: course }, y: { range: room } },
        axes: [
          { ...axis, size: 22, gap: 4, space: 64, incrs: INCREMENTS[this.figure.dataset.xForm], grid: { show: false }, values: (_, at) => at.map(this.xFormat) },
          { ...axis, size: 46, gap: 6, space: 34, grid, values: (plot, at) => at.map((value) => (filled(plot) ? this.format(value) : "")) },
        ],
        series: this.series(),
        cursor: {
          y: false,
          points: { size: 6, width: 0 },
          drag: { x: true, y: false, dist: 4 },
          sync: { key: this.owner.key },
        },
        hooks: {
          setCursor: [() => this.tell()],
          setScale: [(_, name) => name === "x" && this.owner.scaled(this)],
        },
      },
      this.data,
      this.room,
    );
    this.tell();
  }

  /** Whether a part of the steps is looked at. */
  get zoomed() {
    const { min, max } = this.plot.scales.x;
    const steps = this.plot.data[0];
    return steps.length > 1 && (min > steps[0] || max < steps[steps.length - 1]);
  }

  renew() {
    if (!this.plot) return this.draw();
    const { min, max } = this.plot.scales.x;
    const zoomed = this.owner.zoomed;
    this.plot.batch(() => {
      this.plot.setData(this.data, !zoomed);
      if (zoomed) this.plot.setScale("x", { min, max });
    });
    this.tell();
  }

  /** Writes the values under the cursor, or the newest ones, into the legend. */
  tell() {
    if (!this.plot) return;
    const { idx } = this.plot.cursor;
    this.lines.forEach((_, line) => {
      const column = this.plot.data[this.place(line)];
      let at = idx ?? column.length - 1;
      while (at > 0 && (column[at] === null || column[at] === undefined)) at--;
      const value = column[at];
      this.values[line].textContent = value === null || value === undefined ? "–" : this.format(value);
    });
    if (idx !== null && idx !== undefined) this.owner.at(this.xFormat(this.plot.data[0][idx]));
    else this.owner.at(null);
  }

  resize() {
    const width = Math.max(160, this.room.clientWidth);
    if (this.plot && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }
}

/** The range of the steps; a first one alone has room for the next. */
function course(_, low, high) {
  if (low === null) return [0, 1];
  return low === high ? [low, low + 1] : [low, high];
}

/** The range of an axis; where all values are the same, it lies around them. */
function room(_, low, high) {
  if (low === null || Math.max(Math.abs(low), Math.abs(high)) < NOISE) return [0, 1];
  if (low !== high) return uPlot.rangeNum(low, high, 0.1, true);
  const around = Math.abs(low) * 0.1 || 0.5;
  return [low === 0 ? 0 : low - around, low + around * (low === 0 ? 2 : 1)];
}

/** Whether a column holds one number only, which no line shows. */
function lone(column) {
  return column.reduce((count, value) => count + (value !== null && value !== undefined), 0) === 1;
}

function few(column) {
  let seen = 0;
  for (const value of column) {
    if (value !== null && value !== undefined && ++seen > 60) return false;
  }
  return true;
}

/** Whether a plot has any value; without one, the numbers beside its axis would say nothing. */
function filled(plot) {
  return plot.data.some((column, place) => place > 0 && column.some((value) => value !== null && value !== undefined));
}

let count = 0;

class LivePlots extends HTMLElement {
  key = `plots-${count++}`;
  zoomed = false;
  #tables = new Map();
  #waiting = [];
  #ready = false;
  #frame = 0;
  #scaling = false;

  connectedCallback() {
    this.plots = [...this.querySelectorAll("figure[data-lines]")].map((figure) => new Plot(figure, this));
    this.place = this.querySelector("[data-place]");
    this.reset = this.querySelector("[data-reset]");
    this.reset?.addEventListener("click", () => this.#whole());
    this.observer = new ResizeObserver(() => this.plots.forEach((plot) => plot.resize()));
    this.observer.observe(this);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => {
      for (const plot of this.plots) {
        plot.readColours();
        plot.plot?.redraw(false);
      }
    };
    this.theme.addEventListener("change", this.recolour);
    this.attributes_ = new MutationObserver(this.recolour);
    this.attributes_.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    elements.add(this);
    this.#load();
  }

  disconnectedCallback() {
    elements.delete(this);
    this.observer.disconnect();
    this.attributes_.disconnect();
    this.theme.removeEventListener("change", this.recolour);
    cancelAnimationFrame(this.#frame);
    for (const plot of this.plots) plot.plot?.destroy();
  }

  table(key) {
    if (!this.#tables.has(key)) this.#tables.set(key, new Table());
    return this.#tables.get(key);
  }

  /** Rows of a stream; those that come before the history wait for it. */
  take(tables) {
    if (!this.#ready) return this.#waiting.push(tables);
    let news = false;
    for (const [key, table] of Object.entries(tables)) news = this.table(key).add(table) || news;
    if (news && !this.#frame) {
      this.#frame = requestAnimationFrame(() => {
        this.#frame = 0;
        this.plots.forEach((plot) => plot.renew());
      });
    }
  }

  async #load() {
    try {
      const answer = await fetch(this.getAttribute("src"), { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const { tables } = await answer.json();
      for (const [key, table] of Object.entries(tables)) this.table(key).add(table);
    } catch {
      toast(document.getElementById("words")?.dataset.failed ?? "");
    }
    this.#ready = true;
    await document.fonts?.ready;
    if (!this.isConnected) return;
    this.plots.forEach((plot) => plot.draw());
    for (const tables of this.#waiting.splice(0)) this.take(tables);
    this.dataset.drawn = "";
  }

  /** The step under the cursor, or none. */
  at(step) {
    if (this.place) this.place.textContent = step === null ? "" : this.place.dataset.words.replace("{}", step);
  }

  /** A plot was zoomed: all others look at the same steps. */
  scaled(plot) {
    if (this.#scaling || !plot.plot) return;
    this.#scaling = true;
    const { min, max } = plot.plot.scales.x;
    this.zoomed = plot.zoomed;
    for (const other of this.plots) {
      if (other !== plot && other.plot && this.zoomed) other.plot.setScale("x", { min, max });
    }
    if (this.reset) this.reset.hidden = !this.zoomed;
    this.#scaling = false;
  }

  #whole() {
    this.zoomed = false;
    for (const { plot } of this.plots) {
      const steps = plot.data[0];
      if (steps.length) plot.setScale("x", { min: steps[0], max: steps[steps.length - 1] });
    }
    if (this.reset) this.reset.hidden = true;
  }
}

// Listening from before htmx starts: the first rows of a stream would be lost otherwise.
const elements = new Set();
document.addEventListener("rows", (event) => {
  const tables = JSON.parse(event.detail.data);
  for (const element of elements) {
    if (event.target.contains(element)) element.take(tables);
  }
});

customElements.define("live-plots", LivePlots);

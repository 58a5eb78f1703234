"use strict";
// Interactive plots of one run: `Plots.build(container, data)`. The data is that of page/plots.py.
const Plots = (() => {
  const COLOURS = 6;
  const HELP = "Drag to zoom, double-click to show all. With the keyboard: arrow keys, + and -, Esc.";
  const FAR = 1.5; // in heights of the curve
  const built = new Set();
  let logarithmic = false;

  const element = (name, attributes = {}, ...content) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...content);
    return made;
  };
  const swatch = (colour, kind) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 18 10");
    svg.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS("http://www.w3.org/2000/svg", kind === "points" ? "circle" : "line");
    const place = kind === "points" ? { cx: 9, cy: 5, r: 3.5 } : { x1: 0, x2: 18, y1: 5, y2: 5 };
    for (const [key, value] of Object.entries(place)) shape.setAttribute(key, value);
    svg.append(shape);
    paint.push(() => {
      shape.setAttribute(kind === "points" ? "fill" : "stroke", Page.colour(colour));
      shape.setAttribute("stroke-width", kind === "raw" ? 1.5 : 2.5);
    });
    paint[paint.length - 1]();
    return svg;
  };
  const paint = []; // what follows the theme

  const short = (value) => {
    if (value === null || value === undefined) return "-";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
    return String(Number(value.toPrecision(4)));
  };
  const tick = (value) => {
    if (value === null || value === undefined) return "";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-3) return value.toExponential().replace("e+", "e");
    return String(Number(value.toPrecision(6)));
  };
  const grouped = (step) => String(step).replace(/\B(?=(\d{3})+$)/g, ",");

  // Steps are sent as differences.
  const decode = (series) => {
    let step = 0;
    const x = series.x.map((difference) => (step += difference));
    return { ...series, x, bad: series.bad || [] };
  };
  const valueAt = (series, step) => {
    for (const [first, last, text] of series.bad) if (first <= step && step <= last) return text;
    let low = 0;
    let high = series.x.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (series.x[middle] <= step) low = middle;
      else high = middle - 1;
    }
    const known = series.x[low] === step || (!series.exact && series.x[low] < step && step < series.x[series.x.length - 1]);
    return known ? short(series.y[low]) : "-";
  };

  const axis = (more) => ({
    stroke: () => Page.colour("--muted"),
    grid: { stroke: () => Page.colour("--grid"), width: 1 },
    ticks: { stroke: () => Page.colour("--grid"), width: 1, size: 4 },
    font: "11px system-ui, sans-serif",
    ...more,
  });

  const scaleOf = (panel) => {
    const values = panel.series.flatMap((one) => one.y).filter((value) => value !== null);
    const positive = values.length && values.every((value) => value > 0);
    if (!logarithmic) {
      // A level far away would flatten the curve; it is named at the edge instead.
      const [lowest, highest] = [Math.min(...values), Math.max(...values)];
      const near = (panel.levels || []).map((level) => level.y).filter((y) => y > lowest - FAR * (highest - lowest) && y < highest + FAR * (highest - lowest));
      return {
        range: (plot, low, high) => {
          if (low === null) return [0, 1];
          for (const y of near) [low, high] = [Math.min(low, y), Math.max(high, y)];
          const pad = (high - low || Math.abs(high) || 1) * 0.06;
          return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
        },
      };
    }
    return positive ? { distr: 3, log: 10 } : { distr: 4, asinh: Math.max(...values.map(Math.abs), 1e-9) / 1e3 };
  };

  // Spans lie below the lines.
  const below = (panel) => (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const span of panel.spans || []) {
      const left = plot.valToPos(span.from, "x", true);
      const right = Math.max(plot.valToPos(span.to, "x", true), left + 2 * devicePixelRatio);
      ctx.fillStyle = Page.colour(`--${span.kind}`);
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
    ctx.restore();
  };

  // Marks, levels and values that are not finite lie above the lines.
  const above = (panel, marks, named) => (plot) => {
    const { ctx, bbox } = plot;
    const pixel = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = `${11 * pixel}px system-ui, sans-serif`;
    ctx.lineWidth = pixel;
    for (const span of panel.spans || []) {
      if (span.y === null) continue;
      const y = plot.valToPos(span.y, "y", true);
      const [left, right] = [span.from, span.to].map((step) => plot.valToPos(step, "x", true));
      ctx.strokeStyle = Page.colour(span.kind === "low" ? "--series-3" : "--series-2");
      ctx.lineWidth = 2 * pixel;
      line(ctx, left, y, Math.max(right, left + 2 * pixel), y);
      ctx.lineWidth = pixel;
    }
    const taken = [];
    const beside = (y) => {
      let at = y + (y - bbox.top < 16 * pixel ? 13 : -4) * pixel;
      while (taken.some((other) => Math.abs(other - at) < 12 * pixel)) at += (y - bbox.top < bbox.height / 2 ? 12 : -12) * pixel;
      taken.push(at);
      return at;
    };
    for (const level of panel.levels || []) {
      const y = plot.valToPos(level.y, "y", true);
      const { min, max } = plot.scales.y;
      if (level.y > max || level.y < min) {
        const [arrow, edge] = level.y > max ? ["↑", bbox.top] : ["↓", bbox.top + bbox.height];
        write(ctx, `${arrow} ${level.text}`, bbox.left + bbox.width - 4 * pixel, beside(edge), "right");
        continue;
      }
      ctx.strokeStyle = Page.colour("--edge");
      ctx.setLineDash([6 * pixel, 4 * pixel]);
      line(ctx, bbox.left, y, bbox.left + bbox.width, y);
      ctx.setLineDash([]);
      write(ctx, level.text, bbox.left + bbox.width - 4 * pixel, beside(y), "right");
    }
    let row = 0;
    let free = -Infinity;
    for (const mark of marks) {
      const x = Math.round(plot.valToPos(mark.x, "x", true)) + 0.5;
      if (x < bbox.left || x > bbox.left + bbox.width + 1) continue;
      ctx.strokeStyle = Page.colour(mark.kind === "verdict" ? "--series-2" : "--edge");
      ctx.setLineDash(mark.kind === "evidence" ? [2 * pixel, 3 * pixel] : mark.kind === "stage" ? [] : [5 * pixel, 3 * pixel]);
      line(ctx, x, bbox.top, x, bbox.top + bbox.height);
      ctx.setLineDash([]);
      if (!named) continue;
      const width = ctx.measureText(mark.text).width;
      row = x < free ? row + 1 : 0;
      const flip = x + width + 8 * pixel > bbox.left + bbox.width;
      free = Math.max(free, x + width + 12 * pixel);
      write(ctx, mark.text, x + (flip ? -4 : 4) * pixel, bbox.top + (12 + 14 * row) * pixel, flip ? "right" : "left");
    }
    ctx.strokeStyle = Page.colour("--unstable");
    ctx.lineWidth = 1.6 * pixel;
    for (const series of panel.series) {
      for (const [first, last] of series.bad) {
        for (const step of first === last ? [first] : [first, last]) {
          const size = 4 * pixel;
          const x = Math.min(Math.max(plot.valToPos(step, "x", true), bbox.left + size), bbox.left + bbox.width - size);
          const y = bbox.top + bbox.height - 9 * pixel;
          line(ctx, x - size, y - size, x + size, y + size);
          line(ctx, x - size, y + size, x + size, y - size);
        }
      }
    }
    ctx.restore();
  };
  const line = (ctx, x1, y1, x2, y2) => {
    ctx.beginPath();
    ctx.moveTo(x1, y1);
    ctx.lineTo(x2, y2);
    ctx.stroke();
  };
  const write = (ctx, text, x, y, align) => {
    ctx.textAlign = align;
    ctx.lineJoin = "round";
    ctx.lineWidth = 3 * devicePixelRatio;
    ctx.strokeStyle = Page.colour("--card");
    ctx.strokeText(text, x, y);
    ctx.fillStyle = Page.colour("--muted");
    ctx.fillText(text, x, y);
    ctx.lineWidth = devicePixelRatio;
  };

  const colourOf = (series, at) => (series.kind === "raw" ? "--faint" : `--series-${(at % COLOURS) + 1}`);

  class Panel {
    constructor(run, panel) {
      this.run = run;
      this.panel = { ...panel, series: panel.series.map(decode) };
      const shown = this.panel.series;
      let hue = 0;
      this.colours = shown.map((series) => colourOf(series, series.kind === "raw" ? 0 : hue++));
      this.values = shown.map(() => element("b"));
      const legend = element("ul", { class: "legend" });
      shown.forEach((series, at) => {
        const gap = series.bad.length ? ` (× ${[...new Set(series.bad.map((bad) => bad[2]))].join(", ")})` : "";
        const item = element("li", {}, swatch(this.colours[at], series.kind), series.name + gap, " ");
        item.append(this.values[at]);
        if (shown.length > 1 || gap || run.main === this.panel) legend.append(item);
        else legend.append(element("li", {}, this.values[at]));
      });
      const caption = element("figcaption", {}, element("h3", {}, panel.title), legend);
      this.target = element("div", {
        class: "plot",
        tabindex: "0",
        role: "application",
        "aria-roledescription": "plot",
        "aria-label": `${panel.title}, ${run.noun}s ${grouped(run.first)} to ${grouped(run.last)}. Arrow keys move the cursor, plus and minus zoom, Escape shows all ${run.noun}s.`,
      });
      this.figure = element("figure", panel.wide ? { class: "wide" } : {}, caption, this.target, this.table());
      this.target.addEventListener("keydown", (event) => this.key(event));
    }

    draw() {
      if (this.plot) this.plot.destroy();
      const { panel, run } = this;
      const height = panel.wide ? 300 : 180;
      const options = {
        width: Math.max(this.figure.clientWidth, 200),
        height,
        legend: { show: false },
        padding: [8, 10, 0, 0],
        scales: { x: { time: false, range: (plot, low, high) => [low, high > low ? high : low + 1] }, y: scaleOf(panel) },
        axes: [
          axis({ size: 34, values: (plot, ticks) => ticks.map((step) => (Number.isInteger(step) ? grouped(step) : "")), label: panel.wide ? run.unit : undefined, labelSize: 16, labelFont: "11px system-ui, sans-serif" }),
          axis({ size: 56, values: (plot, ticks) => ticks.map(tick) }),
        ],
        series: [
          {},
          ...panel.series.map((series, at) => ({
            stroke: () => Page.colour(this.colours[at]),
            width: series.kind === "raw" ? 1 : series.kind === "points" ? 1.4 : 1.8,
            points: {
              show: series.kind === "points" || series.x.length < 3,
              size: 5,
              fill: () => Page.colour(this.colours[at]),
              stroke: () => Page.colour(this.colours[at]),
            },
          })),
        ],
        cursor: {
          sync: { key: run.key, scales: ["x", null] },
          drag: { x: true, y: false, setScale: true },
          points: { size: 7 },
        },
        hooks: {
          drawClear: [below(panel)],
          draw: [above(panel, run.marks, panel.wide)],
          setCursor: [(plot) => this.show(plot)],
        },
      };
      const tables = panel.series.map((series) => [series.x, series.y]);
      // Every plot of a run shows the same steps.
      tables.push([[run.first, run.last], [undefined, undefined]]);
      const joined = uPlot.join(tables).slice(0, -1);
      this.plot = new uPlot(options, joined, this.target);
    }

    show(plot) {
      const step = plot.cursor.idx === null || plot.cursor.idx === undefined ? null : plot.data[0][plot.cursor.idx];
      this.panel.series.forEach((series, at) => {
        const text = step === null ? "" : valueAt(series, step);
        if (this.values[at].textContent !== text) this.values[at].textContent = text;
      });
      this.run.readout(step, this);
    }

    key(event) {
      const { plot } = this;
      const steps = plot.data[0];
      const { min, max } = plot.scales.x;
      const [first, last] = [plot.valToIdx(min), plot.valToIdx(max)];
      const now = plot.cursor.idx ?? first;
      const far = Math.max(1, Math.round((last - first) / 10));
      const moves = {
        ArrowLeft: now - (event.shiftKey ? 10 : 1),
        ArrowRight: now + (event.shiftKey ? 10 : 1),
        PageUp: now + far,
        PageDown: now - far,
        Home: first,
        End: last,
      };
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key in moves) {
        const at = Math.min(last, Math.max(first, moves[event.key]));
        this.run.keyboard = true;
        plot.setCursor({ left: plot.valToPos(steps[at], "x"), top: plot.over.clientHeight / 2 }, true, true);
        this.run.keyboard = false;
      } else if (event.key === "+" || event.key === "=" || event.key === "-") {
        const half = ((max - min) / 2) * (event.key === "-" ? 2 : 0.5);
        const low = Math.max(this.run.first, steps[now] - half);
        this.run.zoom(low, Math.min(this.run.last, low + 2 * half));
      } else if (event.key === "Escape" || event.key === "0") {
        this.run.zoom(this.run.first, this.run.last);
      } else return;
      event.preventDefault();
    }

    // The same values as a table, made when it is opened: at most 100 steps, with the extremes of every series.
    table() {
      const fold = element("details", { class: "fold values" }, element("summary", {}, `Values of ${this.panel.title}`));
      fold.addEventListener("toggle", () => {
        if (!fold.open || fold.childElementCount > 1) return;
        const { series } = this.panel;
        const steps = [...new Set(series.flatMap((one) => one.x))].sort((a, b) => a - b);
        const kept = new Set();
        for (let at = 0; at < 100; at++) kept.add(steps[Math.round((at * (steps.length - 1)) / 99)]);
        for (const one of series) {
          const known = one.y.map((value, at) => [value, one.x[at]]).filter(([value]) => value !== null);
          if (known.length) {
            kept.add(known.reduce((a, b) => (b[0] < a[0] ? b : a))[1]);
            kept.add(known.reduce((a, b) => (b[0] > a[0] ? b : a))[1]);
          }
          for (const [first, last] of one.bad.slice(0, 100)) kept.add(first).add(last);
        }
        const head = element("tr", {}, element("th", { scope: "col", class: this.run.labels ? "" : "num" }, this.run.noun));
        for (const one of series) head.append(element("th", { scope: "col", class: "num" }, one.name));
        const body = element("tbody");
        for (const step of [...kept].sort((a, b) => a - b)) {
          const row = element("tr", {}, element("th", { scope: "row", class: this.run.labels ? "" : "num" }, this.run.labels ? this.run.name(step) : grouped(step)));
          for (const one of series) row.append(element("td", { class: "num" }, valueAt(one, step)));
          body.append(row);
        }
        const note = `${this.panel.title}: ${grouped(kept.size)} of ${grouped(steps.length)} drawn ${this.run.noun}s, with the extremes of each series`;
        const table = element("table", {}, element("caption", {}, note), element("thead", {}, head), body);
        fold.append(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": note }, table));
      });
      return fold;
    }
  }

  class Run {
    constructor(container, data, key) {
      this.key = key;
      this.unit = data.unit || "optimizer step";
      this.noun = data.noun || "step"; // what an x is called, and the names of them from 1 on
      this.labels = data.labels || null;
      this.marks = [...data.marks].sort((a, b) => a.x - b.x);
      const ends = data.panels.flatMap((panel) => panel.series.map((series) => [series.x[0], series.x.reduce((a, b) => a + b, 0)]));
      this.first = Math.min(...ends.map((end) => end[0]).filter((end) => end !== undefined));
      this.last = Math.max(...ends.map((end) => end[1]), this.first + 1);
      this.main = null;
      this.keyboard = false;
      this.line = element("p", { class: "readout", role: "status" }, HELP);
      this.panels = data.panels.map((panel) => new Panel(this, panel));
      container.replaceChildren(...this.panels.map((panel) => panel.figure));
      container.after(this.line);
      this.draw();
      this.width = container.clientWidth;
      new ResizeObserver(() => {
        if (!container.clientWidth || container.clientWidth === this.width) return;
        this.width = container.clientWidth;
        this.resize();
      }).observe(container);
    }

    resize(width) {
      for (const { plot, figure, panel } of this.panels) {
        plot.setSize({ width: width || figure.clientWidth, height: panel.wide ? 300 : 180 });
      }
    }

    draw() {
      for (const panel of this.panels) panel.draw();
    }

    redraw() {
      for (const { plot } of this.panels) plot.redraw(false, true);
    }

    zoom(low, high) {
      for (const { plot } of this.panels) plot.setScale("x", { min: low, max: high });
    }

    name(step) {
      return (this.labels && this.labels[step - 1]) || `${this.noun} ${grouped(step)}`;
    }

    // A screen reader reads the line when the keyboard moves the cursor; a mouse would make it talk without end.
    readout(step, panel) {
      if (step === null) {
        if (!this.keyboard) this.line.textContent = HELP;
        return;
      }
      this.line.setAttribute("aria-live", this.keyboard ? "polite" : "off");
      const values = panel.panel.series.map((series) => `${series.name} ${valueAt(series, step)}`);
      const marks = this.marks.filter((mark) => mark.x === step).map((mark) => mark.text);
      if (this.keyboard && panel.target !== document.activeElement) return;
      this.line.textContent = [this.name(step), ...values, ...marks].join(" · ");
    }
  }

  Page.onTheme(() => {
    for (const colour of paint) colour();
    for (const run of built) run.redraw();
  });

  return {
    build: (container, data, key) => built.add(new Run(container, data, key)),
    // Fit all plots into a width in pixels; without one, into their places.
    resize: (width) => {
      for (const run of built) run.resize(width);
    },
    logarithmic: (on) => {
      logarithmic = on;
      for (const run of built) run.draw();
    },
  };
})();

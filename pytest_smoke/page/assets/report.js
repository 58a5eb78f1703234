"use strict";
(() => {
  const filters = document.getElementById("filters");
  if (!filters) return;
  const rows = [...document.querySelectorAll("tr[data-run]")];
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const boxes = [...filters.querySelectorAll("input[type=checkbox]")];
  let texts = null; // of the rows, read at the first search

  const filter = () => {
    const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length && !texts) texts = rows.map((row) => row.textContent.toLowerCase());
    let visible = 0;
    rows.forEach((row, at) => {
      const fits = verdicts.has(row.dataset.verdict) && words.every((word) => texts[at].includes(word));
      row.hidden = !fits;
      const run = document.getElementById(`run-${row.dataset.run}`);
      if (run) run.hidden = !fits;
      visible += fits;
    });
    shown.textContent = visible === rows.length ? "" : `${visible} of ${rows.length} shown`;
  };
  filters.hidden = rows.length < 2;
  filters.addEventListener("change", filter);
  search.addEventListener("input", filter);

  // A link to a run opens it, also one that the filters hide.
  const open = () => {
    const run = location.hash.startsWith("#run-") && document.getElementById(location.hash.slice(1));
    if (!run) return;
    run.hidden = false;
    run.open = true;
    run.scrollIntoView({ block: "start" });
    run.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", open);
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a.name");
    if (link && link.hash === location.hash) open();
  });
  open();
})();

// Plots are drawn when they come into view.
(() => {
  const waiting = new Set(document.querySelectorAll(".plots[data-plots]"));
  const build = (container) => {
    if (!waiting.delete(container)) return;
    const data = Page.data(container.dataset.plots);
    if (data) Plots.build(container, data, container.dataset.plots);
  };
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        build(target);
      }
    },
    { rootMargin: "400px" },
  );
  for (const container of waiting) observer.observe(container);
  addEventListener("beforeprint", () => {
    for (const container of waiting) if (container.closest("details").open) build(container);
    Plots.resize(640); // the width of A4 and Letter less their margins and those of the page
  });
  addEventListener("afterprint", () => Plots.resize());

  const log = document.getElementById("log");
  if (!log) return;
  log.hidden = waiting.size === 0;
  log.addEventListener("click", () => {
    const on = log.getAttribute("aria-pressed") !== "true";
    log.setAttribute("aria-pressed", String(on));
    Plots.logarithmic(on);
  });
})();

// Runs before the first paint, so that a page never flashes in the other theme.
"use strict";
const Page = (() => {
  const KEY = "pytest-smoke-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const listeners = [];
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY); // throws where a page from a file has no storage
  } catch {}

  const isDark = () => (chosen ? chosen === "dark" : dark.matches);
  const apply = () => {
    root.dataset.theme = isDark() ? "dark" : "light";
    const button = document.getElementById("theme");
    if (button) button.setAttribute("aria-pressed", String(isDark()));
    for (const listener of listeners) listener();
  };
  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      chosen = isDark() ? "light" : "dark";
      try {
        localStorage.setItem(KEY, chosen);
      } catch {}
      apply();
    });
    apply();
  });
  // Paper is white.
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    for (const listener of listeners) listener();
  });
  addEventListener("afterprint", apply);

  return {
    // Value of a custom property of page.css, such as "--ink".
    colour: (name) => getComputedStyle(root).getPropertyValue(name).trim(),
    // JSON that the page was made with, or null.
    data: (id) => {
      const element = document.getElementById(id);
      return element ? JSON.parse(element.textContent) : null;
    },
    // Call a function whenever the theme changes.
    onTheme: (listener) => listeners.push(listener),
  };
})();

"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const words = document.getElementById("words");
  if (!words) return;
  const state = document.getElementById("state");
  const target = document.getElementById("target");
  const count = document.getElementById("count");
  document.getElementById("tools").hidden = false;

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, rows = 0;
    for (const card of all(".card")) {
      let here = 0;
      for (const row of all("tr[data-target]", card)) {
        const said = row.dataset.words.toLowerCase();
        const fits = wanted.every((word) => said.includes(word))
          && (!state.value || row.dataset.state.split(" ").includes(state.value))
          && (!target.value || row.dataset.target === target.value);
        row.hidden = !fits;
        here += fits;
        rows += 1;
      }
      card.hidden = !here;
      shown += here;
    }
    count.textContent = shown === rows ? `${rows} shown` : `${shown} of ${rows} shown`;
  }
  for (const control of [words, state, target]) control.addEventListener("input", filter);
  document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
  filter();

  function compare(a, b) {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return Number.isNaN(difference) ? a.localeCompare(b, undefined, { numeric: true }) : difference;
  }
  function sort(head) {
    const table = head.closest("table");
    const up = head.getAttribute("aria-sort") !== "ascending";
    const column = head.cellIndex;
    const value = (row) => row.cells[column].dataset.value ?? "";
    const body = table.tBodies[0];
    body.append(...all("tr", body).sort((a, b) => {
      const order = compare(value(a), value(b));
      return up || value(a) === "" || value(b) === "" ? order : -order;
    }));
    for (const other of all("th", table)) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }
  for (const head of all("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  }
  document.documentElement.classList.add("live");
})();

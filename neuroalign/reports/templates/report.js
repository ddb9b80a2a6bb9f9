"use strict";
// Sort a table by the column whose heading was pressed: numbers by value, words by the reader's language.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const column = [...head.parentElement.children].indexOf(head);
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "descending";
    const numeric = head.classList.contains("num");
    const key = (row) => {
      const cell = row.cells[column];
      return numeric ? parseFloat(cell.dataset.v) : cell.textContent;
    };
    const order = (a, b) => {
      if (!numeric) return key(a).localeCompare(key(b), undefined, { numeric: true });
      const [x, y] = [key(a), key(b)];
      return Number.isNaN(x) || Number.isNaN(y) ? 0 : x - y;
    };
    const missing = (row) => numeric && Number.isNaN(key(row));
    const rows = [...body.rows];
    const known = rows.filter((row) => !missing(row)).sort(order);
    const ascending = numeric ? down : head.getAttribute("aria-sort") !== "ascending";
    if (!ascending) known.reverse();
    body.replaceChildren(...known, ...rows.filter(missing));
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  });
}
// Paper shows everything.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));

"use strict";
// Sorts a table by the column whose head is pressed; without this script everything still reads.
(() => {
  const UNKNOWN = /^[–-]?$/;
  const ORDER = new Intl.Collator("en", { numeric: true });
  const POWERS = { n: -3, u: -2, µ: -2, m: -1, "": 0, k: 1, K: 1, M: 2, G: 3, T: 4, P: 5 };
  const PREFIX = /^([nuµmkKMGTP])(i?)(?=(?:s|B|FLOPS|OPS|W|Hz|J|bit)?(?:$|[^A-Za-z]))/;

  // What a cell says: its value where one is given, else its text up to the first line break.
  function said(cell) {
    if (!cell) return "";
    if (cell.dataset.value) return cell.dataset.value.trim();
    let text = "";
    for (const node of cell.childNodes) {
      if (node.nodeName === "BR") break;
      text += node.textContent;
    }
    return text.trim();
  }

  // The number in a text with its unit's prefix taken in, so that 214 GFLOPS is less than 1 TFLOPS.
  function number(text) {
    const time = /^(\d+):(\d\d)(?::(\d\d))?/.exec(text);
    if (time) {
      const [first, second, third] = time.slice(1).map(Number);
      return time[3] ? first * 3600 + second * 60 + third : first * 60 + second;
    }
    const found = /^[<≈±~]?([+−-]?)(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(.*)$/s.exec(text);
    if (!found) return NaN;
    const [, sign, digits, unit] = found;
    const [, prefix, binary] = PREFIX.exec(unit) ?? ["", "", ""];
    const least = text.startsWith("<") ? 0.5 : 1; // less than 1 % comes before 1 %
    return (sign && sign !== "+" ? -1 : 1) * least * digits * (binary ? 1024 : 1000) ** POWERS[prefix];
  }

  // Negative, zero or positive as the first goes before, beside or after the second.
  function compare(one, other, numeric) {
    const [first, second] = numeric ? [number(one), number(other)] : [NaN, NaN];
    const words = Number.isNaN(first) - Number.isNaN(second); // words come after numbers
    if (words) return words;
    return Number.isNaN(first) ? ORDER.compare(one, other) : first - second;
  }

  // What is moved as one, in lists that stay apart: bodies that are an entry each, or rows of a body.
  function lists(table) {
    if (table.classList.contains("entries")) return [[...table.tBodies]];
    return [...table.tBodies].map((body) => [...body.rows].filter((row) => row.className !== "group"));
  }

  // The cells of most tables say what they are worth; a range goes by the figure of another column.
  function sort(table, head, numeric, sign) {
    const column = Number(head.dataset.by ?? head.cellIndex);
    for (const list of lists(table)) {
      const keyed = list.map((entry) => [said((entry.rows?.[0] ?? entry).cells[column]), entry]);
      keyed.sort(([one], [other]) => {
        const unknown = UNKNOWN.test(one) - UNKNOWN.test(other); // last, whichever way
        return unknown || sign * compare(one, other, numeric);
      });
      for (const [, entry] of keyed) entry.parentNode.append(entry);
    }
  }

  for (const table of document.querySelectorAll("table")) {
    if (!lists(table).some((list) => list.length > 1)) continue;
    const heads = [...table.tHead.rows[0].cells];
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const one of heads) one.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, head, head.classList.contains("n"), down ? -1 : 1);
      });
    }
  }
})();

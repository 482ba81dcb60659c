"use strict";
{
  const valueOf = (row, column) => {
    const text = row.cells[column].dataset.value;
    if (text === undefined) return undefined;
    return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };

  // A row without a value comes last in both directions; equal rows keep their order.
  const sort = (heading, button) => {
    const was = heading.getAttribute("aria-sort");
    const first = "descending" in button.dataset ? "descending" : "ascending";
    const order = was === null ? first : was === "ascending" ? "descending" : "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = heading.closest("table").tBodies[0];
    const rows = [...body.rows].map((row) => [row, valueOf(row, heading.cellIndex)]);
    rows.sort(([, a], [, b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      return sign * (a < b ? -1 : a > b ? 1 : 0);
    });
    body.append(...rows.map(([row]) => row));
  };

  // Browsers show a <title> late and not on keyboard focus, so the script shows its text at once.
  const showTips = () => {
    const tip = document.getElementById("tip");
    for (const mark of document.querySelectorAll("svg .mark")) {
      const title = mark.querySelector("title");
      const text = title.textContent;
      mark.setAttribute("aria-label", text);
      title.remove();
      const show = () => {
        tip.textContent = text;
        tip.hidden = false;
        const box = mark.getBoundingClientRect();
        const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
        tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, room))}px`;
        const above = box.top - tip.offsetHeight - 8;
        tip.style.top = `${above > 0 ? above : box.bottom + 8}px`;
      };
      const hide = () => { tip.hidden = true; };
      mark.addEventListener("pointerenter", show);
      mark.addEventListener("focus", show);
      mark.addEventListener("pointerleave", hide);
      mark.addEventListener("blur", hide);
    }
    addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
  };

  addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("th button")) {
      button.addEventListener("click", () => sort(button.parentElement, button));
    }
    showTips();
  });
}

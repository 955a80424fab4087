"use strict";
// Shows only those runs that are asked for; without this script all of them are shown.
(() => {
  const box = document.querySelector(".filters");
  const rows = [...document.querySelectorAll(".runs tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const asked = (name) => box.querySelector(`[name=${name}]`).value;

  function show() {
    const words = asked("text").toLowerCase().split(/\s+/).filter(Boolean);
    const [host, kind, verdict] = ["host", "device", "verdict"].map(asked);
    let shown = 0;
    rows.forEach((row, number) => {
      const fits = (!host || row.dataset.host === host)
        && (!kind || row.dataset.kinds.split(" ").includes(kind))
        && (!verdict || row.dataset.verdict === verdict)
        && words.every((word) => texts[number].includes(word));
      row.hidden = !fits;
      shown += fits;
    });
    box.querySelector("output").textContent = `${shown} of ${rows.length} ${rows.length === 1 ? "run" : "runs"}`;
  }

  if (!box) return;
  box.hidden = false;
  box.addEventListener("input", show);
  show();
})();

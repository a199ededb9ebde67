"use strict";
// Tables: a click on a heading sorts, a button saves what the table shows as CSV.
const keyOf = cell => cell === undefined ? "" : cell.dataset.key ?? cell.textContent;
for (const table of document.querySelectorAll("table")) {
  const heads = table.tHead ? [...table.tHead.rows[0].cells] : [];
  for (const [index, head] of heads.entries()) {
    const sort = () => {
      const body = table.tBodies[0], down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => a === "" || b === "" ? (a === "") - (b === "")  // what is missing comes last
        : (down ? -1 : 1) * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
      body.append(...[...body.rows].sort((a, b) => compare(keyOf(a.cells[index]), keyOf(b.cells[index]))));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => event.key === "Enter" && sort());
    head.tabIndex = 0;
  }
}
const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
for (const button of document.querySelectorAll("button[data-csv]")) button.addEventListener("click", () => {
  const card = button.closest(".card"), stored = card.querySelector("script.csv");
  const rows = [...card.querySelectorAll("tr")].map(row => [...row.cells].map(cell => quoted(keyOf(cell).trim())).join());
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([stored ? JSON.parse(stored.textContent) : rows.join("\n") + "\n"], {type: "text/csv"}));
  link.download = button.dataset.csv;
  link.click();
});

// Plots: their script is in the page, compressed. Colours are the page's own, so each scheme has those made for it.
const merged = (base, over) => {
  const all = {...base};
  for (const [key, value] of Object.entries(over))
    all[key] = value && typeof value === "object" && !Array.isArray(value) ? merged(base[key] ?? {}, value) : value;
  return all;
};
const draw = holder => {
  const style = getComputedStyle(document.documentElement);
  const text = holder.querySelector("script").textContent;
  const {data, layout} = JSON.parse(text.replace(/var\((--\w+)\)/g, (_, name) => style.getPropertyValue(name).trim()));
  const colour = name => style.getPropertyValue(name).trim();
  const axis = {gridcolor: colour("--grid"), zerolinecolor: colour("--grid"), linecolor: colour("--line"), automargin: true,
    title: {standoff: 8}};
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, hovermode: "closest",
    font: {color: colour("--soft"), family: "system-ui, sans-serif", size: 12},
    margin: {l: 48, r: 12, t: 12, b: 40},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: {color: colour("--text")}},
    hoverlabel: {bgcolor: colour("--card"), bordercolor: colour("--line"), font: {color: colour("--text")}},
  };
  for (const key of Object.keys(layout).filter(key => /^[xy]axis/.test(key)).concat("xaxis", "yaxis")) base[key] = axis;
  const place = holder.querySelector(".drawing");
  return Plotly.react(place, data, merged(base, layout), {displayModeBar: false, responsive: true});
};
const drawAll = async () => {  // at once: a printer does not wait
  await Promise.all([...document.querySelectorAll(".plot")].map(draw));
  document.documentElement.dataset.drawn = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
};
const start = async () => {
  const packed = document.getElementById("plotly");
  if (packed) {
    const bytes = Uint8Array.from(atob(packed.textContent.trim()), char => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    await drawAll();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    matchMedia("print").addEventListener("change", drawAll);
  } else document.documentElement.dataset.drawn = "nothing";
};
start();

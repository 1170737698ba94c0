(() => {
  "use strict";
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const token = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // A copy of a figure in which every `color` named like a custom property has that property's present value.
  const coloured = (value, key) => {
    if (Array.isArray(value)) return value.map((item) => coloured(item, ""));
    if (value !== null && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, k)]));
    return key === "color" && typeof value === "string" && value.startsWith("--") ? token(value) : value;
  };

  const axis = () => ({
    gridcolor: token("--line"), linecolor: token("--line"), tickcolor: token("--line"),
    zerolinecolor: token("--line"), automargin: true, fixedrange: false,
  });

  const draw = (element) => {
    const figure = coloured(figures[element.dataset.figure], "");
    const layout = figure.layout;
    for (const name of Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k)).concat("xaxis", "yaxis"))
      layout[name] = { ...axis(), ...layout[name] };
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: token("--text") },
      legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" },
      margin: { l: 12, r: 12, t: 12, b: 44 },
      hoverlabel: { bgcolor: token("--raised"), bordercolor: token("--line"), font: { color: token("--text") }, namelength: -1 },
      width: element.clientWidth, height: element.clientHeight, hovermode: "closest", dragmode: false, bargap: 0.12,
    });
    Plotly.react(element, figure.data, layout, { displayModeBar: false, displaylogo: false });
  };

  const plots = [...document.querySelectorAll("[data-figure]")];
  const widths = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
  plots.forEach((plot) => widths.observe(plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(draw));

  const filter = document.getElementById("filter");
  if (filter) {
    const rows = [...document.querySelectorAll("#ranked tbody tr")];
    const status = document.getElementById("filter-status");
    filter.closest("p").hidden = false;
    filter.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = wanted ? `${shown} of ${rows.length} shown` : "";
    });
  }

  // A link to an account opens its reasons.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const details = target && target.querySelector("details");
    if (details) details.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();
})();

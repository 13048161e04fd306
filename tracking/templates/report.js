"use strict";
(() => {
  const root = document.documentElement;
  const darkScreen = matchMedia("(prefers-color-scheme: dark)");
  const LIGHT = { ink: "#1b2430", soft: "#556070", rule: "#e3e8ee", paper: "#ffffff" };
  const DARK = { ink: "#e4e9f0", soft: "#a4afbe", rule: "#2c3643", paper: "#171d26" };
  const TITLE_HEIGHT = 44;
  const MISSING = new Set(["", "–"]);
  root.classList.add("js");

  /* Plots: plotly is unpacked when the first one comes near the window, each is drawn then. */

  let plotly = null;

  async function unpacked() {
    const packed = atob(document.getElementById("plotly").textContent.trim());
    const bytes = new Uint8Array(packed.length);
    for (let at = 0; at < packed.length; at += 1) bytes[at] = packed.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  }

  const drawer = () => (plotly ??= unpacked());

  function payload(plot) {
    return JSON.parse(plot.querySelector("script").textContent);
  }

  /* The figure's layout in the colours of the page; what the figure says itself stays. */
  function themed(layout, colours) {
    const result = structuredClone(layout ?? {});
    const axis = { gridcolor: colours.rule, linecolor: colours.rule, zerolinecolor: colours.rule };
    result.paper_bgcolor = result.plot_bgcolor = "rgba(0,0,0,0)";
    result.font = { family: "system-ui, sans-serif", size: 13, ...result.font, color: colours.ink };
    result.hoverlabel = {
      bgcolor: colours.paper, bordercolor: colours.rule, align: "left", ...result.hoverlabel,
      font: { ...result.hoverlabel?.font, color: colours.ink },
    };
    result.modebar = {
      bgcolor: "rgba(0,0,0,0)", color: colours.rule, activecolor: colours.soft, ...result.modebar,
    };
    for (const name of ["xaxis", "yaxis", ...Object.keys(result)]) {
      if (/^[xy]axis\d*$/.test(name)) result[name] = { ...axis, ...result[name] };
    }
    return result;
  }

  const colours = () => (darkScreen.matches && !matchMedia("print").matches ? DARK : LIGHT);

  async function draw(plot) {
    if (plot.dataset.state) return;
    plot.dataset.state = "drawing";
    const drawing = plot.querySelector(".drawing");
    try {
      const [library, { figure }] = await Promise.all([drawer(), payload(plot)]);
      drawing.replaceChildren();
      await library.newPlot(drawing, figure.data, themed(figure.layout, colours()), {
        responsive: true,
        displaylogo: false,
        showSendToCloud: false, // a button that uploads the chart, which plotly shows by itself
        plotlyServerURL: "",
        modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d"],
      });
      plot.dataset.state = "drawn";
    } catch (error) {
      plot.dataset.state = "failed";
      drawing.textContent = `This browser cannot draw the plot (${error.message}); its values are in the CSV.`;
    }
  }

  async function recolour(chosen) {
    for (const plot of document.querySelectorAll('.plot[data-state="drawn"]')) {
      const library = await drawer();
      await library.relayout(plot.querySelector(".drawing"), themed(payload(plot).figure.layout, chosen));
    }
  }

  function save(url, name) {
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
  }

  /* As the drawing of --files: on white, under its title, without buttons. */
  async function savePng(plot) {
    const library = await drawer();
    const { figure } = payload(plot);
    const layout = themed(figure.layout, LIGHT);
    const title = plot.querySelector("h2").textContent.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    layout.paper_bgcolor = layout.plot_bgcolor = LIGHT.paper;
    layout.title = {
      text: `<b>${title}</b>`, x: 0.01, xanchor: "left", font: { size: 18 },
      y: 0.985, yanchor: "top", yref: "container",
    };
    layout.margin = { ...layout.margin, t: (layout.margin?.t ?? 24) + TITLE_HEIGHT };
    layout.height = (layout.height ?? 450) + TITLE_HEIGHT;
    delete layout.updatemenus;
    const size = { width: 1200, height: layout.height, scale: 2 };
    const url = await library.toImage({ data: figure.data, layout }, { format: "png", ...size });
    save(url, `${plot.dataset.name}.png`);
  }

  /* As tracking/plots/files.py: text that a spreadsheet would run stands behind an apostrophe. */
  const FORMULA = /^[=+\-@\t\r\n]/;
  const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

  function csvCell(value) {
    const plain = value === null ? "" : String(value);
    const formula = typeof value === "string" && FORMULA.test(plain) && !NUMBER.test(plain);
    const text = formula ? `'${plain}` : plain;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function saveCsv(plot) {
    const { columns, rows } = payload(plot);
    const lines = [columns, ...rows].map((row) => row.map(csvCell).join(","));
    const url = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
    save(url, `${plot.dataset.name}.csv`);
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  const plots = [...document.querySelectorAll(".plot[data-name]")];
  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      watcher.unobserve(entry.target);
      draw(entry.target);
    }),
    { rootMargin: "400px" },
  );
  for (const plot of plots) {
    watcher.observe(plot);
    plot.querySelector(".png")?.addEventListener("click", () => savePng(plot));
    plot.querySelector(".csv")?.addEventListener("click", () => saveCsv(plot));
  }
  darkScreen.addEventListener("change", () => recolour(colours()));

  /* Printing takes the plots that are drawn, in the colours of paper. */

  addEventListener("beforeprint", () => recolour(LIGHT));
  addEventListener("afterprint", () => recolour(colours()));
  document.getElementById("print")?.addEventListener("click", async () => {
    for (const plot of plots) await draw(plot);
    await recolour(LIGHT);
    print();
  });

  /* Copying. */

  async function copy(button) {
    const source = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    const label = button.textContent;
    button.textContent = "copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  }

  for (const button of document.querySelectorAll("button[data-copies]")) {
    button.addEventListener("click", () => copy(button));
  }

  /* Tables: a click on a heading sorts, largest first; a third one restores the order. */

  function sortKey(row, column) {
    const cell = row.cells[column];
    const text = (cell.dataset.sort ?? cell.textContent).trim();
    const number = Number(text.replaceAll(",", "").replace("−", "-").replace(/ ?%$/, ""));
    return { text, number, missing: MISSING.has(text) };
  }

  function compared(one, other, sign) {
    if (one.missing || other.missing) return one.missing - other.missing;
    const numbers = !Number.isNaN(one.number) && !Number.isNaN(other.number);
    const order = numbers ? one.number - other.number : one.text.localeCompare(other.text, "en", { numeric: true });
    return sign * order;
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const first = heading.classList.contains("number") ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const next = { none: first, [first]: second, [second]: "none" }[heading.ariaSort ?? "none"];
        headings.forEach((other) => { other.ariaSort = null; });
        heading.ariaSort = next === "none" ? null : next;
        const keyed = original.map((row) => ({ row, key: sortKey(row, column) }));
        const sign = next === "descending" ? -1 : 1;
        if (next !== "none") keyed.sort((one, other) => compared(one.key, other.key, sign));
        body.append(...keyed.map(({ row }) => row));
      });
    });
  }

  document.querySelectorAll("table.sortable").forEach(sortable);

  function filterable(form) {
    const rows = [...document.querySelectorAll("#trials tbody tr")];
    const texts = rows.map((row) => row.textContent.toLowerCase().replace(/\s+/g, " "));
    const shown = form.querySelector("output");
    const apply = () => {
      const { state, engine, words } = Object.fromEntries(new FormData(form));
      const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
      let number = 0;
      rows.forEach((row, index) => {
        row.hidden = Boolean(
          (state && row.dataset.state !== state)
          || (engine && row.dataset.engine !== engine)
          || wanted.some((word) => !texts[index].includes(word)),
        );
        number += !row.hidden;
      });
      shown.textContent = `${number.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  const filters = document.getElementById("filters");
  if (filters) filterable(filters);
})();

// Draws the curves into their places on the page. Each place has its range in words; the table below has the figures.
(() => {
  const probe = document.createElement("span");
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };
  const short = (value) => {
    if (value == null) return "–";
    const size = Math.abs(value);
    if (size >= 1e6 || (size < 1e-3 && size > 0)) return value.toExponential(2);
    return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  };
  // The legend has the same colours and dashes in the same order.
  const SERIES = ["first", "second", "source", "tag", "execution", "gate", "artifact", "run"];
  const plots = new Map();

  function draw(place, points, runs) {
    plots.get(place)?.destroy();
    const heading = place.parentElement.querySelector("h3 span");
    const defaultText = (heading.dataset.defaultText ??= heading.textContent);
    const line = (name, dash) => ({
      stroke: colour(name),
      width: 1.75,
      dash,
      points: { show: points.steps.length < 4 },
      spanGaps: true,
    });
    const axis = {
      stroke: colour("soft"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const plot = new uPlot(
      {
        width: place.clientWidth,
        height: place.clientHeight,
        scales: { x: { time: false } },
        cursor: { y: false, points: { size: 6 }, sync: { key: place.closest("[data-curves]").dataset.curves } },
        legend: { show: false },
        padding: [8, 8, 0, 0],
        series: [{}, ...points.series.map((_, place) => line(SERIES[place % SERIES.length], place % 2 ? [6, 4] : undefined))],
        axes: [
          { ...axis, size: 22, gap: 3, grid: { show: false } },
          { ...axis, size: 50, gap: 4, values: (_, ticks) => ticks.map(short) },
        ],
        hooks: {
          setCursor: [
            (self) => {
              const at = self.cursor.idx;
              heading.textContent =
                at == null || self.cursor.left < 0
                  ? defaultText
                  : `${points.of} ${self.data[0][at].toLocaleString("en")}: ${self.data.slice(1).map((series) => short(series[at])).join(" · ")}`;
            },
          ],
        },
      },
      [points.steps, ...points.series],
      place,
    );
    plots.set(place, plot);
  }

  async function show(section) {
    const places = [...section.querySelectorAll(".plot")];
    let data;
    try {
      const response = await fetch(section.dataset.curves, { headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(`the server responds ${response.status}`);
      data = await response.json();
    } catch (error) {
      for (const place of places) place.textContent = `The curve cannot be drawn: ${error.message}`;
      return;
    }
    const redraw = () => {
      for (const place of places) {
        const points = data.metrics[place.dataset.metric];
        if (points && place.clientWidth > 0) draw(place, points, data.runs);
      }
    };
    redraw();
    document.addEventListener("themechange", redraw);
    section.addEventListener("toggle", redraw, true);
    new ResizeObserver(() => {
      for (const place of places) {
        const plot = plots.get(place);
        if (plot && place.clientWidth > 0 && plot.width !== place.clientWidth)
          plot.setSize({ width: place.clientWidth, height: place.clientHeight });
      }
    }).observe(section);
  }

  for (const section of document.querySelectorAll("[data-curves]")) show(section);
})();

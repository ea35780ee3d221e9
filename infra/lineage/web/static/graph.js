// Draws the graph, moves through it by mouse and by keys, and updates the address and the panel.
(() => {
  const canvas = document.getElementById("graph");
  const status = document.getElementById("graph-status");
  const omitted = document.getElementById("graph-omitted");
  const shapes = {
    artifact: "ellipse",
    execution: "round-rectangle",
    source: "barrel",
    gate: "diamond",
    run: "hexagon",
    tag: "tag",
  };
  const SMALLEST = 0.7; // labels are still readable at this zoom
  const EDGE = 34;
  const SNAP = 130; // what is cut off by less than this at a side is moved into view
  const NAMED_EDGES = 8;
  const probe = document.createElement("span");
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };

  const style = () => {
    const ink = colour("ink");
    const card = colour("card");
    const below = {
      "text-valign": "bottom",
      "text-margin-y": 6,
      color: ink,
      "text-background-color": card,
      "text-background-opacity": 0.85,
      "text-background-padding": 2,
    };
    return [
      {
        selector: "node",
        style: {
          width: 30,
          height: 30,
          label: "data(label)",
          color: ink,
          "font-family": "system-ui, sans-serif",
          "font-size": 12.5,
          "line-height": 1.25,
          "text-wrap": "wrap",
          "text-max-width": 170,
          "border-width": 2,
          "border-color": card,
          ...below,
        },
      },
      ...Object.entries(shapes).map(([kind, shape]) => ({
        selector: `node[kind = "${kind}"]`,
        style: { shape, "background-color": colour(kind) },
      })),
      {
        selector: 'node[kind = "execution"], node[kind = "tag"]',
        style: {
          width: "data(width)",
          height: 34,
          "text-valign": "center",
          "text-margin-y": 0,
          color: card,
          "font-weight": 600,
          "text-background-opacity": 0,
        },
      },
      { selector: 'node[kind = "gate"]', style: { width: 26, height: 26 } },
      {
        selector: "node[more > 0]",
        style: { "border-style": "dashed", "border-color": ink, "border-width": 2 },
      },
      { selector: "node[?broken]", style: { "border-color": colour("bad"), "border-width": 4, "border-style": "solid" } },
      {
        selector: "node.centre",
        style: { "outline-width": 2, "outline-color": colour("edge"), "outline-offset": 4 },
      },
      {
        selector: "node.selected",
        style: { "outline-width": 4, "outline-color": colour("focus"), "outline-offset": 3 },
      },
      {
        selector: "edge",
        style: {
          width: 1.3,
          "curve-style": "bezier",
          "line-color": colour("edge"),
          "target-arrow-color": colour("edge"),
          "target-arrow-shape": "triangle",
          "arrow-scale": 0.9,
        },
      },
      {
        selector: "edge.near",
        style: {
          width: 2.4,
          "line-color": colour("focus"),
          "target-arrow-color": colour("focus"),
        },
      },
      {
        selector: "edge.named",
        style: {
          label: "data(role)",
          "font-size": 11,
          color: ink,
          "text-background-color": card,
          "text-background-opacity": 0.9,
          "text-background-padding": 2,
        },
      },
      { selector: "core", style: { "active-bg-opacity": 0, "selection-box-opacity": 0 } },
    ];
  };

  const metrics = document.createElement("canvas").getContext("2d");
  metrics.font = "600 12.5px system-ui, sans-serif";
  const elements = (graph) => [
    ...graph.nodes.map((node) => {
      const failed = node.broken ? "✕ " : "";
      const more = node.more > 0 ? ` +${node.more}` : "";
      const label = `${failed}${node.label}${more}`;
      const widest = Math.max(...label.split("\n").map((line) => metrics.measureText(line).width));
      return { data: { ...node, label, width: widest + (node.kind === "tag" ? 44 : 26) } };
    }),
    ...graph.edges.map((edge) => ({ data: { ...edge, id: JSON.stringify([edge.source, edge.target, edge.role]) } })),
  ];

  let cy;
  let selected = canvas.dataset.selected;
  let drawing = new URL(canvas.dataset.drawing, location.href);
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

  const address = () => {
    const url = new URL("/graph", location.href);
    url.search = drawing.search;
    if (url.searchParams.get("hops") === "2") url.searchParams.delete("hops");
    if (selected !== canvas.dataset.node) url.searchParams.set("selected", selected);
    return url.pathname + url.search;
  };

  async function read() {
    const response = await fetch(drawing, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`the server responds ${response.status}`);
    return response.json();
  }

  // Where to pan so that a node is near the middle, and no side is left empty that could show more of the graph.
  function around(node) {
    const box = cy.elements().boundingBox();
    const at = node.nonempty() ? node.position() : { x: box.x1, y: box.y1 };
    const pan = (length, low, high, middle) => {
      const zoom = cy.zoom();
      if ((high - low) * zoom + 2 * EDGE < length) return length / 2 - ((low + high) / 2) * zoom;
      const [start, end, best] = [EDGE - low * zoom, length - EDGE - high * zoom, length / 2 - middle * zoom];
      const [beyond, before] = [best - end, start - best];
      if (beyond < SNAP && beyond <= before) return end;
      return before < SNAP ? start : best;
    };
    return { x: pan(cy.width(), box.x1, box.x2, at.x), y: pan(cy.height(), box.y1, box.y2, at.y) };
  }

  function arrange(animate) {
    const layout = cy.layout({
      name: "dagre",
      rankDir: "LR",
      nodeSep: 22,
      rankSep: 56,
      edgeSep: 12,
      nodeDimensionsIncludeLabels: true,
      animate: animate && !reducedMotion.matches,
      animationDuration: 250,
      fit: true,
      padding: EDGE,
    });
    layout.one("layoutstop", () => {
      // Neither huge nor too small to read: the rest is reached by dragging, by keys or by "Fit".
      if (cy.zoom() > 1.2) {
        cy.zoom(1.2);
        cy.center();
      } else if (cy.zoom() < SMALLEST) {
        cy.zoom(SMALLEST);
        cy.pan(around(cy.getElementById(selected)));
      }
    });
    layout.run();
  }

  function showOmitted(graph) {
    omitted.hidden = !graph.cut;
    omitted.textContent = graph.cut ? `${graph.cut} more nodes are not drawn: choose a smaller distance, or centre another node.` : "";
  }

  function mark() {
    cy.batch(() => {
      cy.elements().removeClass("selected near named centre");
      cy.getElementById(canvas.dataset.node).addClass("centre");
      const node = cy.getElementById(selected);
      node.addClass("selected");
      const joined = node.connectedEdges().addClass("near");
      if (joined.length <= NAMED_EDGES) joined.addClass("named");
    });
  }

  let pending = new AbortController();
  // The newest selection wins, in whatever order responses arrive.
  async function panel(wait) {
    pending.abort();
    pending = new AbortController();
    const { signal } = pending;
    try {
      if (wait) await new Promise((resolve) => setTimeout(resolve, 140));
      if (signal.aborted) return;
      const response = await fetch(address(), { headers: { Accept: "text/html" }, signal });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const panel = page.getElementById("panel");
      if (!panel) throw new Error(`the server responds ${response.status}`);
      document.getElementById("panel").replaceWith(panel);
      if (canvas.dataset.named) document.getElementById("panel-name").focus({ preventScroll: true });
      delete canvas.dataset.named;
    } catch (error) {
      if (error.name !== "AbortError") status.textContent = `The panel cannot be shown: ${error.message}`;
    }
  }

  function select(id, { push = true, keys = false } = {}) {
    const node = cy.getElementById(id);
    if (node.empty()) return;
    selected = id;
    mark();
    if (push) history[keys ? "replaceState" : "pushState"](null, "", address());
    panel(keys);
    const inside = cy.extent();
    const at = node.position();
    if (at.x < inside.x1 || at.x > inside.x2 || at.y < inside.y1 || at.y > inside.y2)
      cy.animate({ center: { eles: node }, duration: reducedMotion.matches ? 0 : 180 });
    const data = node.data();
    const words = [`${data.kindName} ${data.name}`, `comes from ${node.incomers("node").length}`, `leads to ${node.outgoers("node").length}`];
    if (data.broken) words.push("failed");
    if (data.more > 0) words.push(`${data.more} more neighbours, Enter shows them`);
    status.textContent = words.join(", ");
  }

  async function expand(id) {
    const node = cy.getElementById(id);
    if (node.empty() || !(node.data("more") > 0)) return false;
    drawing.searchParams.append("expand", id);
    try {
      const graph = await read();
      cy.json({ elements: elements(graph) });
      showOmitted(graph);
    } catch (error) {
      status.textContent = `It cannot be expanded: ${error.message}`;
      return false;
    }
    arrange(true);
    return true;
  }

  async function open(id, keys = false) {
    await expand(id);
    select(id, { keys });
  }

  // The nearest node that way: connected ones first, then whatever lies within a cone.
  function nearestIn(dx, dy) {
    const from = cy.getElementById(selected);
    if (from.empty()) return cy.nodes()[0]?.id();
    const at = from.position();
    const connected = dx > 0 ? from.outgoers("node") : dx < 0 ? from.incomers("node") : cy.collection();
    let best, smallest = Infinity;
    cy.nodes().forEach((node) => {
      if (node.id() === selected) return;
      const x = node.position().x - at.x;
      const y = node.position().y - at.y;
      const along = x * dx + y * dy;
      if (along <= 1) return;
      const across = Math.abs(dx ? y : x);
      const distance = along + 2.5 * across - (connected.contains(node) ? 10000 : 0);
      if (distance < smallest) [smallest, best] = [distance, node.id()];
    });
    return best;
  }

  const zoom = (factor) =>
    cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in directions) {
      const to = nearestIn(...directions[event.key]);
      if (to) select(to, { keys: true });
    } else if (event.key === "Enter" || event.key === " ") open(selected, true);
    else if (event.key === "Home") select(canvas.dataset.node, { keys: true });
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") cy.fit(undefined, EDGE);
    else return;
    event.preventDefault();
  }

  async function begin() {
    let graph;
    try {
      graph = await read();
    } catch (error) {
      canvas.textContent = `The graph cannot be drawn: ${error.message}`;
      return;
    }
    cy = cytoscape({
      container: canvas,
      elements: elements(graph),
      style: style(),
      minZoom: 0.1,
      maxZoom: 3,
      userZoomingEnabled: false,
      boxSelectionEnabled: false,
      autoungrabify: true,
      selectionType: "single",
      layout: { name: "preset" },
    });
    canvas.cy = cy;
    showOmitted(graph);
    arrange(false);
    mark();
    cy.on("tap", "node", (event) => {
      canvas.focus({ preventScroll: true });
      open(event.target.id());
    });
    cy.on("mouseover", "node", () => canvas.style.setProperty("cursor", "pointer"));
    cy.on("mouseout", "node", () => canvas.style.removeProperty("cursor"));
    canvas.addEventListener("keydown", keys);
    // The wheel scrolls the page; with Ctrl, or by pinching, it zooms.
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const at = { x: event.clientX - box.left, y: event.clientY - box.top };
      cy.zoom({ level: cy.zoom() * Math.exp(-event.deltaY / 300), renderedPosition: at });
    }, { passive: false });
    for (const [id, act] of [["zoom-in", () => zoom(1.25)], ["zoom-out", () => zoom(0.8)], ["zoom-fit", () => cy.fit(undefined, EDGE)]]) {
      const button = document.getElementById(id);
      button.hidden = false;
      button.addEventListener("click", act);
    }
    // Links to neighbours stay on the page where the node is drawn, or can be.
    document.addEventListener("click", async (event) => {
      const link = event.target.closest?.("#panel a[data-node]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
      event.preventDefault();
      if (cy.getElementById(link.dataset.node).empty()) await expand(selected);
      if (cy.getElementById(link.dataset.node).empty()) location.assign(link.href);
      else {
        canvas.dataset.named = "yes"; // who follows a link continues reading there
        select(link.dataset.node);
      }
    });
    addEventListener("popstate", () => location.reload());
    document.addEventListener("themechange", () => cy.style(style()));
    new ResizeObserver(() => cy.resize()).observe(canvas);
  }
  begin();
})();

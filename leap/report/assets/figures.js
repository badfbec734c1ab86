// Figures as inline SVG, drawn anew for each width so that their text keeps its size.

// In the order of MARKERS in leap/pages/palette.py.
const SHAPES = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", // disc
  "M-3.6,-3.6h7.2v7.2h-7.2z", // square
  "M0,-5l5,5l-5,5l-5,-5z", // diamond
  "M0,-4.6l4.6,8h-9.2z", // triangle
  "M0,4.6l4.6,-8h-9.2z", // triangle, down
  "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", // plus
  "M0,-5l1.5,3.4l3.6,.4l-2.7,2.5l.8,3.6l-3.2,-1.9l-3.2,1.9l.8,-3.6l-2.7,-2.5l3.6,-.4z", // star
  // cross
  "M-4.4,-2.2l2.2,-2.2l2.2,2.2l2.2,-2.2l2.2,2.2l-2.2,2.2l2.2,2.2l-2.2,2.2l-2.2,-2.2l-2.2,2.2l-2.2,-2.2l2.2,-2.2z",
];
const MARGIN = { left: 34, right: 8, top: 12, bottom: 40 };
const HEIGHT = 276;
const KEY_LINE = 18; // height of a model in the key of a saved figure
const PERCENT = { bottom: 0, top: 100, every: 20, digits: 1 }; // an axis: its ends, its ticks, digits of its values

function mark(model, x, y, title) {
  return svg(
    "path",
    { d: SHAPES[shape(model)], class: `mark ${hue(model)}`, transform: `translate(${x} ${y})` },
    svg("title", null, title),
  );
}

// A figure whose `draw(width)` returns an <svg>.
function figure(caption, draw, models) {
  const place = el("div", { class: "plot" });
  const width = () => Math.max(300, Math.round(place.clientWidth));
  let drawn = 0;
  new ResizeObserver(() => {
    if (place.clientWidth && width() !== drawn) {
      drawn = width();
      place.replaceChildren(draw(drawn));
    }
  }).observe(place);
  const save = (use) => () => use(caption, paperFigure(draw(width()), models));
  return el(
    "figure",
    null,
    el("figcaption", null, caption),
    place,
    key(models),
    el(
      "div",
      { class: "exports" },
      button("SVG", save(saveFigure), { "aria-label": `${caption}, as SVG` }),
      button("PDF", save(printFigure), { "aria-label": `${caption}, as PDF` }),
    ),
  );
}

// ---- a figure by itself

const DRAWN_STYLES = ["fill", "stroke", "stroke-width", "opacity", "font-size", "font-family", "font-style"];

// The figure with its key below, in the colours of paper, all of its style within.
function paperFigure(canvas, models) {
  const [width, height] = [canvas.width.baseVal.value, HEIGHT + KEY_LINE * models.length];
  for (const [name, value] of Object.entries({ xmlns: SVG, height, viewBox: `0 0 ${width} ${height}` }))
    canvas.setAttribute(name, value);
  models.forEach(([model, name], at) => {
    const y = HEIGHT + KEY_LINE * at;
    const label = svg("text", { class: "tick", x: MARGIN.left + 14, y: y + 4 }, `${letter(model)}  ${name}`);
    canvas.append(mark(model, MARGIN.left, y, name), label);
  });
  const paper = el("div", { class: "paper" }, canvas);
  document.body.append(paper);
  for (const node of canvas.querySelectorAll("path, line, polyline, text")) {
    const style = getComputedStyle(node);
    for (const name of DRAWN_STYLES) node.setAttribute(name, style.getPropertyValue(name));
  }
  paper.remove();
  return canvas;
}

function saveFigure(caption, canvas) {
  const text = new XMLSerializer().serializeToString(canvas);
  const address = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  el("a", { href: address, download: `${caption.split(/[,;]/)[0].replaceAll(" ", "_")}.svg` }).click();
}

// The browser's print dialog writes the figure as a PDF of one page of its size.
function printFigure(caption, canvas) {
  const [width, height] = [canvas.width.baseVal.value, canvas.height.baseVal.value];
  const size = new CSSStyleSheet();
  size.replaceSync(`@page { size: ${width}px ${height}px; margin: 0; }`);
  const paper = el("div", { class: "paper" }, canvas);
  const title = document.title;
  document.title = caption;
  document.adoptedStyleSheets = [size];
  document.body.append(paper);
  document.body.classList.add("one-figure");
  const finish = () => {
    document.title = title;
    document.adoptedStyleSheets = [];
    document.body.classList.remove("one-figure");
    paper.remove();
  };
  addEventListener("afterprint", finish, { once: true });
  print();
}

function key(models) {
  return el(
    "ul",
    { class: "key" },
    models.map(([model, name]) =>
      el(
        "li",
        null,
        svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, mark(model, 0, 0, name)),
        " ",
        tag(model, name),
        " ",
        name,
      ),
    ),
  );
}

function frame(width, label, { bottom, top, every }, columns) {
  const inner = width - MARGIN.left - MARGIN.right;
  const y = (value) => MARGIN.top + (HEIGHT - MARGIN.top - MARGIN.bottom) * (1 - (value - bottom) / (top - bottom));
  const step = inner / columns.length;
  const x = (column) => MARGIN.left + step * (column + 0.5);
  const canvas = svg("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`,
    width,
    height: HEIGHT,
    role: "img",
    "aria-label": label,
  });
  for (let value = bottom; value <= top; value += every) {
    canvas.append(
      svg("line", {
        class: value > bottom ? "grid" : "axis",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: y(value),
        y2: y(value),
      }),
      svg("text", { class: "tick", x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, value),
    );
  }
  columns.forEach((column, at) => canvas.append(columnLabel(column, x(at), step)));
  return { canvas, x, y, step };
}

const ruler = document.createElement("canvas").getContext("2d");

// In pixels, as a tick is written.
function widthOf(text) {
  ruler.font = `11.5px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

// The name of a column, in two lines where one is too narrow.
function columnLabel(column, x, width) {
  const fits = (text) => widthOf(text) < width - 4;
  const lines = fits(column) ? [column] : column.split(/ (?=\S+$)/);
  const cut = (line) => {
    if (fits(line)) return line;
    let short = line;
    while (short.length > 1 && !fits(`${short}\u2026`)) short = short.slice(0, -1);
    return `${short}\u2026`;
  };
  return svg(
    "text",
    { class: "tick", y: HEIGHT - MARGIN.bottom + 17, "text-anchor": "middle" },
    svg("title", null, column),
    lines.map((line, at) => svg("tspan", { x, dy: at * 13 }, cut(line))),
  );
}

const span = (model, x, low, high) => svg("line", { class: `span ${hue(model)}`, x1: x, x2: x, y1: low, y2: high });
const ends = (low, high, digits) => (low === null ? "no interval" : `${fixed(low, digits)} to ${fixed(high, digits)}`);

// A mark with its interval for each model (rows) in each column; null is written as missing, never drawn at 0.
function intervals(width, label, axis, columns, rows) {
  const { canvas, x, y, step } = frame(width, label, axis, columns);
  const { bottom, top, digits } = axis;
  const gap = Math.min(22, (step * 0.82) / rows.length);
  columns.forEach((column, at) => {
    if (at)
      canvas.append(
        svg("line", { class: "grid", x1: x(at) - step / 2, x2: x(at) - step / 2, y1: y(top), y2: y(bottom) }),
      );
    rows.forEach(({ model, name, values }, row) => {
      const middle = x(at) + gap * (row - (rows.length - 1) / 2);
      const value = values[at];
      if (!value) {
        canvas.append(
          svg(
            "text",
            { class: "none", x: middle, y: y(bottom) - 5, "text-anchor": "middle" },
            svg("title", null, `${name}, ${column}: missing`),
            "\u2013",
          ),
        );
        return;
      }
      const [mean, low, high] = value;
      const interval = ends(low, high, digits);
      canvas.append(
        span(model, middle, y(low ?? mean), y(high ?? mean)),
        mark(model, middle, y(mean), `${letter(model)} ${name}, ${column}: ${fixed(mean, digits)} (${interval})`),
      );
    });
  });
  return canvas;
}

// A line of marks with intervals for each model over the columns, side by side as far as there is room.
function lines(width, label, axis, columns, rows) {
  const { canvas, x: middle, y, step } = frame(width, label, axis, columns);
  const gap = Math.min(9, (step * 0.6) / rows.length);
  rows.forEach(({ model, name, values }, row) => {
    const x = (at) => middle(at) + gap * (row - (rows.length - 1) / 2);
    const points = values.map((value, at) => value && [x(at), y(value.mean)]).filter(Boolean);
    canvas.append(
      svg("polyline", { class: `curve ${hue(model)}`, points: points.map(([a, b]) => `${a},${b}`).join(" ") }),
    );
    values.forEach((value, at) => {
      if (!value) return;
      const { mean, low, high, examples } = value;
      canvas.append(
        span(model, x(at), y(low ?? mean), y(high ?? mean)),
        mark(
          model,
          x(at),
          y(mean),
          `${letter(model)} ${name}, ${columns[at]}: ${fixed(mean)} (${ends(low, high)}), ${plural(examples, "example")}`,
        ),
      );
    });
  });
  return canvas;
}

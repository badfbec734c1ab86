// Tables of results: cells with values, groups of rows, sorting by a column, and the table as text for others.
//
// A cell may carry "data-text", what is written of it elsewhere, and "data-value", a JSON [mean, low, high] to sort by.

// The head of a table; `titles` are texts, or [text, what it means].
function tableHead(titles) {
  const cells = titles.map((title) => (Array.isArray(title) ? title : [title]));
  return el(
    "thead",
    null,
    el(
      "tr",
      null,
      cells.map(([title, meaning]) => el("th", { scope: "col", title: meaning }, title)),
    ),
  );
}

// Rows under a row that names them.
function rowGroup(columns, title, rows, scope = "rowgroup") {
  return el("tbody", null, el("tr", { class: "group" }, el("th", { colspan: columns, scope }, title)), rows);
}

const modelHeader = (model, name) => el("th", { scope: "row", "data-text": name }, named(model, name));

const missingCell = (text = "missing") => el("td", { class: "none" }, text);

const countOf = (count) => el("td", { class: "count", "data-value": JSON.stringify([count]) }, thousands(count));

// A mean with its interval. The bar under it has one length a point in every cell of the axis.
function meanCell(value, note, { bottom, top, digits } = PERCENT) {
  if (!value) return missingCell();
  const [mean, low, high] = value;
  const ends = low === null ? null : [fixed(low, digits), fixed(high, digits)];
  return el(
    "td",
    {
      class: "mean",
      style: { "--share": Math.min(1, Math.max(0, (mean - bottom) / (top - bottom))) },
      "data-value": JSON.stringify(value),
      "data-text": fixed(mean, digits) + (ends ? ` (${ends.join(" to ")})` : ""),
    },
    el("b", null, fixed(mean, digits)),
    el("small", null, ends ? ends.join("\u2013") : "no interval"),
    note ? el("small", null, note) : null,
  );
}

function differenceCell(value, digits = 1) {
  if (!value) return missingCell();
  const [mean, low, high] = value;
  const kind = low === null ? "unclear" : low > 0 ? "better" : high < 0 ? "worse" : "unclear";
  const ends = low === null ? null : `${signed(low, digits)} to ${signed(high, digits)}`;
  return el(
    "td",
    {
      class: kind,
      "data-value": JSON.stringify(value),
      "data-text": (signed(mean, digits) + (ends ? ` (${ends})` : "")).replaceAll("\u2212", "-"),
    },
    el("b", null, { better: "\u25b2", worse: "\u25bc", unclear: "\u223c" }[kind], " ", signed(mean, digits)),
    el("small", null, ends || "no interval"),
  );
}

function signed(value, digits = 1) {
  const size = fixed(Math.abs(value), digits);
  return Number(size) === 0 ? size : `${value < 0 ? "\u2212" : "+"}${size}`;
}

// ---- sorting and writing

const sorting = {}; // by the name of a table, the title of a column and its direction

// A table called `name` that can be sorted by its columns and written as CSV, Markdown and LaTeX.
function dataTable(name, kind, titles, bodies) {
  const scroll = scrollTable(kind, tableHead(titles), bodies);
  const table = scroll.firstChild;
  const order = new Map([...table.tBodies].map((body) => [body, [...body.rows]]));
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const title = head.textContent;
    const turn = () => {
      const [sorted, direction] = sorting[name] || [];
      sorting[name] = sorted !== title ? [title, -1] : direction < 0 ? [title, 1] : [];
      sortRows(table, order, sorting[name]);
    };
    if (title) head.replaceChildren(button(title, turn, { class: "sort", name: `${name}-${column}` }));
  }
  sortRows(table, order, sorting[name] || []);
  const writers = { CSV: asCsv, Markdown: asMarkdown, LaTeX: asLatex };
  return el(
    "div",
    { class: "data-table" },
    scroll,
    el(
      "div",
      { class: "exports" },
      Object.entries(writers).map(([format, write]) =>
        button(format, () => offerText(`${name}.${EXTENSIONS[format]}`, write(readTable(table))), {
          "aria-label": `${words(name)} as ${format}`,
        }),
      ),
    ),
  );
}

const valueOf = (cell) => (cell && cell.dataset.value ? JSON.parse(cell.dataset.value) : null);
const textOf = (cell) => cell.dataset.text ?? cell.textContent;

// Largest first (direction -1) or smallest; texts from A or from Z; what has no value last.
function sortRows(table, order, [title, direction]) {
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.textContent === title);
  for (const [at, head] of heads.entries()) {
    if (at === column) head.setAttribute("aria-sort", direction < 0 ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const compare = (a, b) => {
    const [x, y] = [a, b].map((row) => valueOf(row.cells[column]));
    if (x && y) return direction * (x[0] - y[0]);
    if (x || y) return x ? -1 : 1;
    return -direction * textOf(a.cells[column]).localeCompare(textOf(b.cells[column]), "en", { numeric: true });
  };
  for (const [body, rows] of order) {
    const sorted = rows.filter((row) => !row.classList.contains("group"));
    if (column >= 0) sorted.sort(compare);
    body.append(...rows.filter((row) => row.classList.contains("group")), ...sorted);
  }
}

// {titles, groups: [{title or null, rows: [[cell]]}]}
function readTable(table) {
  const titles = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  const groups = [...table.tBodies].map((body) => {
    const rows = [...body.rows];
    const group = rows.find((row) => row.classList.contains("group"));
    return { title: group ? group.textContent : null, rows: rows.filter((row) => row !== group).map(cellsOf) };
  });
  return { titles, groups };
}

const cellsOf = (row) => [...row.cells].map((cell) => ({ text: textOf(cell), value: valueOf(cell) }));
const isGrouped = ({ groups }) => groups.some(({ title }) => title !== null);

// Numbers as they are, an interval in two columns more.
function asCsv(table) {
  const { titles, groups } = table;
  const all = groups.flatMap(({ rows }) => rows);
  const wide = titles.map((_, column) => all.some((row) => row[column] && row[column].value?.length > 1));
  const spread = (cell, column) => {
    if (!wide[column]) return [cell.value ? cell.value[0] : cell.text];
    return cell.value ? [0, 1, 2].map((end) => cell.value[end] ?? "") : ["", "", ""];
  };
  const head = titles.flatMap((title, column) => (wide[column] ? [title, `${title} low`, `${title} high`] : [title]));
  const lines = groups.flatMap(({ title, rows }) =>
    rows.map((row) => [...(isGrouped(table) ? [title ?? ""] : []), ...row.flatMap(spread)]),
  );
  const quoted = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  return [[...(isGrouped(table) ? ["Group"] : []), ...head], ...lines]
    .map((line) => `${line.map(quoted).join(",")}\n`)
    .join("");
}

function asMarkdown(table) {
  const grouped = isGrouped(table);
  const line = (cells) => `| ${cells.map((text) => String(text).replaceAll("|", "\\|")).join(" | ")} |\n`;
  const titles = [...(grouped ? [""] : []), ...table.titles];
  const rows = table.groups.flatMap(({ title, rows }) =>
    rows.map((row) => line([...(grouped ? [title ?? ""] : []), ...row.map(({ text }) => text)])),
  );
  const rule = titles.map((_, column) => (column <= Number(grouped) ? "---" : "---:"));
  return line(titles) + line(rule) + rows.join("");
}

// With the rules of the package booktabs.
function asLatex({ titles, groups }) {
  const escaped = (text) =>
    text
      .replace(
        /[\\&%$#_{}~^]/g,
        (sign) => ({ "\\": "\\textbackslash{}", "~": "\\~{}", "^": "\\^{}" })[sign] || `\\${sign}`,
      )
      .replaceAll("\u2013", "--")
      .replaceAll("\u2212", "$-$");
  const line = (cells) => `${cells.map(escaped).join(" & ")} \\\\\n`;
  const body = groups.map(({ title, rows }) => {
    const heading = title === null ? "" : `\\multicolumn{${titles.length}}{l}{\\textbf{${escaped(title)}}} \\\\\n`;
    return `\\midrule\n${heading}${rows.map((row) => line(row.map(({ text }) => text))).join("")}`;
  });
  const columns = `l${"r".repeat(titles.length - 1)}`;
  return `\\begin{tabular}{${columns}}\n\\toprule\n${line(titles)}${body.join("")}\\bottomrule\n\\end{tabular}\n`;
}

const EXTENSIONS = { CSV: "csv", Markdown: "md", LaTeX: "tex" };

// Text to copy or to save as a file.
function offerText(file, text) {
  const area = el("textarea", { readonly: true, rows: 14, cols: 80, spellcheck: "false", "aria-label": file }, text);
  const copy = () => {
    area.select();
    navigator.clipboard?.writeText(text).catch(() => null); // where that is not allowed, it is selected to be copied
  };
  const address = `data:text/plain;charset=utf-8,${encodeURIComponent(text)}`;
  openDialog(
    file,
    area,
    el("p", { class: "row-actions" }, button("Copy", copy), el("a", { href: address, download: file }, "Save as file")),
  );
  area.select();
}

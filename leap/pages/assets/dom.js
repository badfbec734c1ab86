// Elements. Data become text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function option(value, text, selected) {
  return el("option", { value, selected: value === selected }, text);
}

// A drop-down with its label; `choices` are [value, text].
function choice(label, name, choices, selected, onchange) {
  const select = el(
    "select",
    { name, onchange: () => onchange(select.value) },
    choices.map(([value, text]) => option(value, text, selected)),
  );
  return el("label", { class: "choice" }, el("span", null, label), select);
}

function button(text, onclick, attributes) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

const section = (title, ...content) => el("section", null, el("h2", null, title), content);

// A table that scrolls by itself where it is wider than the page, with the keys too.
const scrollTable = (kind, ...parts) => el("div", { class: "scroll", tabindex: 0 }, el("table", { class: kind }, parts));

// Put new children into `node`; the control that had the focus has it again, found by its name.
function redraw(node, children) {
  const name = node.contains(document.activeElement) ? document.activeElement.name : null;
  node.replaceChildren(...children);
  const control = name && node.querySelector(`[name="${CSS.escape(name)}"]`);
  if (control) control.focus();
}

const nearest = (list, place) => list[Math.min(list.length - 1, Math.max(0, place))];

const isShortcut = (event) => event.ctrlKey || event.metaKey || event.altKey;

const words = (name) => name.replaceAll("_", " ");
// Rounds as Python does, so that the page shows the digits of tables and figures: halfway goes to the even digit.
function fixed(value, digits = 1) {
  const exact = Math.abs(value).toFixed(digits + 50);
  const [digitsShown, rest] = [exact.slice(0, -50), exact.slice(-50)];
  const halfway = /^50*$/.test(rest) && "02468".includes(digitsShown.replace(".", "").at(-1));
  return halfway ? (value < 0 ? "-" : "") + digitsShown.replace(/\.$/, "") : value.toFixed(digits);
}
const thousands = (value) => value.toLocaleString("en");
const plural = (count, noun) => `${thousands(count)} ${noun}${count === 1 ? "" : "s"}`;

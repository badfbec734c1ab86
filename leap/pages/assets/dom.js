// Elements. Data become text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
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

const words = (name) => name.replaceAll("_", " ");
// Rounds as Python does, so that the page shows the digits of tables and figures: what lies halfway goes to the even one.
function fixed(value, digits = 1) {
  const exact = Math.abs(value).toFixed(digits + 50);
  const [kept, rest] = [exact.slice(0, -50), exact.slice(-50)];
  const halfway = /^50*$/.test(rest) && "02468".includes(kept.replace(".", "").at(-1));
  return halfway ? (value < 0 ? "-" : "") + kept.replace(/\.$/, "") : value.toFixed(digits);
}
const thousands = (value) => value.toLocaleString("en");
const plural = (count, one) => `${thousands(count)} ${one}${count === 1 ? "" : "s"}`;

// Models are told apart by letter, shape and colour, in that order of trust.
const letter = (model) =>
  (model < 26 ? "" : letter(Math.floor(model / 26) - 1)) + String.fromCharCode(65 + (model % 26));
const hue = (model) => `m${model % 8}`;

function tag(model, name) {
  return el("span", { class: `tag ${hue(model)}`, title: name }, letter(model));
}

// A name that may be broken after each "_" and "-".
function breakable(name) {
  return name.split(/(?<=[_-])/).map((part) => [part, el("wbr")]);
}

function named(model, name) {
  return el("span", { class: "named" }, tag(model, name), " ", el("span", { class: "name" }, breakable(name)));
}

// Models are told apart by letter, shape and colour, in that order of trust; which of them are shown.

const letter = (model) =>
  (model < 26 ? "" : letter(Math.floor(model / 26) - 1)) + String.fromCharCode(65 + (model % 26));
const hue = (model) => `m${report.index.looks[model][0]}`;
const shape = (model) => report.index.looks[model][1];

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

// The models that the address chooses; `otherwise` are those shown at first.
function shownModels(filters, otherwise) {
  if (filters.show === undefined) return otherwise;
  const letters = filters.show.split(" ");
  return report.index.models.map((_, model) => model).filter((model) => letters.includes(letter(model)));
}

// A button a model that shows and hides it; `onchange` gets the new value of the filter "show".
function modelToggles(shown, onchange, withNames) {
  const { models } = report.index;
  return models.map((name, model) => {
    const on = shown.includes(model);
    const toggle = () => {
      const next = models.map((_, other) => other).filter((other) => (other === model) !== shown.includes(other));
      onchange(next.map(letter).join(" ") || "none");
    };
    return el(
      "button",
      {
        type: "button",
        class: withNames ? "toggle" : `tag ${hue(model)}`,
        name: letter(model),
        "aria-pressed": String(on),
        title: `${on ? "Hide" : "Show"} ${name}`,
        onclick: toggle,
      },
      withNames ? named(model, name) : letter(model),
    );
  });
}

const dimensionTitle = (dimension) => report.index.titles[dimension] || dimension;
const taskTitle = (task) => words(task).replace(/^./, (first) => first.toUpperCase());

// Where an example is, as in "Common sense / Select fruit / 0".
function placeTitle(at) {
  const { examples, tasks, dimensions } = report.index;
  const [task, dimension] = tasks[examples.task[at]];
  return [dimensionTitle(dimensions[dimension]), taskTitle(task), examples.number[at]].join(" / ");
}

// Which examples the filters leave, in which order, and the list that shows only the rows in sight.

const ROW_HEIGHT = 78;
const SPARE_ROWS = 4;
const ISLANDS_AT_ONCE = 8;

const flagBit = (name) => {
  const at = report.index.flags.indexOf(name);
  return at < 0 ? 0 : 1 << at;
};

// Lower-case texts of each example: its instruction, place and task's name, and once they were read the answers too.
const searched = { questions: null, answers: null, reading: false };

function texts(filters) {
  const { examples, tasks } = report.index;
  searched.questions =
    searched.questions ||
    examples.instruction.map((text, at) =>
      `${text || ""} ${tasks[examples.task[at]][0]}/${examples.number[at]} ${placeTitle(at)}`.toLowerCase(),
    );
  return (needsAnswers(filters) && searched.answers) || searched.questions;
}

const needsAnswers = (filters) => Boolean(filters.q) && filters.where === "answers";

// Unpack the answers of all examples, a few islands at a time, of which the texts alone are kept.
async function readAnswers() {
  searched.reading = true;
  const questions = texts({});
  const islands = Math.ceil(questions.length / report.index.details_an_island);
  const answers = [];
  for (let first = 0; first < islands; first += ISLANDS_AT_ONCE) {
    const numbers = Array.from({ length: Math.min(ISLANDS_AT_ONCE, islands - first) }, (_, at) => first + at);
    for (const detail of (await Promise.all(numbers.map((number) => unpack(`details-${number}`)))).flat()) {
      const said = detail.answers.map((answer) => (answer && answer.text) || "");
      answers.push(`${questions[answers.length]} ${said.join(" ").toLowerCase()}`);
    }
  }
  searched.answers = answers;
}

// The examples that the filters on the question leave, and the models that those on the answer look at.
function inQuestion(filters) {
  const { examples, tasks, dimensions, models } = report.index;
  const needles = (filters.q || "").toLowerCase().split(/\s+/).filter(Boolean);
  const all = texts(filters);
  const rows = [];
  for (let at = 0; at < all.length; at += 1) {
    const [task, dimension] = tasks[examples.task[at]];
    if (filters.dimension && dimensions[dimension] !== filters.dimension) continue;
    if (filters.task && task !== filters.task) continue;
    if (needles.every((needle) => all[at].includes(needle))) rows.push(at);
  }
  const chosenModel = models.indexOf(filters.model);
  return { rows, looked: chosenModel < 0 ? models.map((_, model) => model) : [chosenModel] };
}

// Examples, in order, of which one model looked at has the outcome and the error at once.
function matching(filters) {
  const { answers } = report.index;
  const { rows, looked } = inQuestion(filters);
  const mask = flagBit(filters.outcome) | flagBit(filters.error);
  const left = mask ? rows.filter((at) => looked.some((model) => (answers[model].flags[at] & mask) === mask)) : rows;
  const value = sortValue(filters, looked);
  if (!value) return left;
  const values = new Map(left.map((at) => [at, value(at)]));
  return left.sort((a, b) => {
    const [x, y] = [values.get(a), values.get(b)];
    return x === y ? a - b : x === null ? 1 : y === null ? -1 : y - x || a - b;
  });
}

// How many examples each flag would leave.
function flagCounts(filters) {
  const { answers, flags } = report.index;
  const { rows, looked } = inQuestion(filters);
  const counts = flags.map(() => 0);
  for (const at of rows) {
    let some = 0;
    for (const model of looked) some |= answers[model].flags[at];
    for (let bit = 0; bit < flags.length; bit += 1) if (some & (1 << bit)) counts[bit] += 1;
  }
  return Object.fromEntries(flags.map((name, bit) => [name, counts[bit]]));
}

function difference(filters, at) {
  const { answers } = report.index;
  const [a, b] = pairOf(filters).map((model) => answers[model].grounded[at]);
  return a === null || b === null ? null : a - b;
}

// The two models whose disagreement is meant.
function pairOf(filters) {
  const { models } = report.index;
  const find = (name, otherwise) => (models.includes(name) ? models.indexOf(name) : otherwise);
  return [find(filters.a, 0), find(filters.b, models.length - 1)];
}

// What to sort by, largest first and null last; null for the benchmark's own order.
function sortValue(filters, looked) {
  const { answers } = report.index;
  const mean = (at) => {
    const scores = looked.map((model) => answers[model].grounded[at]).filter((score) => score !== null);
    return scores.length ? scores.reduce((a, b) => a + b, 0) / scores.length : null;
  };
  const times = (sign, read) => (at) => {
    const value = read(at);
    return value === null ? null : sign * value;
  };
  const delta = (at) => difference(filters, at);
  return (
    {
      low: times(-1, mean),
      high: mean,
      disagree: (at) => (delta(at) === null ? null : Math.abs(delta(at))),
      a: delta,
      b: times(-1, delta),
    }[filters.sort] || null
  );
}

// What stands in a badge instead of a score.
const NO_SCORE = [
  ["machine_failure", "failed"],
  ["bad_example", "bad ex."],
  ["no_answer", "\u2013"],
];

function badge(model, at) {
  const { answers, models } = report.index;
  const flags = answers[model].flags[at];
  const score = answers[model].grounded[at];
  const without = NO_SCORE.find(([flag]) => flags & flagBit(flag));
  const right = flags & flagBit("right");
  const noPlan = flags & flagBit("format_error");
  const text = without ? without[1] : score === null ? "?" : right ? "\u2713" : noPlan ? "\u2205" : fixed(score, 0);
  const meaning = without
    ? words(without[0])
    : score === null
      ? "not scored"
      : right
        ? "right plan"
        : noPlan
          ? "no plan in the answer"
          : `${text} of 100, grounded`;
  const title = `${models[model]}: ${meaning}`;
  return el(
    "span",
    { class: `badge ${hue(model)} ${right ? "right" : without || score === null ? "none" : "wrong"}`, title },
    el("b", null, letter(model)),
    text,
  );
}

class ExampleList {
  constructor(onpick) {
    this.rows = [];
    this.shown = [];
    this.current = -1;
    this.filters = {};
    this.spacer = el("div", { class: "spacer" });
    this.node = el(
      "div",
      {
        class: "list",
        role: "listbox",
        tabindex: 0,
        "aria-label": "Examples",
        onscroll: () => this.draw(),
        onclick: (event) => {
          const row = event.target.closest("[data-at]");
          if (row) onpick(Number(row.dataset.at));
        },
      },
      this.spacer,
    );
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  set(rows, shown, filters) {
    [this.rows, this.shown, this.filters] = [rows, shown, filters];
    this.spacer.style.height = `${rows.length * ROW_HEIGHT}px`;
    this.from = -1;
    this.draw();
  }

  // Mark an example and bring it into sight.
  mark(at) {
    this.current = at;
    const place = this.rows.indexOf(at);
    if (place >= 0 && this.node.clientHeight) {
      const top = place * ROW_HEIGHT;
      if (top < this.node.scrollTop) this.node.scrollTop = top;
      else if (top + ROW_HEIGHT > this.node.scrollTop + this.node.clientHeight)
        this.node.scrollTop = top + ROW_HEIGHT - this.node.clientHeight;
    }
    this.from = -1;
    this.draw();
  }

  draw() {
    const from = Math.max(0, Math.floor(this.node.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
    const to = Math.min(
      this.rows.length,
      Math.ceil((this.node.scrollTop + this.node.clientHeight) / ROW_HEIGHT) + SPARE_ROWS,
    );
    if (from === this.from && to === this.to) return;
    [this.from, this.to] = [from, to];
    const rows = [];
    for (let place = from; place < to; place += 1) rows.push(this.row(this.rows[place], place));
    this.spacer.replaceChildren(...rows);
    const selected = this.spacer.querySelector("[aria-selected=true]");
    if (selected) this.node.setAttribute("aria-activedescendant", selected.id);
    else this.node.removeAttribute("aria-activedescendant");
  }

  row(at, place) {
    const { examples } = report.index;
    const image = el("img", { class: "thumb", alt: "", decoding: "async" });
    const plain = examples.pictures[at][0];
    showPicture(image, report.index.pictures, plain, () => image.classList.add("lost"));
    const delta = ["disagree", "a", "b"].includes(this.filters.sort) ? difference(this.filters, at) : null;
    return el(
      "div",
      {
        class: "row",
        role: "option",
        id: `row-${at}`,
        "data-at": at,
        "aria-selected": String(at === this.current),
        "aria-posinset": place + 1,
        "aria-setsize": this.rows.length,
        style: { top: `${place * ROW_HEIGHT}px` },
      },
      image,
      el(
        "div",
        { class: "about" },
        el("div", { class: "instruction" }, examples.instruction[at] || el("i", null, "no instruction at hand")),
        el("div", { class: "place" }, placeTitle(at)),
        el(
          "div",
          { class: "badges" },
          this.shown.map((model) => badge(model, at)),
          delta === null ? null : el("span", { class: "delta" }, `\u0394 ${delta > 0 ? "+" : ""}${fixed(delta, 0)}`),
        ),
      ),
    );
  }
}

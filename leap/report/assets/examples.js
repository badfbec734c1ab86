// The browser of examples: filters, list, one example beside it; all of its state is in the address.

const MOST_SHOWN = 6; // models shown at first, if there are more

const OUTCOME_FILTERS = [
  ["right", "right plan"],
  ["not_right", "plan read, not right"],
  ["format_error", "format error, grounded"],
  ["official_format_error", "format error, official"],
  ["official_score_error", "score error, official"],
  ["cut_by_length", "cut by the token limit"],
  ["machine_failure", "machine failure"],
  ["bad_example", "bad example"],
  ["no_answer", "not answered"],
];

const browser = {
  node: null,
  list: null,
  search: null,
  controls: null,
  shown: null,
  detail: null,
  count: null,
  route: null,
  rows: [],
  at: -1,
  next: null,
  key: null,
};

pages.examples = {
  title: "Examples",

  render(main, route, isNew) {
    document.body.classList.add("app");
    if (!browser.node) build();
    if (main.firstChild !== browser.node) main.replaceChildren(browser.node);
    if (needsAnswers(route.filters) && !searched.reading) readAnswers().then(refilter);
    const changed = isNew || !browser.route || JSON.stringify(browser.route.filters) !== JSON.stringify(route.filters);
    browser.route = route;
    if (changed) applyFilters();
    const at = route.place ? findExample(route.place) : -1;
    browser.node.classList.toggle("opened", Boolean(route.place));
    if (route.place && at < 0) return lost(route.place);
    showExample(at >= 0 ? at : isWide() && browser.rows.length ? browser.rows[0] : -1);
  },

  key(event) {
    const moves = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
    const scrolls = event.key.startsWith("Arrow") && browser.detail.contains(document.activeElement);
    if (scrolls) return false;
    if (event.key in moves) move(moves[event.key]);
    else if (event.key === "/") browser.search.focus();
    else if (event.key === "r") flip("raw");
    else if (event.key === "Enter" && document.activeElement === browser.list.node && browser.at >= 0) open(browser.at);
    else if (event.key === "Escape" && !isWide())
      go({ page: "examples", place: null, filters: browser.route.filters }, true);
    else return false;
    return true;
  },
};

// Filter anew, now that the answers can be searched.
function refilter() {
  browser.next = browser.route = null;
  if (document.body.dataset.page === "examples") show();
}

const isWide = () => matchMedia("(min-width: 1000px)").matches;

function build() {
  browser.list = new ExampleList(open);
  browser.search = el("input", {
    name: "q",
    type: "search",
    placeholder: "Search",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => setFilter({ q: browser.search.value }),
  });
  browser.controls = el("div", { class: "others" });
  browser.count = el("p", { class: "found", role: "status" });
  browser.shown = el("div", { class: "shown", role: "group", "aria-label": "Models shown" });
  browser.detail = el("article", { class: "detail", tabindex: 0, "aria-label": "Example" });
  const search = el(
    "label",
    { class: "choice search" },
    el("span", null, "Search ", el("kbd", null, "/")),
    browser.search,
  );
  browser.node = el(
    "div",
    { class: "examples" },
    el("div", { class: "controls" }, search, browser.controls),
    el(
      "div",
      { class: "panes" },
      el(
        "div",
        { class: "list-pane" },
        el("div", { class: "list-head" }, browser.count, browser.shown),
        browser.list.node,
      ),
      browser.detail,
    ),
  );
}

function findExample({ dimension, task, number }) {
  const { examples, tasks, dimensions } = report.index;
  const index = tasks.findIndex(([name, place]) => name === task && dimensions[place] === dimension);
  return index < 0 ? -1 : examples.task.findIndex((task, at) => task === index && examples.number[at] === number);
}

function placeOf(at) {
  const { examples, tasks, dimensions } = report.index;
  const [task, dimension] = tasks[examples.task[at]];
  return { dimension: dimensions[dimension], task, number: examples.number[at] };
}

const shownHere = () =>
  shownModels(browser.route.filters, report.index.models.map((_, model) => model).slice(0, MOST_SHOWN));

// Open an example; from the list alone this is a step that the browser's "back" undoes.
function open(at) {
  go({ page: "examples", place: placeOf(at), filters: browser.route.filters }, Boolean(browser.route.place));
}

function move(by) {
  const place = browser.rows.indexOf(browser.at);
  const next = nearest(browser.rows, place < 0 ? 0 : place + by);
  if (next !== undefined) open(next);
}

function flip(fold) {
  const node = browser.detail.querySelector(`[data-fold=${fold}]`);
  if (!node) return;
  node.open = !node.open;
  opened[fold] = node.open; // the toggle event may come after the next example
}

// Change filters. The open example stays if it is still in the list.
function setFilter(changes) {
  const filters = { ...browser.route.filters, ...changes };
  for (const name of Object.keys(filters)) if (!filters[name]) delete filters[name];
  const rows = matching(filters);
  browser.next = { filters: JSON.stringify(filters), rows };
  const stays = browser.route.place && rows.includes(browser.at);
  go({ page: "examples", place: stays ? browser.route.place : null, filters }, true);
}

function applyFilters() {
  const { filters } = browser.route;
  browser.rows =
    browser.next && browser.next.filters === JSON.stringify(filters) ? browser.next.rows : matching(filters);
  browser.next = null;
  drawControls(filters);
  drawShown();
  const total = report.index.examples.task.length;
  browser.count.textContent =
    needsAnswers(filters) && !searched.answers
      ? "Reading the answers\u2026"
      : browser.rows.length === total
        ? plural(total, "example")
        : `${thousands(browser.rows.length)} of ${plural(total, "example")}`;
  browser.list.node.scrollTop = 0;
  browser.list.set(browser.rows, shownHere(), filters);
}

function drawControls(filters) {
  const { dimensions, tasks, models, flags } = report.index;
  const counts = flagCounts(filters);
  const numbered = (list) => list.map(([value, text]) => [value, `${text} (${thousands(counts[value])})`]);
  const ofDimension = tasks
    .filter(([, of]) => !filters.dimension || dimensions[of] === filters.dimension)
    .map(([name]) => [name, taskTitle(name)]);
  const modelChoices = models.map((name, model) => [name, `${letter(model)}  ${name}`]);
  const [a, b] = pairOf(filters).map((model) => models[model]);
  const mean = filters.model ? "score" : "mean score";
  const pairing = ["disagree", "a", "b"].includes(filters.sort);
  if (browser.search.value !== (filters.q || "")) browser.search.value = filters.q || "";
  const pick = (name) => (value) => setFilter({ [name]: value });
  const parts = [
    choice(
      "Search in",
      "where",
      [
        ["", "instructions"],
        ["answers", "answers too"],
      ],
      filters.where || "",
      pick("where"),
    ),
    choice(
      "Dimension",
      "dimension",
      [["", "all"], ...dimensions.map((name) => [name, dimensionTitle(name)])],
      filters.dimension || "",
      (value) => setFilter({ dimension: value, task: "" }),
    ),
    choice("Task", "task", [["", "all"], ...ofDimension], filters.task || "", pick("task")),
    choice("Model", "model", [["", "any model"], ...modelChoices], filters.model || "", pick("model")),
    choice("Outcome", "outcome", [["", "any"], ...numbered(OUTCOME_FILTERS)], filters.outcome || "", pick("outcome")),
    choice(
      "Error",
      "error",
      [["", "any"], ...numbered(report.overview.error_labels.map((name) => [name, words(name)]))],
      filters.error || "",
      pick("error"),
    ),
    choice(
      "Sort",
      "sort",
      [
        ["", "benchmark order"],
        ["low", `lowest ${mean} first`],
        ["high", `highest ${mean} first`],
        ...(models.length > 1
          ? [
              ["disagree", "disagreement of two models"],
              ["a", "first better than second"],
              ["b", "second better than first"],
            ]
          : []),
      ],
      filters.sort || "",
      pick("sort"),
    ),
    pairing ? choice("First", "a", modelChoices, a, pick("a")) : null,
    pairing ? choice("Second", "b", modelChoices, b, pick("b")) : null,
    Object.keys(filters).length
      ? el(
          "button",
          {
            type: "button",
            class: "reset",
            onclick: () => go({ page: "examples", place: browser.route.place, filters: {} }, true),
          },
          "Reset",
        )
      : null,
  ].filter(Boolean);
  redraw(browser.controls, parts);
}

function drawShown() {
  const toggles = modelToggles(shownHere(), (letters) => setFilter({ show: letters }));
  redraw(browser.shown, toggles.length < 2 ? [] : toggles);
}

async function showExample(at) {
  const key = JSON.stringify([at, browser.route.filters.show]);
  browser.at = at;
  browser.list.mark(at);
  if (key === browser.key) return;
  browser.key = key;
  if (at < 0) {
    browser.detail.replaceChildren(
      el(
        "p",
        { class: "wait" },
        browser.rows.length ? "Choose an example." : "No example has all of this. Loosen a filter.",
      ),
    );
    return;
  }
  const { details_an_island: anIsland } = report.index;
  const details = await detailsIn(Math.floor(at / anIsland));
  if (browser.key !== key) return; // the reader is elsewhere already
  browser.detail.replaceChildren(
    ...exampleView(at, details[at % anIsland], shownHere(), [
      button("\u2190 List", () => go({ page: "examples", place: null, filters: browser.route.filters }, true), {
        title: "Back to the list (Esc)",
      }),
      button("\u2191", () => move(-1), { title: "Previous example (k)" }),
      button("\u2193", () => move(1), { title: "Next example (j)" }),
      el(
        "a",
        {
          class: "link",
          href: writeRoute({ page: "examples", place: placeOf(at), filters: {} }),
          title: "The address of this example",
        },
        "link",
      ),
    ]).filter(Boolean),
  );
  browser.detail.scrollTop = 0;
}

function lost({ dimension, task, number }) {
  browser.at = -1;
  browser.key = null;
  browser.list.mark(-1);
  browser.detail.replaceChildren(
    el("p", { class: "note" }, `This report has no example ${dimension}/${task}/${number}.`),
  );
}

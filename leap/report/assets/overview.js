// The overview: what the scores mean, the results table, figures, outcomes, errors, settings.

const TABLE = [
  ["grounded", "total_score"],
  ["official", "total_score"],
  ["grounded", "skill_match_score"],
  ["grounded", "entity_match_score"],
  ["official", "entity_match_score"],
  ["grounded", "plan_success"],
];

// The words of a measure and its best value, as leap/plans/measures.py has them.
const measureOf = (scorer, metric) => report.overview.measures[`${scorer}.${metric}`];

function heading(scorer, metric) {
  const { name } = measureOf(scorer, metric);
  return name[0].toUpperCase() + name.slice(1);
}

// "0.4 skill match + ..." of the first terms of the total score.
const termsOf = (count) =>
  Object.entries(report.overview.weights)
    .slice(0, count)
    .map(([metric, weight]) => `${weight} ${measureOf("grounded", metric).title}`)
    .join(" + ");

const MOST_COMPARED = 8; // models shown at first, if there are more
const MEANS = [
  ["macro", "mean of dimensions"],
  ["micro", "mean of examples"],
];

pages.overview = {
  title: "Overview",
  render(main, { filters }) {
    document.body.classList.remove("app");
    const shown = shownModels(filters, firstModels());
    const set = (changes) => go({ page: "overview", place: null, filters: { ...filters, ...changes } }, true);
    const content = el(
      "div",
      { class: "overview" },
      headline(),
      facts(shown, set),
      report.overview.notes.map((note) => el("p", { class: "note", role: "note" }, el("strong", null, "Note: "), note)),
      el(
        "section",
        { class: "figures" },
        el("h2", null, "By dimension"),
        scoreFigure("grounded", shown),
        scoreFigure("official", shown),
      ),
      resultsSection(shown, filters, set),
      differences(shown, filters, set),
      folded("dimensions", "Each measure by dimension", () => dimensionTable(shown, filters, set)),
      folded("reading", "How to read the two scores", howToRead),
      folded("wrong", "What went wrong", () => breakdown(shown)),
      folded("settings", "Settings and provenance", () =>
        shown.map((model) => settingsOf(report.overview.models[model], model)),
      ),
    );
    redraw(main, [content]);
  },
};

// A section that is made when it is opened first.
function folded(name, title, make) {
  const body = el("div", { class: "fold-body" });
  const fillBody = () => body.firstChild || body.append(...[make()].flat(Infinity));
  if (opened[name]) fillBody();
  return el(
    "details",
    {
      class: "section",
      "data-fold": name,
      open: opened[name],
      ontoggle: (event) => {
        opened[name] = event.target.open;
        if (opened[name]) fillBody();
      },
    },
    el("summary", null, el("h2", null, title)),
    body,
  );
}

// All models, or of many those in the headline and then the first.
function firstModels() {
  const { models } = report.index;
  const named = (report.overview.headline || { models: [] }).models.map((name) => models.indexOf(name));
  const others = models.map((_, model) => model).filter((model) => !named.includes(model));
  return [...named, ...others].slice(0, MOST_COMPARED).sort((a, b) => a - b);
}

// What the best model reaches, and four numbers.
function headline() {
  const { headline: said } = report.overview;
  if (!said) return null;
  return el(
    "section",
    { class: "headline" },
    el("h2", null, said.sentence),
    el(
      "ul",
      { class: "numbers" },
      said.numbers.map(({ title, note, value, best }) => {
        const [mean, low, high] = value;
        const write = best === null ? signed : fixed;
        return el(
          "li",
          { title: note },
          el("span", { class: "title" }, title),
          el("b", null, write(mean)),
          el(
            "small",
            null,
            low === null ? "no interval" : `${write(low)} to ${write(high)}`,
            best === null ? " points" : ` of ${best}`,
          ),
        );
      }),
    ),
  );
}

function madeWith() {
  const { made, code_revision: revision } = report.overview;
  return `Made ${made.slice(0, 16).replace("T", " ")} UTC${revision ? ` with LEAP at ${revision.slice(0, 12)}` : ""}.`;
}

function facts(shown, set) {
  const { index } = report;
  return el(
    "div",
    { class: "facts" },
    el(
      "p",
      null,
      plural(index.models.length, "model"),
      ", ",
      plural(index.examples.task.length, "example"),
      ", ",
      plural(index.tasks.length, "task"),
      ". ",
      madeWith(),
    ),
    el(
      "div",
      { class: "legend", role: "group", "aria-label": "Models shown" },
      modelToggles(shown, (letters) => set({ show: letters }), true),
    ),
  );
}

function howToRead() {
  return el(
    "div",
    { class: "reading" },
    el(
      "p",
      null,
      el("strong", null, "official"),
      " is VLABench's own scorer, quirks included: it reads JSON in a ",
      el("code", null, "```json"),
      " fence only, an id written as a string never matches, extra steps cost nothing, and its total is ",
      `${termsOf(2)} and nothing else, so that a perfect plan gets `,
      el("strong", null, `${measureOf("official", "total_score").best}, not 100`),
      ".",
    ),
    el(
      "p",
      null,
      el("strong", null, "grounded"),
      ` reads an answer by what it means: the skill list that it finally gives, "3" is 3, all four terms (${termsOf()}), `,
      "each an F1 that extra steps lower, so that 100 can be reached. ",
      el("strong", null, heading("grounded", "plan_success")),
      " is the share of plans that are right as a whole.",
    ),
    el(
      "p",
      null,
      "Compare models by intervals, and with the controls: a constant plan, a plan that names everything, blank images, ",
      "the base model.",
    ),
  );
}

// Every measure of a model, over all dimensions.
function resultsSection(shown, filters, set) {
  const mean = filters.mean || MEANS[0][0];
  const titles = [
    "Model",
    ...TABLE.map(([scorer, metric]) => {
      const { best, meaning } = measureOf(scorer, metric);
      return [`${heading(scorer, metric)} (of ${best})`, meaning];
    }),
    ["n", "examples answered"],
  ];
  const rows = shown.map((model) => {
    const { name, scores } = report.overview.models[model];
    return el(
      "tr",
      null,
      modelHeader(model, name),
      TABLE.map(([scorer, metric]) => overallCell(scores[scorer], mean, metric)),
      countOf(scores.grounded ? scores.grounded.examples : 0),
    );
  });
  return section(
    "Results",
    el(
      "div",
      { class: "controls" },
      choice("Mean", "mean", MEANS, mean, (value) => set({ mean: value })),
    ),
    el(
      "p",
      { class: "lead" },
      "With 95 % intervals (one example a task gives none). What was not evaluated is missing, never 0.",
    ),
    dataTable("results", "results", titles, el("tbody", null, rows)),
  );
}

// The mean of a model over dimensions or examples; a note says where that is not over all.
function overallCell(results, mean, metric) {
  if (!results) return missingCell();
  if (results.mixed) return missingCell("not one model");
  const [over, all] = [Object.keys(results.dimensions).length, report.index.dimensions.length];
  return meanCell(results[mean][metric], over < all ? `over ${over} of ${all}` : "");
}

const measureChoices = () =>
  Object.entries(report.overview.metrics).flatMap(([scorer, metrics]) =>
    metrics.map((metric) => [`${scorer}.${metric}`, heading(scorer, metric)]),
  );

// One measure in each dimension.
function dimensionTable(shown, filters, set) {
  const { dimensions } = report.index;
  const measure = filters.measure || "grounded.total_score";
  const [scorer, metric] = measure.split(".");
  const titles = ["Model", "Macro", "Micro", ...dimensions.map(dimensionTitle), ["n", "examples answered"]];
  const rows = shown.map((model) => {
    const { name, scores } = report.overview.models[model];
    const results = scores[scorer];
    return el(
      "tr",
      null,
      modelHeader(model, name),
      MEANS.map(([mean]) => overallCell(results, mean, metric)),
      dimensions.map((d) => meanCell(results && results.dimensions[d] && results.dimensions[d][metric])),
      countOf(results ? results.examples : 0),
    );
  });
  return [
    el(
      "div",
      { class: "controls" },
      choice("Measure", "measure", measureChoices(), measure, (value) => set({ measure: value })),
    ),
    dataTable("by dimension", "results", titles, el("tbody", null, rows)),
  ];
}

// What each model has over another, by pairs of answers to the same examples.
function differences(shown, filters, set) {
  const bases = Object.keys(report.overview.differences);
  if (!bases.length) return null;
  const { dimensions, models } = report.index;
  const base = bases.includes(filters.base) ? filters.base : bases[0];
  const measures = report.overview.differences[base];
  const keyOf = ({ scorer, metric }) => `${scorer}.${metric}`;
  const compared = measures.find((each) => keyOf(each) === filters.over) || measures[0];
  const rows = shown
    .filter((model) => models[model] !== base)
    .map((model) => {
      const result = compared.models[model];
      return el(
        "tr",
        null,
        modelHeader(model, models[model]),
        [result && result.macro, ...dimensions.map((d) => result && result.dimensions[d])].map((value) =>
          differenceCell(value),
        ),
        countOf(result ? result.examples : 0),
      );
    });
  return section(
    `Against ${base}`,
    el(
      "div",
      { class: "controls" },
      choice(
        "Base",
        "base",
        bases.map((name) => [name, `${letter(models.indexOf(name))}  ${name}`]),
        base,
        (value) => set({ base: value }),
      ),
      choice(
        "Measure",
        "over",
        measures.map((each) => [keyOf(each), heading(each.scorer, each.metric)]),
        keyOf(compared),
        (value) => set({ over: value }),
      ),
    ),
    el(
      "p",
      { class: "lead" },
      "Points over it on the examples that both answered, with 95 % intervals of the difference. ",
      "\u25b2 better and \u25bc worse where the interval leaves out 0, \u223c where it does not.",
    ),
    dataTable(
      `against ${base}`,
      "results differences",
      ["Model", "Macro", ...dimensions.map(dimensionTitle), ["Pairs", "examples that both answered"]],
      el("tbody", null, rows),
    ),
  );
}

function scoreFigure(scorer, shown) {
  const top = measureOf(scorer, "total_score").best;
  const columns = [...report.index.dimensions.map(dimensionTitle), "Macro"];
  const rows = shown
    .map((model) => {
      const { name, scores } = report.overview.models[model];
      const results = scores[scorer];
      const values = results
        ? report.index.dimensions.map((d) => results.dimensions[d] && results.dimensions[d].total_score)
        : [];
      return { model, name, values: [...values, results && results.complete ? results.macro.total_score : null] };
    })
    .map((row) => ({ ...row, values: columns.map((_, at) => row.values[at] || null) }));
  const caption = `${heading(scorer, "total_score")}, of ${top}; lines are 95 % intervals, \u2013 is missing`;
  return figure(
    caption,
    (width) => intervals(width, caption, { ...PERCENT, top }, columns, rows),
    rows.map(({ model, name }) => [model, name]),
  );
}

function examplesLink(text, filters) {
  return el("a", { href: writeRoute({ page: "examples", place: null, filters }) }, text);
}

function settingsOf({ name, settings, provenance }, model) {
  const row = ([label, value, byDimension]) =>
    el(
      "tr",
      null,
      el("th", { scope: "row" }, label),
      el(
        "td",
        null,
        value !== null
          ? value
          : el(
              "dl",
              null,
              Object.entries(byDimension).map(([name, text]) => [el("dt", null, name), el("dd", null, text)]),
            ),
      ),
    );
  return el(
    "details",
    { class: "settings" },
    el("summary", null, named(model, name)),
    scrollTable(null, rowGroup(2, "Settings", settings.map(row)), rowGroup(2, "Provenance", provenance.map(row))),
  );
}

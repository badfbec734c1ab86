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

pages.overview = {
  title: "Overview",
  render(main) {
    document.body.classList.remove("app");
    main.replaceChildren(
      el(
        "div",
        { class: "overview" },
        facts(),
        report.overview.notes.map((note) =>
          el("p", { class: "note", role: "note" }, el("strong", null, "Note: "), note),
        ),
        howToRead(),
        el(
          "section",
          { class: "figures" },
          el("h2", null, "By dimension"),
          scoreFigure("grounded"),
          scoreFigure("official"),
        ),
        el(
          "section",
          null,
          el("h2", null, "Results"),
          el(
            "p",
            { class: "lead" },
            "Mean with its 95 % interval (one example a task gives none). Macro is the mean of the six dimensions, micro the mean of all ",
            "examples. What was not evaluated is missing, never 0.",
          ),
          resultsTable(),
        ),
        differences(),
        breakdown(),
        el("section", null, el("h2", null, "Settings and provenance"), report.overview.models.map(settingsOf)),
      ),
    );
  },
};

function madeWith() {
  const { made, code_revision: revision } = report.overview;
  return `Made ${made.slice(0, 16).replace("T", " ")} UTC${revision ? ` with LEAP at ${revision.slice(0, 12)}` : ""}.`;
}

function facts() {
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
      "ul",
      { class: "legend" },
      index.models.map((name, model) => el("li", null, named(model, name))),
    ),
  );
}

function howToRead() {
  return el(
    "section",
    { class: "reading" },
    el("h2", null, "Two scores"),
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

function resultsTable() {
  const { dimensions, models } = report.index;
  const head = el(
    "thead",
    null,
    el(
      "tr",
      null,
      el("th", { scope: "col" }, "Model"),
      el("th", { scope: "col" }, "Macro"),
      el("th", { scope: "col" }, "Micro"),
      dimensions.map((dimension) => el("th", { scope: "col" }, examplesLink(dimension, { dimension }))),
      el("th", { scope: "col", title: "examples answered" }, "n"),
    ),
  );
  const bodies = TABLE.map(([scorer, metric]) =>
    el(
      "tbody",
      null,
      el(
        "tr",
        { class: "group" },
        el(
          "th",
          { colspan: dimensions.length + 4, scope: "rowgroup" },
          heading(scorer, metric),
          el("small", null, ` of ${measureOf(scorer, metric).best}`),
        ),
      ),
      report.overview.models.map((results, model) => resultsRow(results, model, scorer, metric)),
    ),
  );
  return scrollTable("results", head, bodies);
}

function resultsRow({ name, scores }, model, scorer, metric) {
  const top = measureOf(scorer, metric).best;
  const { dimensions } = report.index;
  const results = scores[scorer];
  const cells = dimensions.map((dimension) =>
    meanCell(results && results.dimensions[dimension] && results.dimensions[dimension][metric], top),
  );
  const over = results && Object.keys(results.dimensions).length;
  const note =
    results &&
    (results.mixed ? "not one model" : over < dimensions.length ? `over ${over} of ${dimensions.length}` : "");
  const means = ["macro", "micro"].map((mean) =>
    results && results.mixed
      ? el("td", { class: "none" }, note)
      : meanCell(results && results[mean][metric], top, note),
  );
  return el(
    "tr",
    null,
    el("th", { scope: "row" }, named(model, name)),
    means,
    cells,
    el("td", { class: "count" }, results ? thousands(results.examples) : "0"),
  );
}

function meanCell(value, top, note, { bottom, digits } = PERCENT) {
  if (!value) return el("td", { class: "none" }, "missing");
  const [mean, low, high] = value;
  return el(
    "td",
    { class: "mean", style: { "--share": `${(100 * (mean - bottom)) / (top - bottom)}%` } },
    el("b", null, fixed(mean, digits)),
    el("small", null, low === null ? "no interval" : `${fixed(low, digits)}\u2013${fixed(high, digits)}`),
    note ? el("small", null, note) : null,
  );
}

// What each model has over the base, by pairs of answers to the same examples.
function differences() {
  const comparison = report.overview.differences;
  if (!comparison) return null;
  const { dimensions, models } = report.index;
  const columns = ["Macro", ...dimensions];
  const bodies = comparison.of.map(({ scorer, metric, models: results }) =>
    el(
      "tbody",
      null,
      el(
        "tr",
        { class: "group" },
        el("th", { colspan: columns.length + 2, scope: "rowgroup" }, heading(scorer, metric)),
      ),
      results.map((result, model) =>
        models[model] === comparison.base
          ? null
          : el(
              "tr",
              null,
              el("th", { scope: "row" }, named(model, models[model])),
              [result && result.macro, ...dimensions.map((d) => result && result.dimensions[d])].map((value) =>
                differenceCell(value),
              ),
              el("td", { class: "count" }, thousands(result ? result.examples : 0)),
            ),
      ),
    ),
  );
  return section(
    `Against ${comparison.base}`,
    el(
      "p",
      { class: "lead" },
      "Points over it on the examples that both answered, with 95 % intervals of the difference. ",
      "\u25b2 better and \u25bc worse where the interval leaves out 0, \u223c where it does not.",
    ),
    scrollTable("results differences", tableHead(["Model", ...columns, "pairs"]), bodies),
  );
}

function differenceCell(value, digits = 1) {
  if (!value) return el("td", { class: "none" }, "missing");
  const [mean, low, high] = value;
  const kind = low === null ? "unclear" : low > 0 ? "better" : high < 0 ? "worse" : "unclear";
  return el(
    "td",
    { class: kind },
    el("b", null, { better: "\u25b2", worse: "\u25bc", unclear: "\u223c" }[kind], " ", signed(mean, digits)),
    el("small", null, low === null ? "no interval" : `${signed(low, digits)} to ${signed(high, digits)}`),
  );
}

function signed(value, digits = 1) {
  const size = fixed(Math.abs(value), digits);
  return Number(size) === 0 ? size : `${value < 0 ? "\u2212" : "+"}${size}`;
}

function scoreFigure(scorer) {
  const top = measureOf(scorer, "total_score").best;
  const columns = [...report.index.dimensions, "macro"];
  const rows = report.overview.models
    .map(({ name, scores }, model) => {
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
  const rows = (title, facts) => [
    el("tr", { class: "group" }, el("th", { colspan: 2 }, title)),
    facts.map(([label, value, byDimension]) =>
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
      ),
    ),
  ];
  return el(
    "details",
    { class: "settings" },
    el("summary", null, named(model, name)),
    scrollTable(null, el("tbody", null, rows("Settings", settings), rows("Provenance", provenance))),
  );
}

// What went wrong, over all dimensions or one: scores by length of plan, outcomes, errors, skill confusion.

const MEANING = {
  unparsable: "the text holds no skill list",
  ids_as_strings: "ids written as strings, which the official scorer never matches",
  wrong_skill: "another skill than the step of the ground truth",
  wrong_entity: "the skill is right, the object is not",
  wrong_container: "the skill is right, the place is not",
  wrong_order: "a step is there, but not in its turn",
  missing_step: "a step of the ground truth has no counterpart",
  extra_step: "a step of the answer has no counterpart",
};

const OUTCOMES = [
  ["answered", "answered", null],
  ["right", null, "right"], // the plan success, counted
  ["grounded_ok", "plan read (grounded)", null],
  ["grounded_format", "format error, grounded: no plan in the text", "format_error"],
  ["official_ok", "plan read (official)", null],
  ["official_format", "format error, official: no JSON in a json fence", "official_format_error"],
  ["official_score", "score error, official: a plan its scorer trips over", "official_score_error"],
  ["cut", "cut by the token limit", "cut_by_length"],
  ["machine", "machine failure: no answer, not scored", "machine_failure"],
  ["bad", "bad example: not asked, not scored", "bad_example"],
];

const chosen = { dimension: "", confusion: null };

function breakdown(shown) {
  const body = el("div");
  const draw = () => redraw(body, [lengths(shown), outcomes(shown), errors(shown), confusion(shown, draw)]);
  draw();
  const dimensions = [["", "all dimensions"], ...report.index.dimensions.map((d) => [d, dimensionTitle(d)])];
  return [
    el(
      "div",
      { class: "controls" },
      choice("Count over", "breakdown", dimensions, chosen.dimension, (value) => {
        chosen.dimension = value;
        draw();
      }),
    ),
    body,
  ];
}

const inScope = (byDimension) =>
  Object.entries(byDimension)
    .filter(([dimension, value]) => value && (!chosen.dimension || dimension === chosen.dimension))
    .map(([, value]) => value);

function lengths(shown) {
  const rows = shown
    .map((model) => {
      const { name, diagnoses, lengths: estimates } = report.overview.models[model];
      const sums = new Map();
      for (const { by_length: byLength } of inScope(diagnoses)) {
        for (const [length, scores] of Object.entries(byLength)) {
          const sum = sums.get(+length) || { examples: 0, total_score: 0, plan_success: 0 };
          for (const metric of ["total_score", "plan_success"]) sum[metric] += scores[metric] * scores.examples;
          sum.examples += scores.examples;
          sums.set(+length, sum);
        }
      }
      return { model, name, sums, estimates: estimates[chosen.dimension] || {} };
    })
    .filter(({ sums }) => sums.size);
  if (!rows.length) return el("p", { class: "none" }, "Scores by length of plan are missing: no ground truth at hand.");
  const columns = [...new Set(rows.flatMap(({ sums }) => [...sums.keys()]))].sort((a, b) => a - b);
  const mostAnswers = (n) => Math.max(...rows.map(({ sums }) => (sums.get(n) || { examples: 0 }).examples));
  const drawn = (metric, caption) =>
    figure(
      caption,
      (width) =>
        lines(
          width,
          caption,
          PERCENT,
          columns.map((n) => `${plural(n, "step")} n=${mostAnswers(n)}`),
          rows.map(({ model, name, sums, estimates }) => ({
            model,
            name,
            values: columns.map((n) => {
              const sum = sums.get(n);
              if (!sum) return null;
              // A dimension without ground truth at hand has means alone.
              const [, low, high] = estimates[n]?.examples === sum.examples ? estimates[n][metric] : [null, null, null];
              return { mean: sum[metric] / sum.examples, low, high, examples: sum.examples };
            }),
          })),
        ),
      rows.map(({ model, name }) => [model, name]),
    );
  const counted = "n is the most answers of a model";
  return el(
    "div",
    { class: "figures" },
    el("h3", null, "By length of the ground truth"),
    drawn(
      "plan_success",
      `${heading("grounded", "plan_success")} by steps in the ground truth, of 100, with 95 % intervals; ${counted}`,
    ),
    drawn(
      "total_score",
      `${heading("grounded", "total_score")}, by steps in the ground truth, of 100, with 95 % intervals; ${counted}`,
    ),
  );
}

function outcomes(shown) {
  const counts = shown.map((model) => outcomeCounts(inScope(report.overview.models[model].counts), model));
  return el(
    "div",
    null,
    el("h3", null, "Outcomes"),
    countTable(
      "outcomes",
      shown,
      OUTCOMES.map(([name, text, outcome]) => [
        text ?? measureOf("grounded", "plan_success").name,
        "",
        counts.map((count) => [count[name], count.answered]),
        (model) => outcome && { model: report.index.models[model], outcome, dimension: chosen.dimension },
      ]),
    ),
  );
}

function outcomeCounts(counts, model) {
  const sum = (read) =>
    counts.length && counts.every((count) => read(count) !== undefined)
      ? counts.reduce((total, count) => total + read(count), 0)
      : null;
  const status = (scorer, name) => sum(({ outcomes: by }) => (by[scorer] ? by[scorer][name] || 0 : undefined));
  const examples = (name) => sum((count) => count.examples[name]);
  return {
    answered: examples("answered"),
    right: rightAnswers(model),
    grounded_ok: status("grounded", "ok"),
    grounded_format: status("grounded", "format_error"),
    official_ok: status("official", "ok"),
    official_format: status("official", "format_error"),
    official_score: status("official", "score_error"),
    cut: examples("cut_by_length"),
    machine: examples("machine_failure"),
    bad: examples("bad_example"),
  };
}

function rightAnswers(model) {
  const { index } = report;
  const bit = 1 << index.flags.indexOf("right");
  const dimension = index.dimensions.indexOf(chosen.dimension);
  return index.answers[model].flags.filter(
    (flags, at) => flags & bit && (dimension < 0 || index.tasks[index.examples.task[at]][1] === dimension),
  ).length;
}

function errors(shown) {
  const diagnoses = shown.map((model) => inScope(report.overview.models[model].diagnoses));
  const sum = (counts, read) => (counts.length ? counts.reduce((total, count) => total + read(count), 0) : null);
  return el(
    "div",
    null,
    el("h3", null, "Errors"),
    el("p", { class: "lead" }, "Answers with each error; one answer may have several."),
    countTable(
      "errors",
      shown,
      report.overview.error_labels.map((label) => [
        words(label),
        MEANING[label] || "",
        diagnoses.map((counts) => [sum(counts, ({ labels }) => labels[label]), sum(counts, ({ answers }) => answers)]),
        (model) => ({ model: report.index.models[model], error: label, dimension: chosen.dimension }),
      ]),
    ),
  );
}

// Rows of [text, explanation, [[count, of how many] of each model], filters of the examples counted in a cell].
function countTable(name, shown, rows) {
  const body = rows.map(([text, explanation, values, filters]) =>
    el(
      "tr",
      null,
      el("th", { scope: "row", "data-text": text }, text, explanation ? el("small", null, explanation) : null),
      values.map(([count, total], at) => countCell(count, total, filters(shown[at]))),
    ),
  );
  const titles = [words(name), ...shown.map((model) => report.index.models[model])];
  return dataTable(name, "counts", titles, el("tbody", null, body));
}

function countCell(count, total, filters) {
  if (count === null) return missingCell();
  const share = total ? (100 * count) / total : 0;
  return el(
    "td",
    {
      class: "mean",
      style: { "--share": Math.min(1, share / 100) },
      "data-value": JSON.stringify([count]),
      "data-text": thousands(count) + (total ? ` (${fixed(share)} %)` : ""),
    },
    filters && count ? examplesLink(thousands(count), filters) : el("b", null, thousands(count)),
    total ? el("small", null, `${fixed(share)} %`) : null,
  );
}

// How often each skill of the ground truth was answered by which, {skill: {answer: count}}.
function confusionCounts(model) {
  const counts = {};
  for (const diagnosis of inScope(report.overview.models[model].diagnoses)) {
    for (const [skill, answers] of Object.entries(diagnosis.confusion)) {
      counts[skill] = counts[skill] || {};
      for (const [name, count] of Object.entries(answers)) counts[skill][name] = (counts[skill][name] || 0) + count;
    }
  }
  return counts;
}

// The model that the reader chose, else the best one of the headline if it has plans, else the first that has.
function confusionModel(shown) {
  if (shown.includes(chosen.confusion)) return chosen.confusion;
  const { headline: best } = report.overview;
  const order = [...(best ? [report.index.models.indexOf(best.models[0])] : []), ...shown];
  return order.find((model) => shown.includes(model) && hasPlans(confusionCounts(model))) ?? shown[0];
}

const hasPlans = (counts) =>
  Object.values(counts).some((answers) => Object.keys(answers).some((name) => name !== "missing"));

function confusion(shown, draw) {
  if (!shown.length) return "";
  const model = confusionModel(shown);
  const counts = confusionCounts(model);
  const skills = Object.keys(counts);
  const others = new Set(Object.values(counts).flatMap(Object.keys));
  const columns = [
    ...skills,
    ...[...others].filter((name) => !skills.includes(name)).sort((a, b) => rank(a) - rank(b)),
  ];
  return el(
    "div",
    null,
    el("h3", null, "Skill confusion"),
    el(
      "div",
      { class: "controls" },
      choice(
        "Model",
        "confusion",
        shown.map((each) => [String(each), `${letter(each)}  ${report.index.models[each]}`]),
        String(model),
        (value) => {
          chosen.confusion = Number(value);
          draw();
        },
      ),
    ),
    skills.length
      ? [
          el(
            "p",
            { class: "lead" },
            "Rows: skill of the ground truth. Columns: skill in the answer at that place. ",
            "Percent of the row, and count.",
          ),
          dataTable(
            "skill confusion",
            "confusion",
            ["Ground truth", ...columns.map(words)],
            el(
              "tbody",
              null,
              skills.map((skill) => confusionRow(skill, counts[skill], columns)),
            ),
          ),
        ]
      : el("p", { class: "none" }, "Missing: no answer of this model could be compared."),
  );
}

const rank = (name) => (name === "missing" ? 2 : name === "other" ? 1 : 0);

function confusionRow(skill, counts, columns) {
  const total = Object.values(counts).reduce((a, b) => a + b, 0);
  return el(
    "tr",
    null,
    el("th", { scope: "row" }, words(skill)),
    columns.map((name) => {
      const count = counts[name] || 0;
      const share = (100 * count) / total;
      return el(
        "td",
        {
          class: name === skill ? "same" : "other",
          style: { "--heat": `${share}%` },
          "data-value": JSON.stringify([count]),
          "data-text": `${fixed(share, 0)} % (${thousands(count)})`,
        },
        count ? [el("b", null, `${fixed(share, 0)} %`), el("small", null, thousands(count))] : "\u00b7",
      );
    }),
  );
}

// The summary of the blind review: what judges' scores say, and how far judges can be trusted.

const FIVE = { bottom: 1, top: 5, every: 1, digits: 2 };
const SCALES = [
  ["final_score", "Final", "mean of the four scales"],
  ["completeness", "Complete", "completeness"],
  ["logical_sequence", "Sequence", "logical sequence"],
  ["hallucination_redundancy", "No halluc.", "no hallucination and no redundancy"],
  ["granularity", "Granular", "granularity"],
];
const JUDGES = {
  llm: "language model",
  reference: "compares with the reference plan, without a model",
  people: "ratings by people",
};

function reviewSummary() {
  const { data } = review;
  const { items, judges, models, notes, summary } = data;
  // The words begin with a sentence for each control that is not at the bottom.
  const failed = summary ? Object.values(summary.judges).flatMap((judge) => failedControls(judge.controls)).length : 0;
  const sentences = summary ? summary.words : [];
  return [
    sentences
      .slice(0, failed)
      .map((sentence) => el("p", { class: "note warning", role: "alert" }, el("strong", null, "Warning: "), sentence)),
    el(
      "div",
      { class: "facts" },
      el(
        "p",
        null,
        `${plural(items.length, "row")}, ${plural(models.length, "model")}, ${plural(judges.length, "judge")}. `,
        madeWith(),
        " ",
        el("a", { href: `#review/${items[review.at].sample}` }, "Go to the plans"),
      ),
    ),
    notes.map((note) => el("p", { class: "note", role: "note" }, el("strong", null, "Note: "), note)),
    summary ? [findings(sentences.slice(failed)), scoresSection(), controlsSection(), pairsSection()] : null,
    summary ? agreementSection() : null,
  ]
    .flat(Infinity)
    .filter(Boolean);
}

const failedControls = (controls) => Object.values(controls || {}).filter((control) => control.at_bottom === false);

function findings(sentences) {
  if (!sentences.length) return null;
  return section(
    "Findings",
    el(
      "ul",
      { class: "findings" },
      sentences.map((sentence) => el("li", null, sentence)),
    ),
  );
}

const failedCell = (count) =>
  count ? el("td", { class: "count worse" }, el("b", null, thousands(count))) : el("td", { class: "count" }, "0");

const numberOf = (name) => {
  const model = review.data.models.find(([other]) => other === name);
  return model ? model[1] : 0;
};
const estimate = (value) => (value ? [value.mean, value.low, value.high] : null);

// A table with a group of rows for each judge; `rowsOf` gives none for a judge that has nothing to say.
function byJudge(table, titles, rowsOf, kind = "") {
  const groups = Object.entries(review.data.summary.judges)
    .map(([name, judge]) => [name, judge, rowsOf(judge)])
    .filter(([, , rows]) => rows.length);
  if (!groups.length) return null;
  return dataTable(
    table,
    `results judged ${kind}`,
    titles,
    groups.map(([name, judge, rows]) =>
      rowGroup(titles.length, [name, " ", el("small", null, aboutJudge(judge))], rows),
    ),
  );
}

function aboutJudge({ kind, repeats }) {
  const most = repeats ? repeats.most : 1;
  const times = kind === "people" ? plural(most, "rater") : most > 1 ? `${most} repeats` : null;
  return [JUDGES[kind] || kind, times].filter(Boolean).join(", ");
}

function scoresSection() {
  const { summary } = review.data;
  const titles = [
    "Model",
    ...SCALES.map(([, title, meaning]) => [title, meaning]),
    ...(summary.base ? [["Over base", `final score over ${summary.base} on the rows that both have`]] : []),
    ["Judged", "judgements, of all repeats"],
    ["Failed", "judgements that failed; they are in no mean"],
  ];
  const rowsOf = ({ models }) =>
    Object.entries(models).map(([name, ratings]) =>
      el(
        "tr",
        null,
        modelHeader(numberOf(name), name),
        SCALES.map(([scale]) => meanCell(estimate(ratings.scores && ratings.scores[scale]), null, FIVE)),
        summary.base === null
          ? null
          : name === summary.base
            ? missingCell("the base")
            : differenceCell(estimate(ratings.over_base && ratings.over_base.final_score), 2),
        countOf(ratings.judgements),
        failedCell(ratings.failed),
      ),
    );
  return [
    section(
      "Scores by judge",
      el(
        "p",
        { class: "lead" },
        "Means of 1 (worst) to 5 (best) with 95 % intervals over rows. What was not judged is missing, never a score.",
      ),
      byJudge("scores by judge", titles, rowsOf, "differences"),
    ),
    el(
      "section",
      { class: "figures" },
      el("h2", null, "By scale"),
      Object.entries(summary.judges).map(([name, judge]) => scaleFigure(name, judge)),
    ),
    outputsSection(summary),
  ];
}

function scaleFigure(judge, { models }) {
  const rows = Object.entries(models).map(([name, { scores }]) => ({
    model: numberOf(name),
    name,
    values: SCALES.map(([scale]) => estimate(scores && scores[scale])),
  }));
  const columns = SCALES.map(([, title]) => title);
  const caption = `Scores by ${judge}, 1 to 5; lines are 95 % intervals, \u2013 is missing`;
  return figure(
    caption,
    (width) => intervals(width, caption, FIVE, columns, rows),
    rows.map(({ model, name }) => [model, name]),
  );
}

function outputsSection({ outputs }) {
  const lacking = Object.entries(outputs || {}).filter(([, counts]) => counts.failed || counts.cut_by_length);
  if (!lacking.length) return null;
  return section(
    "Outputs that are not whole",
    el(
      "ul",
      { class: "findings" },
      lacking.map(([name, counts]) =>
        el(
          "li",
          null,
          named(numberOf(name), name),
          `: ${counts.answered} answered`,
          counts.failed ? `, ${counts.failed} failed` : "",
          counts.cut_by_length ? `, ${counts.cut_by_length} cut by the token limit` : "",
        ),
      ),
    ),
  );
}

function controlsSection() {
  const titles = [
    "Control",
    ["Final", "mean of the four scales"],
    ["Win rate", "against the base, in pairs"],
    "At the bottom",
    ["Judged", "judgements, of all repeats"],
    "Failed",
  ];
  const rowsOf = ({ controls }) =>
    Object.entries(controls || {}).map(([name, control]) => {
      const bottom = control.at_bottom;
      return el(
        "tr",
        null,
        el("th", { scope: "row" }, breakable(name)),
        meanCell(estimate(control.final_score), null, FIVE),
        shareCell(control.win_rate),
        typeof bottom === "boolean"
          ? el("td", { class: bottom ? "better" : "worse" }, el("b", null, bottom ? "\u2713 yes" : "\u2717 no"))
          : el("td", { class: "none" }, "not known"),
        countOf(control.judgements),
        failedCell(control.failed),
      );
    });
  const table = byJudge("controls", titles, rowsOf);
  return (
    table &&
    section(
      "Controls",
      el(
        "p",
        { class: "lead" },
        "Plans that no model wrote: an empty one, and one that carries instructions to the judge. A judge that does ",
        "not put them at the bottom cannot be trusted.",
      ),
      table,
    )
  );
}

function shareCell(value) {
  if (!value) return missingCell();
  return meanCell([100 * value.mean, 100 * value.low, 100 * value.high], null, { ...PERCENT, digits: 0 });
}

function pairsSection() {
  const { base } = review.data.summary;
  const titles = [
    "Model",
    ["Win rate, %", "a tie counts half"],
    "Wins",
    "Losses",
    "Ties",
    ["Flips", "pairs of which one order named the model and the other the base; they count as ties"],
    "Pairs",
    "Failed",
  ];
  const rowsOf = ({ pairwise }) =>
    Object.entries(pairwise || {}).map(([name, pairs]) =>
      el(
        "tr",
        null,
        modelHeader(numberOf(name), name),
        shareCell(pairs.win_rate),
        [pairs.wins, pairs.losses, pairs.ties].map(countOf),
        el(
          "td",
          null,
          thousands(pairs.flips),
          typeof pairs.flip_rate === "number" ? el("small", null, ` ${fixed(100 * pairs.flip_rate, 0)} %`) : null,
        ),
        countOf(pairs.pairs),
        failedCell(pairs.failed),
      ),
    );
  const table = byJudge("pairs", titles, rowsOf);
  return table && section(`In pairs against ${base || "the base"}`, table);
}

function agreementSection() {
  const { judges, between } = review.data.summary;
  const rows = [];
  const add = (who, measure, values, spearman, plans) =>
    rows.push(
      el(
        "tr",
        null,
        el("th", { scope: "row" }, who),
        el("td", { class: "what" }, measure),
        SCALES.map(([scale]) => coefficient(values && values[scale])),
        coefficient(spearman && spearman.mean, spearman),
        el("td", { class: "count" }, plans === null ? "" : thousands(plans)),
      ),
    );
  for (const [judge, { kind, repeats }] of Object.entries(judges)) {
    const who = kind === "people" ? `${judge}, among each other` : `${judge}, with its own repeats`;
    if (repeats && repeats.most > 1) add(who, "alpha", repeats.alpha, null, null);
  }
  for (const { judges: pair, plans, alpha, kappa, spearman } of between || []) {
    if (!plans) continue; // of pairs alone
    const who = pair.join(" and ");
    add(who, "alpha", alpha, spearman, plans);
    if (kappa && Object.values(kappa).some((value) => typeof value === "number")) add(who, "kappa", kappa, null, plans);
  }
  const verdicts = verdictsTable(between || []);
  if (!rows.length && !verdicts) return null;
  return section(
    "Do judges agree?",
    el(
      "p",
      { class: "lead" },
      "1 is full agreement, 0 is chance: Krippendorff's alpha, Cohen's weighted kappa of the means rounded to whole ",
      "points, and Spearman's rank correlation of the final scores.",
    ),
    rows.length ? scoresTable(rows) : null,
    verdicts,
  );
}

function scoresTable(rows) {
  const scales = SCALES.map(([, title, meaning]) => [title, meaning]);
  return dataTable(
    "agreement",
    "results judged agreement",
    ["Judges", "Measure", ...scales, "Spearman", "Plans"],
    el("tbody", null, rows),
  );
}

function verdictsTable(between) {
  const paired = between.filter(({ pairs }) => pairs);
  if (!paired.length) return null;
  const titles = [
    "Verdicts in pairs",
    ["Same", "plans that both judges call better than the base's, as good, or worse"],
    ["Alpha", "Krippendorff's alpha of loss, tie and win"],
    ["Plans", "plans that both judges have seen beside the base's"],
  ];
  return dataTable(
    "verdicts",
    "results judged verdicts",
    titles,
    el(
      "tbody",
      null,
      paired.map(({ judges, pairs }) =>
        el(
          "tr",
          null,
          el("th", { scope: "row" }, judges.join(" and ")),
          el("td", null, thousands(pairs.same)),
          coefficient(pairs.alpha),
          countOf(pairs.plans),
        ),
      ),
    ),
  );
}

function coefficient(value, interval) {
  if (typeof value !== "number") return el("td", { class: "none" }, "\u2013");
  return el(
    "td",
    { class: "mean bare" },
    el("b", null, fixed(value, 2)),
    interval && el("small", null, `${fixed(interval.low, 2)} to ${fixed(interval.high, 2)}`),
  );
}

// The blind review: what the judges' scores say, then row by row the plans with their models' names hidden.

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

// `shown` has "row/place" of each plan whose model's name is shown.
const review = { data: null, at: 0, all: false, shown: new Set(), row: null };

pages.review = {
  title: "Blind review",

  async render(main, route, isNew) {
    document.body.classList.remove("app");
    if (!review.data) {
      main.replaceChildren(el("p", { class: "wait" }, "Reading the review\u2026"));
      review.data = await unpack("review");
      if (document.body.dataset.page !== "review") return; // the reader is elsewhere already
    }
    const at = review.data.items.findIndex(({ sample }) => String(sample) === route.part);
    review.at = Math.max(0, at);
    if (isNew || !main.contains(review.row)) {
      review.row = el("section", { class: "review-row", tabindex: -1, "aria-label": "Row" });
      main.replaceChildren(el("div", { class: "overview review" }, reviewSummary(), review.row));
    }
    drawRow();
    if (route.part !== null) review.row.scrollIntoView();
  },

  key(event) {
    const moves = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
    if (!review.data) return false;
    if (event.key.startsWith("Arrow") && document.activeElement !== review.row) return false; // scrolls
    if (event.key in moves) toRow(review.at + moves[event.key]);
    else if (event.key === "n") showNames(!review.all);
    else return false;
    return true;
  },
};

// ---- the summary

function reviewSummary() {
  const { data } = review;
  const { items, judges, models, notes, summary } = data;
  // The words begin with a sentence for each control that is not at the bottom.
  const failed = summary ? Object.values(summary.judges).flatMap((of) => failedControls(of.controls)).length : 0;
  const said = summary ? summary.words : [];
  return [
    said
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
    summary ? [findings(said.slice(failed)), scoresSection(), controlsSection(), pairsSection()] : null,
    summary ? agreementSection() : null,
  ]
    .flat(Infinity)
    .filter(Boolean);
}

const failedControls = (controls) => Object.values(controls || {}).filter((found) => found.at_bottom === false);

function findings(sentences) {
  if (!sentences.length) return null;
  return el(
    "section",
    null,
    el("h2", null, "Findings"),
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
  const found = review.data.models.find(([one]) => one === name);
  return found ? found[1] : 0;
};
const estimate = (value) => (value ? [value.mean, value.low, value.high] : null);
const heads = (titles) =>
  el(
    "thead",
    null,
    el(
      "tr",
      null,
      titles.map(([title, meaning]) => el("th", { scope: "col", title: meaning }, title)),
    ),
  );

// A table with a group of rows for each judge; `rowsOf` gives none for a judge that has nothing to say.
function byJudge(titles, rowsOf, kind = "") {
  const groups = Object.entries(review.data.summary.judges)
    .map(([judge, of]) => [judge, of, rowsOf(of)])
    .filter(([, , rows]) => rows.length);
  if (!groups.length) return null;
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: `results judged ${kind}` },
      heads(titles),
      groups.map(([judge, of, rows]) =>
        el(
          "tbody",
          null,
          el(
            "tr",
            { class: "group" },
            el("th", { colspan: titles.length, scope: "rowgroup" }, judge, " ", el("small", null, aboutJudge(of))),
          ),
          rows,
        ),
      ),
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
    ["Model"],
    ...SCALES.map(([, title, meaning]) => [title, meaning]),
    ...(summary.base ? [["Over base", `final score over ${summary.base} on the rows that both have`]] : []),
    ["Judged", "judgements, of all repeats"],
    ["Failed", "judgements that failed; they are in no mean"],
  ];
  const rowsOf = ({ models }) =>
    Object.entries(models).map(([name, found]) =>
      el(
        "tr",
        null,
        el("th", { scope: "row" }, named(numberOf(name), name)),
        SCALES.map(([scale]) => meanCell(estimate(found.scores && found.scores[scale]), 5, null, FIVE)),
        summary.base === null
          ? null
          : name === summary.base
            ? el("td", { class: "none" }, "the base")
            : differenceCell(estimate(found.over_base && found.over_base.final_score), 2),
        el("td", { class: "count" }, thousands(found.judgements)),
        failedCell(found.failed),
      ),
    );
  return [
    el(
      "section",
      null,
      el("h2", null, "Scores by judge"),
      el(
        "p",
        { class: "lead" },
        "Means of 1 (worst) to 5 (best) with 95 % intervals over rows. What was not judged is missing, never a score.",
      ),
      byJudge(titles, rowsOf, "differences"),
    ),
    el(
      "section",
      { class: "figures" },
      el("h2", null, "By scale"),
      Object.entries(summary.judges).map(([judge, of]) => scaleFigure(judge, of)),
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
  const lacking = Object.entries(outputs || {}).filter(([, found]) => found.failed || found.cut_by_length);
  if (!lacking.length) return null;
  return el(
    "section",
    null,
    el("h2", null, "Outputs that are not whole"),
    el(
      "ul",
      { class: "findings" },
      lacking.map(([name, found]) =>
        el(
          "li",
          null,
          named(numberOf(name), name),
          `: ${found.answered} answered`,
          found.failed ? `, ${found.failed} failed` : "",
          found.cut_by_length ? `, ${found.cut_by_length} cut by the token limit` : "",
        ),
      ),
    ),
  );
}

function controlsSection() {
  const titles = [
    ["Control"],
    ["Final", "mean of the four scales"],
    ["Win rate", "against the base, in pairs"],
    ["At the bottom"],
    ["Judged", "judgements, of all repeats"],
    ["Failed"],
  ];
  const rowsOf = ({ controls }) =>
    Object.entries(controls || {}).map(([name, found]) => {
      const bottom = found.at_bottom;
      return el(
        "tr",
        null,
        el("th", { scope: "row" }, breakable(name)),
        meanCell(estimate(found.final_score), 5, null, FIVE),
        shareCell(found.win_rate),
        typeof bottom === "boolean"
          ? el("td", { class: bottom ? "better" : "worse" }, el("b", null, bottom ? "\u2713 yes" : "\u2717 no"))
          : el("td", { class: "none" }, "not known"),
        el("td", { class: "count" }, thousands(found.judgements)),
        failedCell(found.failed),
      );
    });
  const table = byJudge(titles, rowsOf);
  return (
    table &&
    el(
      "section",
      null,
      el("h2", null, "Controls"),
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
  if (!value) return el("td", { class: "none" }, "missing");
  return meanCell([100 * value.mean, 100 * value.low, 100 * value.high], 100, null, { ...PERCENT, digits: 0 });
}

function pairsSection() {
  const { base } = review.data.summary;
  const titles = [
    ["Model"],
    ["Win rate, %", "a tie counts half"],
    ["Wins"],
    ["Losses"],
    ["Ties"],
    ["Flips", "pairs of which one order named the model and the other the base; they count as ties"],
    ["Pairs"],
    ["Failed"],
  ];
  const rowsOf = ({ pairwise }) =>
    Object.entries(pairwise || {}).map(([name, found]) =>
      el(
        "tr",
        null,
        el("th", { scope: "row" }, named(numberOf(name), name)),
        shareCell(found.win_rate),
        [found.wins, found.losses, found.ties].map((count) => el("td", null, thousands(count))),
        el(
          "td",
          null,
          thousands(found.flips),
          typeof found.flip_rate === "number" ? el("small", null, ` ${fixed(100 * found.flip_rate, 0)} %`) : null,
        ),
        el("td", { class: "count" }, thousands(found.pairs)),
        failedCell(found.failed),
      ),
    );
  const table = byJudge(titles, rowsOf);
  return table && el("section", null, el("h2", null, `In pairs against ${base || "the base"}`), table);
}

function agreementSection() {
  const { judges, between } = review.data.summary;
  const rows = [];
  const add = (who, what, of, spearman, plans) =>
    rows.push(
      el(
        "tr",
        null,
        el("th", { scope: "row" }, who),
        el("td", { class: "what" }, what),
        SCALES.map(([scale]) => coefficient(of && of[scale])),
        coefficient(spearman && spearman.mean, spearman),
        el("td", { class: "count" }, plans === null ? "" : thousands(plans)),
      ),
    );
  for (const [judge, { kind, repeats }] of Object.entries(judges)) {
    const again = kind === "people" ? `${judge}, among each other` : `${judge}, with its own repeats`;
    if (repeats && repeats.most > 1) add(again, "alpha", repeats.alpha, null, null);
  }
  for (const { judges: pair, plans, alpha, kappa, spearman } of between || []) {
    if (!plans) continue; // of pairs alone
    const who = pair.join(" and ");
    add(who, "alpha", alpha, spearman, plans);
    if (kappa && Object.values(kappa).some((value) => typeof value === "number")) add(who, "kappa", kappa, null, plans);
  }
  const verdicts = verdictsTable(between || []);
  if (!rows.length && !verdicts) return null;
  return el(
    "section",
    null,
    el("h2", null, "Do judges agree?"),
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
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "results judged agreement" },
      heads([
        ["Judges"],
        ["Measure"],
        ...SCALES.map(([, title, meaning]) => [title, meaning]),
        ["Spearman"],
        ["Plans"],
      ]),
      el("tbody", null, rows),
    ),
  );
}

function verdictsTable(between) {
  const found = between.filter(({ pairs }) => pairs);
  if (!found.length) return null;
  const titles = [
    ["Verdicts in pairs"],
    ["Same", "plans that both judges call better than the base's, as good, or worse"],
    ["Alpha", "Krippendorff's alpha of loss, tie and win"],
    ["Plans", "plans that both judges have seen beside the base's"],
  ];
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "results judged verdicts" },
      heads(titles),
      el(
        "tbody",
        null,
        found.map(({ judges, pairs }) =>
          el(
            "tr",
            null,
            el("th", { scope: "row" }, judges.join(" and ")),
            el("td", null, thousands(pairs.same)),
            coefficient(pairs.alpha),
            el("td", { class: "count" }, thousands(pairs.plans)),
          ),
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

// ---- one row

function toRow(at) {
  const { items } = review.data;
  const { sample } = items[Math.min(items.length - 1, Math.max(0, at))];
  history.replaceState(null, "", `#review/${sample}`);
  show();
}

function showNames(all) {
  review.all = all;
  review.shown.clear();
  drawRow();
}

function drawRow() {
  const { items } = review.data;
  const item = items[review.at];
  const focused = review.row.contains(document.activeElement) ? document.activeElement.name : null;
  const button = (name, text, title, onclick) => el("button", { type: "button", name, title, onclick }, text);
  review.row.replaceChildren(
    el(
      "div",
      { class: "example-head" },
      choice(
        "Row",
        "row",
        items.map(({ sample, task }, at) => [String(at), `${sample}  ${task}`]),
        String(review.at),
        (value) => toRow(Number(value)),
      ),
      el(
        "div",
        { class: "row-actions" },
        el(
          "label",
          { class: "names" },
          el("input", {
            type: "checkbox",
            name: "names",
            checked: review.all,
            onchange: (event) => showNames(event.target.checked),
          }),
          "Show all names ",
          el("kbd", null, "n"),
        ),
        button("back", "\u2191", "Previous row (k)", () => toRow(review.at - 1)),
        button("on", "\u2193", "Next row (j)", () => toRow(review.at + 1)),
      ),
    ),
    el("blockquote", null, item.task),
    el(
      "div",
      { class: "asked" },
      el(
        "div",
        { class: "scenes" },
        item.pictures.length
          ? item.pictures.map((number, at) =>
              picture(`row ${item.sample}`, number, item.pictures.length > 1 ? `Picture ${at + 1}` : "Picture"),
            )
          : el("p", { class: "none" }, "This row has no picture."),
      ),
      el(
        "div",
        { class: "reference" },
        el("h3", null, "Reference plan"),
        el("div", { class: "written" }, item.reference),
      ),
    ),
    el(
      "div",
      { class: "sheet-of-plans" },
      item.plans.map((plan, at) => planCard(item, plan, at)),
    ),
    item.controls.length
      ? el(
          "details",
          { class: "fold" },
          el("summary", null, "Controls in this row"),
          el(
            "div",
            { class: "sheet-of-plans" },
            item.controls.map(({ name, said }) =>
              el("article", { class: "plan-card" }, el("h3", null, name), whatWasSaid(said, true)),
            ),
          ),
        )
      : "",
  );
  const again = focused && review.row.querySelector(`[name="${focused}"]`);
  if (again) again.focus();
}

function planCard(item, plan, at) {
  const place = `${item.sample}/${at}`;
  const [name, number] = review.data.models[plan.model];
  const open = review.all || review.shown.has(place);
  const facts = [
    plan.new_tokens !== null && plural(plan.new_tokens, "token"),
    plan.stop === "length" && "cut by the token limit",
    plan.cut > 0 && `${plural(plan.cut, "character")} more in outputs.jsonl`,
  ].filter(Boolean);
  const turn = () => {
    if (open) review.shown.delete(place);
    else review.shown.add(place);
    if (open && review.all) {
      review.all = false;
      item.plans.forEach((_, other) => other !== at && review.shown.add(`${item.sample}/${other}`));
    }
    drawRow();
  };
  return el(
    "article",
    { class: `plan-card ${open ? hue(number) : ""}`, "aria-label": `Plan ${at + 1}` },
    el(
      "div",
      { class: "plan-head" },
      el("h3", null, `Plan ${at + 1}`),
      open ? named(number, name) : null,
      el(
        "button",
        { type: "button", name: `plan-${at}`, "aria-pressed": String(open), onclick: turn },
        open ? "Hide" : "Who wrote it?",
      ),
    ),
    plan.text === null
      ? el(
          "p",
          { class: "noplan" },
          el("b", null, FAILURES[plan.failure.kind] || plan.failure.kind),
          el("br"),
          plan.failure.reason,
        )
      : plan.text.trim()
        ? el("div", { class: "written" }, plan.text)
        : el("p", { class: "none" }, "Nothing was written."),
    facts.length ? el("p", { class: "meta" }, facts.join(" \u00b7 ")) : null,
    whatWasSaid(plan.said, open),
  );
}

// Scores and reasons; verdicts in pairs name the base and so only stand where the name is shown.
function whatWasSaid({ rubric, pairwise }, open) {
  if (!rubric.length && !pairwise.length) return el("p", { class: "none" }, "Not judged.");
  return [
    rubric.length ? scoresOf(rubric) : null,
    pairwise.length && open ? pairsOf(pairwise) : null,
    pairwise.length && !open ? el("p", { class: "meta" }, "Verdicts in pairs are shown with the name.") : null,
    reasonsOf(open ? [...rubric, ...pairwise] : rubric),
  ];
}

function judgeName({ judge, repeat }, all) {
  const name = review.data.judges[judge];
  const more = all.some((one) => one.judge === judge && one.repeat > 0);
  return more ? `${name} ${repeat + 1}` : name;
}

const points = (value) => (Number.isInteger(value) ? String(value) : fixed(value, 2));

function scoresOf(rubric) {
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "scored" },
      heads([["Judge"], ...SCALES.map(([, title, meaning]) => [title, meaning])]),
      el(
        "tbody",
        null,
        rubric.map((one) =>
          el(
            "tr",
            null,
            el("th", { scope: "row" }, judgeName(one, rubric)),
            one.scores
              ? SCALES.map(([scale], at) =>
                  at ? el("td", null, points(one.scores[scale])) : el("td", null, el("b", null, fixed(one.final, 2))),
                )
              : el("td", { class: "failed", colspan: SCALES.length }, `failed: ${one.failure || "no reason given"}`),
          ),
        ),
      ),
    ),
  );
}

const VERDICTS = { model: "this plan is better", base: "the base is better", tie: "a tie" };

function pairsOf(pairwise) {
  return el(
    "ul",
    { class: "pairs" },
    pairwise.map((one) =>
      el(
        "li",
        null,
        el("b", null, judgeName(one, pairwise)),
        ` against ${one.base}, this plan shown ${one.model_first ? "first" : "second"}: `,
        one.verdict
          ? el("span", { class: { model: "better", base: "worse" }[one.verdict] }, el("b", null, VERDICTS[one.verdict]))
          : el("span", { class: "failed" }, `failed: ${one.failure || "no reason given"}`),
      ),
    ),
  );
}

function reasonsOf(said) {
  const given = said.filter(({ reasoning, notes }) => reasoning || notes.length);
  if (!given.length) return null;
  return el(
    "details",
    { class: "reasons" },
    el("summary", null, `Reasons and comments (${given.length})`),
    el(
      "dl",
      null,
      given.map((one) => [
        el(
          "dt",
          null,
          judgeName(
            one,
            said.filter((other) => "verdict" in other === "verdict" in one),
          ),
          "verdict" in one ? el("small", null, ` in a pair, shown ${one.model_first ? "first" : "second"}`) : null,
        ),
        el("dd", null, one.reasoning, one.notes.length ? el("small", null, ` ${one.notes.join(" ")}`) : null),
      ]),
    ),
  );
}

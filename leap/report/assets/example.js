// One example: pictures, instruction, ground truth and each model's plan beside it, raw answers.

// Signs and words, so that colour is never needed.
const MARKS = {
  wrong_skill: ["\u2260", "skill"],
  wrong_entity: ["\u2260", "entity"],
  wrong_container: ["\u2260", "container"],
  wrong_order: ["\u2195", "order"],
  missing_step: ["\u2212", "missing"],
  extra_step: ["+", "extra"],
};

const opened = { raw: false, prompt: false, scores: false };

const FAILURES = { machine: "Machine failure, no answer", data: "Bad example, not asked" };

function picture(name, number, caption) {
  const image = el("img", { alt: caption, decoding: "async" });
  const lost = () => place.replaceChildren(el("p", { class: "none" }, "picture missing"));
  const place = el(
    "button",
    {
      type: "button",
      class: "picture",
      title: "Enlarge",
      onclick: () => {
        if (image.src)
          openDialog(
            `${caption}, ${name}`,
            el("img", { class: `large ${image.className}`, alt: caption, src: image.src }),
          );
      },
    },
    image,
  );
  showPicture(image, report.index.pictures, number, lost);
  return el("figure", { class: "scene" }, place, el("figcaption", null, caption));
}

function step([skill, entity, container], marks = []) {
  const wrong = (mark) => (marks.includes(mark) ? "off" : null);
  return el(
    "span",
    { class: "step" },
    el("span", { class: ["skill", wrong("wrong_skill")].filter(Boolean).join(" ") }, String(skill)),
    entity === null && !marks.includes("wrong_entity")
      ? null
      : el(
          "span",
          { class: ["target", wrong("wrong_entity")].filter(Boolean).join(" ") },
          el("small", null, "entity "),
          entity === null ? "none" : String(entity),
        ),
    container === null && !marks.includes("wrong_container")
      ? null
      : el(
          "span",
          { class: ["target", wrong("wrong_container")].filter(Boolean).join(" ") },
          el("small", null, "container "),
          container === null ? "none" : String(container),
        ),
  );
}

const sign = (mark) =>
  el("span", { class: "sign" }, el("b", { "aria-hidden": "true" }, MARKS[mark][0]), " ", MARKS[mark][1]);

function cell(answer, row) {
  if (!row) return el("td", { class: "empty" });
  const [i, j, marks] = row;
  const kind = marks.length === 0 ? "equal" : marks[0];
  if (j === null) return el("td", { class: `cell ${kind}` }, sign("missing_step"));
  return el(
    "td",
    { class: `cell ${kind}` },
    marks.length
      ? marks.map(sign)
      : el(
          "span",
          { class: "sign" },
          el("b", { "aria-hidden": "true" }, "\u2713"),
          el("span", { class: "unseen" }, "equal"),
        ),
    i !== null && i !== j ? el("span", { class: "turn" }, `step ${j + 1}`) : null,
    step(answer.steps[j], marks),
  );
}

// Rows of the table: a ground-truth step each, and between them room for the extra steps of any model.
function planRows(detail, models) {
  const truth = detail.truth || [];
  const columns = models.map((model) => ({
    model,
    answer: detail.answers[model],
    at: truth.map(() => null),
    after: [[], ...truth.map(() => [])],
  }));
  for (const column of columns) {
    let last = 0;
    const rows =
      column.answer && column.answer.rows
        ? column.answer.rows
        : ((column.answer && column.answer.steps) || []).map((_, j) => [null, j, []]);
    column.plan = rows.some(([, j]) => j !== null);
    for (const row of rows) {
      if (row[0] === null) column.after[last].push(row);
      else {
        column.at[row[0]] = row;
        last = row[0] + 1;
      }
    }
  }
  const rows = [];
  for (let place = 0; place <= truth.length; place += 1) {
    const most = Math.max(0, ...columns.map(({ plan, after }) => (plan ? after[place].length : 0)));
    for (let extra = 0; extra < most; extra += 1)
      rows.push({ true: null, cellOf: (column) => column.after[place][extra] });
    if (place < truth.length) rows.push({ true: place, cellOf: (column) => column.at[place] });
  }
  if (!rows.length) rows.push({ true: null, cellOf: () => null });
  return el(
    "tbody",
    null,
    rows.map((row, at) =>
      el(
        "tr",
        null,
        row.true === null ? el("td") : el("th", { scope: "row" }, row.true + 1),
        row.true !== null
          ? el("td", { class: "truth" }, step(truth[row.true]))
          : el(
              "td",
              { class: "empty" },
              !truth.length && at === 0 ? el("span", { class: "none" }, "not at hand") : null,
            ),
        columns.map((column) => {
          if (column.plan) return cell(column.answer, row.cellOf(column));
          return at === 0 ? el("td", { class: "noplan", rowspan: rows.length }, whyNoPlan(column.answer)) : null;
        }),
      ),
    ),
  );
}

function whyNoPlan(answer) {
  if (!answer) return "Not answered";
  if (answer.failure) return [el("b", null, FAILURES[answer.failure] || answer.failure), el("br"), answer.reason];
  return [
    el("b", null, "\u2205 No plan in the answer"),
    el("br"),
    answer.status.grounded[1] || answer.status.official[1],
  ];
}

function modelHead(model, answer) {
  const right =
    answer && answer.scores && answer.scores.grounded && totalOf(answer, "grounded", "plan_success") === 100;
  return el(
    "th",
    { scope: "col" },
    named(model, report.index.models[model]),
    answer && answer.scores
      ? el(
          "div",
          { class: "totals" },
          ["grounded", "official"].map((scorer) =>
            el(
              "div",
              null,
              el("small", null, `${scorer} `),
              answer.scores[scorer] ? el("b", null, fixed(totalOf(answer, scorer, "total_score"))) : "not scored",
            ),
          ),
        )
      : null,
    right ? el("div", { class: "verdict right" }, "\u2713 right plan") : null,
    answer && answer.labels
      ? el(
          "ul",
          { class: "labels" },
          answer.labels.map((label) => el("li", null, words(label))),
        )
      : null,
    answer && answer.status && answer.status.official[0] !== "ok"
      ? el(
          "div",
          { class: "verdict" },
          `official: ${words(answer.status.official[0])}`,
          el("small", null, ` (${answer.status.official[1]})`),
        )
      : null,
    answer && answer.more ? el("div", { class: "verdict" }, `${plural(answer.more, "step")} more, not shown`) : null,
  );
}

function totalOf(answer, scorer, metric) {
  return answer.scores[scorer][report.overview.metrics[scorer].indexOf(metric)];
}

function toggled(name, title, ...content) {
  return el(
    "details",
    {
      class: "fold",
      "data-fold": name,
      open: opened[name],
      ontoggle: (event) => {
        opened[name] = event.target.open;
      },
    },
    el("summary", null, title),
    content,
  );
}

function rawAnswers(detail, models) {
  return el(
    "div",
    { class: "raw" },
    models
      .filter((model) => detail.answers[model] && detail.answers[model].text !== undefined)
      .map((model) => {
        const answer = detail.answers[model];
        const facts = [
          answer.new_tokens !== null && plural(answer.new_tokens, "token"),
          answer.stop && `stopped: ${answer.stop}`,
          answer.shots.length > 0 && `shots: ${answer.shots.join(", ")}`,
          answer.pictures_from && `pictures of ${answer.pictures_from}`,
          answer.imported && "imported: the text was not kept, this is its list",
          answer.cut > 0 && `${plural(answer.cut, "character")} more in generations.jsonl`,
        ];
        return el(
          "section",
          null,
          el("h3", null, named(model, report.index.models[model])),
          el("p", { class: "meta" }, facts.filter(Boolean).join(" \u00b7 ")),
          el("pre", { tabindex: 0 }, answer.text || "(empty)"),
        );
      }),
  );
}

function allScores(detail, models) {
  const rows = Object.entries(report.overview.metrics).flatMap(([scorer, names]) =>
    names.map((name, at) => [
      measureOf(scorer, name).name,
      (answer) => (answer && answer.scores && answer.scores[scorer] ? fixed(answer.scores[scorer][at]) : null),
    ]),
  );
  return scrollTable(
    "scores",
    el(
      "thead",
      null,
      el(
        "tr",
        null,
        el("td"),
        models.map((model) => el("th", { scope: "col" }, tag(model, report.index.models[model]))),
      ),
    ),
    el(
      "tbody",
      null,
      rows.map(([title, read]) =>
        el(
          "tr",
          null,
          el("th", { scope: "row" }, title),
          models.map((model) => {
            const value = read(detail.answers[model]);
            return el("td", { class: value === null ? "none" : null }, value === null ? "missing" : value);
          }),
        ),
      ),
    ),
  );
}

function exampleView(at, detail, models, actions) {
  const { examples } = report.index;
  const name = placeTitle(at);
  const [plain, tagged] = examples.pictures[at];
  return [
    el("div", { class: "example-head" }, el("h2", null, name), el("div", { class: "actions" }, actions)),
    detail.problem ? el("p", { class: "note" }, detail.problem) : null,
    el("blockquote", null, examples.instruction[at] || el("i", null, "no instruction at hand")),
    el(
      "div",
      { class: "scenes" },
      picture(name, plain, "Picture"),
      picture(name, tagged, "Picture with numbered tags"),
    ),
    models.length ? null : el("p", { class: "none" }, "No model is shown; choose some above."),
    scrollTable(
      "plans",
      el(
        "thead",
        null,
        el(
          "tr",
          null,
          el("th", { scope: "col" }, "#"),
          el("th", { scope: "col" }, "Ground truth"),
          models.map((model) => modelHead(model, detail.answers[model])),
        ),
      ),
      planRows(detail, models),
    ),
    el(
      "p",
      { class: "marks" },
      el("span", { class: "cell equal" }, "\u2713 equal"),
      Object.keys(MARKS).map((mark) =>
        el(
          "span",
          { class: `cell ${mark}` },
          `${MARKS[mark][0]} ${mark.startsWith("wrong") ? words(mark) : MARKS[mark][1]}`,
        ),
      ),
    ),
    toggled("raw", ["Raw answers ", el("kbd", null, "r")], rawAnswers(detail, models)),
    toggled("scores", "All scores", allScores(detail, models)),
    detail.prompts.length
      ? toggled(
          "prompt",
          "Prompt",
          detail.prompts.map((prompt, which) =>
            el(
              "section",
              null,
              detail.prompts.length > 1
                ? el(
                    "h3",
                    null,
                    models
                      .filter((model) => detail.answers[model] && detail.answers[model].prompt === which)
                      .map((model) => [named(model, report.index.models[model]), " "]),
                  )
                : null,
              el("pre", { tabindex: 0 }, prompt),
            ),
          ),
        )
      : null,
  ];
}

// The blind review: below its summary, row by row, the plans with their models' names hidden.

// `named` has "row/place" of each plan whose model's name is shown.
const review = { data: null, at: 0, all: false, named: new Set(), row: null };

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

function toRow(at) {
  const { sample } = nearest(review.data.items, at);
  history.replaceState(null, "", `#review/${sample}`);
  show();
}

function showNames(all) {
  review.all = all;
  review.named.clear();
  drawRow();
}

function drawRow() {
  const { items } = review.data;
  const item = items[review.at];
  redraw(review.row, [
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
        button("\u2191", () => toRow(review.at - 1), { name: "back", title: "Previous row (k)" }),
        button("\u2193", () => toRow(review.at + 1), { name: "on", title: "Next row (j)" }),
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
        el("div", { class: "written", tabindex: 0 }, item.reference),
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
              el("article", { class: "plan-card" }, el("h3", null, name), judgements(said, true)),
            ),
          ),
        )
      : "",
  ]);
}

function planCard(item, plan, at) {
  const place = `${item.sample}/${at}`;
  const [name, number] = review.data.models[plan.model];
  const open = review.all || review.named.has(place);
  const facts = [
    plan.new_tokens !== null && plural(plan.new_tokens, "token"),
    plan.stop === "length" && "cut by the token limit",
    plan.cut > 0 && `${plural(plan.cut, "character")} more in outputs.jsonl`,
  ].filter(Boolean);
  const turn = () => {
    if (open) review.named.delete(place);
    else review.named.add(place);
    if (open && review.all) {
      review.all = false;
      item.plans.forEach((_, other) => other !== at && review.named.add(`${item.sample}/${other}`));
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
      button(open ? "Hide" : "Who wrote it?", turn, { name: `plan-${at}`, "aria-pressed": String(open) }),
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
        ? el("div", { class: "written", tabindex: 0 }, plan.text)
        : el("p", { class: "none" }, "Nothing was written."),
    facts.length ? el("p", { class: "meta" }, facts.join(" \u00b7 ")) : null,
    judgements(plan.said, open),
  );
}

// Scores and reasons; verdicts in pairs name the base and so only stand where the name is shown.
function judgements({ rubric, pairwise }, open) {
  if (!rubric.length && !pairwise.length) return el("p", { class: "none" }, "Not judged.");
  return [
    rubric.length ? ratingsTable(rubric) : null,
    pairwise.length && open ? pairsOf(pairwise) : null,
    pairwise.length && !open ? el("p", { class: "meta" }, "Verdicts in pairs are shown with the name.") : null,
    reasonsOf(open ? [...rubric, ...pairwise] : rubric),
  ];
}

function judgeName({ judge, repeat }, all) {
  const name = review.data.judges[judge];
  const more = all.some((other) => other.judge === judge && other.repeat > 0);
  return more ? `${name} ${repeat + 1}` : name;
}

const points = (value) => (Number.isInteger(value) ? String(value) : fixed(value, 2));

function ratingsTable(rubric) {
  const scoreCells = ({ scores, final }) =>
    SCALES.map(([scale], at) => el("td", null, at ? points(scores[scale]) : el("b", null, fixed(final, 2))));
  return scrollTable(
    "scored",
    tableHead(["Judge", ...SCALES.map(([, title, meaning]) => [title, meaning])]),
    el(
      "tbody",
      null,
      rubric.map((rating) =>
        el(
          "tr",
          null,
          el("th", { scope: "row" }, judgeName(rating, rubric)),
          rating.scores
            ? scoreCells(rating)
            : el("td", { class: "failed", colspan: SCALES.length }, `failed: ${rating.failure || "no reason given"}`),
        ),
      ),
    ),
  );
}

const VERDICTS = { model: "this plan is better", base: "the base is better", tie: "a tie" };
const VERDICT_KINDS = { model: "better", base: "worse" };

function pairsOf(pairwise) {
  return el(
    "ul",
    { class: "pairs" },
    pairwise.map((pair) =>
      el(
        "li",
        null,
        el("b", null, judgeName(pair, pairwise)),
        ` against ${pair.base}, this plan shown ${pair.model_first ? "first" : "second"}: `,
        pair.verdict
          ? el("span", { class: VERDICT_KINDS[pair.verdict] }, el("b", null, VERDICTS[pair.verdict]))
          : el("span", { class: "failed" }, `failed: ${pair.failure || "no reason given"}`),
      ),
    ),
  );
}

function reasonsOf(all) {
  const reasoned = all.filter(({ reasoning, notes }) => reasoning || notes.length);
  if (!reasoned.length) return null;
  return el(
    "details",
    { class: "reasons" },
    el("summary", null, `Reasons and comments (${reasoned.length})`),
    el(
      "dl",
      null,
      reasoned.map((entry) => {
        const isPair = "verdict" in entry;
        const alike = all.filter((other) => "verdict" in other === isPair);
        return [
          el(
            "dt",
            null,
            judgeName(entry, alike),
            isPair ? el("small", null, ` in a pair, shown ${entry.model_first ? "first" : "second"}`) : null,
          ),
          el("dd", null, entry.reasoning, entry.notes.length ? el("small", null, ` ${entry.notes.join(" ")}`) : null),
        ];
      }),
    ),
  );
}

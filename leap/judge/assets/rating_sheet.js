// The rating sheet: plans under ids, four scales each, kept in the browser, handed over as CSV.

const SCORES = [1, 2, 3, 4, 5];

const sheet = { data: null, ids: [], state: { rater: "", plans: {} }, keeps: true, changed: false };
const nodes = { rater: null, bar: null, count: null, message: null };

// ---- what was rated

const ofPlan = (id) => sheet.state.plans[id] || {};
const isDone = (id) => sheet.data.scales.every(({ name }) => ofPlan(id)[name]);
const isBegun = (id) => Object.values(ofPlan(id)).some(Boolean);
const doneCount = () => sheet.ids.filter(isDone).length;
const storageName = () => `leap-ratings-${sheet.data.sheet}`;

function recall() {
  try {
    const stored = localStorage.getItem(storageName());
    if (stored) sheet.state = JSON.parse(stored);
    localStorage.setItem(storageName(), JSON.stringify(sheet.state));
  } catch {
    cannotKeep();
  }
}

function keep() {
  sheet.changed = true;
  if (!sheet.keeps) return;
  try {
    localStorage.setItem(storageName(), JSON.stringify(sheet.state));
  } catch {
    cannotKeep();
  }
}

// Storage is forbidden here, or full: the rater is told, and asked before leaving.
function cannotKeep() {
  sheet.keeps = false;
  say("This browser keeps nothing for this page. Export the CSV before you close it.");
  addEventListener("beforeunload", (event) => {
    if (sheet.changed) event.preventDefault();
  });
}

function set(id, changes) {
  sheet.state.plans[id] = { ...ofPlan(id), ...changes };
  keep();
  showState(id);
}

// ---- CSV

function quoted(text) {
  return /[",;\t\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvOf(ids) {
  const { columns } = sheet.data;
  const rows = ids.map((id) =>
    columns.map((name) =>
      quoted(String(name === "rater" ? sheet.state.rater.trim() : name === "plan_id" ? id : (ofPlan(id)[name] ?? ""))),
    ),
  );
  return [columns, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

// Rows of fields; the delimiter is the one that the first line has most of.
function parsed(text) {
  text = text.replace(/^\ufeff/, "");
  const head = text.split("\n", 1)[0];
  const count = (letter) => head.split(letter).length;
  const delimiter = [",", ";", "\t"].reduce((best, letter) => (count(letter) > count(best) ? letter : best));
  const rows = [[""]];
  let inside = false;
  for (let at = 0; at < text.length; at += 1) {
    const row = rows.at(-1);
    const character = text[at];
    if (inside && character === '"' && text[at + 1] === '"') {
      row[row.length - 1] += '"';
      at += 1;
    } else if (character === '"' && (inside || row.at(-1) === "")) inside = !inside;
    else if (!inside && character === delimiter) row.push("");
    else if (!inside && (character === "\n" || character === "\r")) {
      if (character === "\r" && text[at + 1] === "\n") at += 1;
      rows.push([""]);
    } else row[row.length - 1] += character;
  }
  return rows.filter((row) => row.some((field) => field.trim()));
}

function exportCsv() {
  const missing = sheet.ids.filter((id) => !isDone(id));
  const complete = sheet.ids.filter(isDone);
  if (!sheet.state.rater.trim()) {
    nodes.rater.setAttribute("aria-invalid", "true");
    nodes.rater.focus();
    return say("Write your name first; the ratings carry it.");
  }
  if (!complete.length) return say("No plan has all four scores yet, so there is nothing to export.");
  const address = URL.createObjectURL(new Blob(["\ufeff", csvOf(complete)], { type: "text/csv;charset=utf-8" }));
  const link = el("a", { href: address, download: sheet.data.file });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  sheet.changed = false;
  say(
    `${sheet.data.file} holds ${plural(complete.length, "plan")}. ` +
      (missing.length ? `${plural(missing.length, "plan")} without all four scores left out.` : "That is all of them."),
  );
}

// Take over the ratings of an earlier file; what was rated here since stays as it is.
async function importCsv(file) {
  const [head, ...rows] = parsed(await file.text());
  const at = Object.fromEntries(
    sheet.data.columns.map((name) => [name, (head || []).map((t) => t.trim()).indexOf(name)]),
  );
  const absent = sheet.data.columns.find((name) => at[name] < 0);
  if (absent) return say(`${file.name} has no column ${absent}; it is no export of this page.`);
  const raters = [...new Set(rows.map((row) => (row[at.rater] || "").trim()))];
  const rater = sheet.state.rater.trim() || (raters.length === 1 ? raters[0] : "");
  if (!raters.includes(rater))
    return say(
      `${file.name} holds ratings of ${raters.join(", ")}. Write that name into the field to go on with them.`,
    );
  const counts = { taken: 0, untouched: 0, unknown: 0, bad: 0 };
  for (const row of rows.filter((fields) => (fields[at.rater] || "").trim() === rater)) {
    const id = (row[at.plan_id] || "").trim();
    const scores = sheet.data.scales.map(({ name }) => [name, Number(row[at[name]])]);
    if (!sheet.ids.includes(id)) counts.unknown += 1;
    else if (!scores.every(([, score]) => SCORES.includes(score))) counts.bad += 1;
    else if (isBegun(id)) counts.untouched += 1;
    else {
      counts.taken += 1;
      sheet.state.plans[id] = { ...Object.fromEntries(scores), comment: row[at.comment] || "" };
    }
  }
  sheet.state.rater = rater;
  keep();
  draw();
  say(
    [
      `${plural(counts.taken, "rating")} taken over`,
      counts.untouched && `${counts.untouched} left as they are here`,
      counts.unknown && `${counts.unknown} of plans that are not on this sheet`,
      counts.bad && `${counts.bad} with scores that are none`,
    ]
      .filter(Boolean)
      .join(", ") + ".",
  );
}

// ---- the page

function say(text) {
  nodes.message.textContent = text;
}

function drawBar() {
  const file = el("input", {
    type: "file",
    class: "unseen",
    accept: ".csv,text/csv",
    tabindex: -1,
    "aria-hidden": "true",
    onchange: async () => {
      if (file.files.length) await importCsv(file.files[0]);
      file.value = "";
    },
  });
  nodes.rater = el("input", {
    name: "rater",
    autocomplete: "name",
    spellcheck: "false",
    oninput: () => {
      sheet.state.rater = nodes.rater.value;
      nodes.rater.removeAttribute("aria-invalid");
      keep();
    },
  });
  nodes.bar = el("progress", { max: sheet.ids.length, value: 0, "aria-hidden": "true" });
  nodes.count = el("span", { role: "status" });
  nodes.message = el("p", { class: "said", role: "alert" });
  document
    .getElementById("bar")
    .replaceChildren(
      el("h1", null, document.title),
      el("label", { class: "rater" }, "Your name", nodes.rater),
      el("div", { class: "progress" }, nodes.bar, nodes.count),
      el(
        "div",
        { class: "actions" },
        button(["Next unrated ", el("kbd", null, "n")], goOn, { name: "next" }),
        button("Import CSV", () => file.click(), { name: "import" }),
        button("Export CSV", exportCsv, { name: "export", class: "first" }),
        file,
      ),
      nodes.message,
    );
}

function scalesPanel() {
  const wide = matchMedia("(min-width: 1080px)").matches;
  return el(
    "details",
    { class: "scales", open: wide || !doneCount() },
    el("summary", null, "What the scores mean"),
    sheet.data.scales.map(({ name, title, anchors }) =>
      el(
        "section",
        { class: "scale", "data-scale": name },
        el("h2", null, title),
        el(
          "dl",
          null,
          anchors.map(([score, text]) => [el("dt", null, score), el("dd", null, text)]),
        ),
      ),
    ),
    el(
      "p",
      { class: "keys" },
      "Keys: ",
      ...[
        ["1", " to "],
        ["5", " score and go on, "],
        ["0", " takes it back, "],
        ["j", " and "],
        ["k", " next and previous scale, "],
        ["n", " next unrated, "],
        ["c", " comment, "],
        ["Esc", " out of it."],
      ].map(([name, text]) => [el("kbd", null, name), text]),
    ),
  );
}

function pictureOf(number, at, count) {
  const alt = count > 1 ? `Picture ${at + 1} of the task` : "Picture of the task";
  const image = el("img", { alt, decoding: "async" });
  const place = el("figure", { class: "picture" }, image);
  const lost = () => place.replaceChildren(el("p", { class: "none" }, "The picture is missing."));
  showPicture(image, sheet.data.pictures, number, lost);
  return place;
}

function scaleOf(id, { name, title, anchors }) {
  const meaning = Object.fromEntries(anchors);
  return el(
    "fieldset",
    { "data-plan": id, "data-scale": name, title: anchors.map(([score, text]) => `${score}: ${text}`).join("\n") },
    el("legend", null, title),
    el(
      "div",
      { class: "choices" },
      SCORES.map((score) =>
        el(
          "label",
          null,
          el("input", {
            type: "radio",
            name: `${id}-${name}`,
            value: score,
            checked: ofPlan(id)[name] === score,
            "aria-label": meaning[score] ? `${score}: ${meaning[score]}` : String(score),
            onchange: () => set(id, { [name]: score }),
          }),
          el("span", { "aria-hidden": "true" }, score),
        ),
      ),
    ),
  );
}

function planOf({ id, text }, at, count) {
  const comment = el("textarea", {
    name: `${id}-comment`,
    rows: 1,
    oninput: () => set(id, { comment: comment.value }),
  });
  comment.value = ofPlan(id).comment || "";
  return el(
    "article",
    { class: "plan", id: `plan-${id}`, "aria-label": `Plan ${at + 1} of ${count}` },
    el("h3", null, `Plan ${at + 1} of ${count}`, el("small", null, id), el("span", { class: "state" })),
    text.trim()
      ? el("div", { class: "text", tabindex: 0 }, text)
      : el("p", { class: "none" }, "Nothing was written: this plan is empty."),
    el(
      "div",
      { class: "rating" },
      sheet.data.scales.map((scale) => scaleOf(id, scale)),
    ),
    el("p", { class: "hint", "aria-hidden": "true" }),
    el("label", { class: "comment" }, "Comment, if you like", comment),
  );
}

function taskOf({ task, pictures, reference, plans }, at, all) {
  return el(
    "section",
    { class: "task" },
    el("header", null, el("p", { class: "place" }, `Task ${at + 1} of ${all.length}`), el("h2", null, task)),
    el(
      "div",
      { class: "given" },
      el(
        "div",
        { class: pictures.length > 1 ? "pictures many" : "pictures" },
        pictures.length
          ? pictures.map((number, which) => pictureOf(number, which, pictures.length))
          : el("p", { class: "none" }, "This task has no picture."),
      ),
      el("div", { class: "reference" }, el("h3", null, "Reference plan"), el("div", { class: "text", tabindex: 0 }, reference)),
    ),
    plans.map((plan, which) => planOf(plan, which, plans.length)),
  );
}

function draw() {
  nodes.rater.value = sheet.state.rater;
  document
    .getElementById("main")
    .replaceChildren(
      el(
        "div",
        { class: "sheet" },
        scalesPanel(),
        el(
          "div",
          { class: "rows" },
          el(
            "p",
            { class: "lead" },
            "Each task shows what a robot was asked to do, the scene before it starts, and a reference plan. Rate every ",
            "plan below it on four scales, on its own merits: a plan may differ from the reference and still be good. ",
            "Who wrote a plan is not in this page. Your ratings stay in this browser until you export them; ",
            "send the exported file back.",
          ),
          sheet.data.items.map(taskOf),
          el(
            "div",
            { class: "end" },
            el("p", null, "That was the last task."),
            button("Export CSV", exportCsv, { class: "first" }),
          ),
        ),
      ),
    );
  sheet.ids.forEach(showState);
}

function showState(id) {
  const node = document.getElementById(`plan-${id}`);
  const left = sheet.data.scales.filter(({ name }) => !ofPlan(id)[name]).length;
  node.classList.toggle("done", left === 0);
  node.querySelector(".state").textContent =
    left === 0 ? "\u2713 rated" : left < sheet.data.scales.length ? `${left} to go` : "";
  nodes.bar.value = doneCount();
  nodes.count.textContent = `${doneCount()} of ${plural(sheet.ids.length, "plan")} rated`;
}

// ---- keys

const scales = () => [...document.querySelectorAll("fieldset")];
const current = () => document.activeElement.closest("fieldset, .plan");

function focusOn(fieldset) {
  const radio = fieldset.querySelector("input:checked") || fieldset.querySelector("input");
  radio.focus({ preventScroll: true });
  const plan = fieldset.closest(".plan");
  const { top, bottom } = plan.getBoundingClientRect();
  if (top < 110 || bottom > innerHeight)
    plan.scrollIntoView({ block: bottom - top > innerHeight - 130 ? "end" : "center" });
}

// Where the reader is among the scales: a scale, or the first one of a plan; -1 for neither.
function currentScale(all) {
  const node = current();
  return node ? all.indexOf(node.matches("fieldset") ? node : node.querySelector("fieldset")) : -1;
}

function move(by) {
  const all = scales();
  const at = currentScale(all);
  if (at < 0) goOn();
  else focusOn(nearest(all, at + by));
}

// To the next scale without a score, from here on and then from the start.
function goOn() {
  const all = scales();
  const open = (scale) => !scale.querySelector("input:checked");
  const next = all.slice(Math.max(0, currentScale(all))).find(open) || all.find(open);
  if (next) focusOn(next);
  else say("Every plan has its four scores. Export the CSV.");
}

function score(key) {
  const scale = document.activeElement.closest("fieldset");
  if (!scale) {
    goOn();
    return;
  }
  const radios = [...scale.querySelectorAll("input")];
  if (key === "0") {
    for (const radio of radios) radio.checked = false;
    set(scale.dataset.plan, { [scale.dataset.scale]: null });
  } else {
    radios[Number(key) - 1].click();
    move(1);
  }
}

document.addEventListener("keydown", (event) => {
  if (isShortcut(event)) return;
  const typing = event.target.closest("textarea, input:not([type=radio])");
  if (typing) {
    if (event.key !== "Escape") return;
    const plan = typing.closest(".plan");
    if (plan) focusOn(plan.querySelector("fieldset"));
    else typing.blur();
  } else if (/^[0-5]$/.test(event.key)) score(event.key);
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "n") goOn();
  else if (event.key === "c" && current()) current().closest(".plan").querySelector("textarea").focus();
  else return;
  event.preventDefault();
});

document.addEventListener("focusin", (event) => {
  const scale = event.target.closest("fieldset");
  for (const node of document.querySelectorAll(".scale"))
    node.classList.toggle("now", Boolean(scale) && node.dataset.scale === scale.dataset.scale);
  if (scale) scale.closest(".plan").querySelector(".hint").textContent = scale.title;
});

async function start() {
  sheet.data = await unpack("sheet");
  sheet.ids = sheet.data.items.flatMap(({ plans }) => plans.map(({ id }) => id));
  drawBar();
  recall();
  draw();
}

startPage(start, "plans");

// Start: unpack what the first view needs, then follow the address.

const report = { overview: null, index: null };

function show() {
  const route = readRoute(location.hash);
  const name = pages[route.page] ? route.page : Object.keys(pages)[0];
  document
    .getElementById("pages")
    .replaceChildren(
      ...Object.entries(pages).map(([key, page]) =>
        el("a", { href: `#${key}`, "aria-current": key === name ? "page" : null }, page.title),
      ),
    );
  const before = document.body.dataset.page;
  document.body.dataset.page = name;
  pages[name].render(document.getElementById("main"), { ...route, page: name }, before !== name);
}

function openHelp() {
  const rows = [
    ["j  \u2193", "next example, or row of the blind review"],
    ["k  \u2191", "previous one"],
    ["/", "search the instructions"],
    ["r", "show or hide the raw answers"],
    ["n", "show or hide the names of the models in the blind review"],
    ["Esc", "leave the search, close a picture or this list; on a narrow screen, go back to the list"],
    ["?", "this list"],
  ];
  openDialog(
    "Keys",
    el(
      "dl",
      { class: "keys" },
      rows.map(([keys, text]) => [
        el(
          "dt",
          null,
          keys.split("  ").map((one) => [el("kbd", null, one), " "]),
        ),
        el("dd", null, text),
      ]),
    ),
  );
}

function openDialog(title, ...content) {
  for (const open of document.querySelectorAll("dialog")) open.remove();
  const dialog = el(
    "dialog",
    {
      "aria-label": title,
      onclose: () => dialog.remove(),
      onclick: (event) => event.target === dialog && dialog.close(),
    },
    el(
      "div",
      { class: "dialog-head" },
      el("h2", null, title),
      el("button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "\u00d7"),
    ),
    content,
  );
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const dialog = document.querySelector("dialog[open]");
  if (dialog) {
    if (event.key !== "Escape") return;
    dialog.close();
    event.preventDefault();
    return;
  }
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape" && typing) typing.blur();
  else if (typing) return;
  else if (event.key === "?") openHelp();
  else if (!(pages[document.body.dataset.page].key && pages[document.body.dataset.page].key(event))) return;
  event.preventDefault();
});

async function start() {
  document.getElementById("help-button").addEventListener("click", openHelp);
  if (typeof DecompressionStream === "undefined")
    throw new Error("this browser is too old to unpack the data; one of 2023 or newer can");
  [report.overview, report.index] = await Promise.all([unpack("overview"), unpack("index")]);
  if (!report.index.review) delete pages.review;
  if (!report.index.models.length) {
    delete pages.overview;
    delete pages.examples;
  }
  addEventListener("hashchange", show);
  show();
}

start().catch((error) => {
  document
    .getElementById("main")
    .replaceChildren(el("p", { class: "note" }, `This page cannot be shown: ${error.message}`));
  throw error;
});

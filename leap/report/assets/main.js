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
  const isNew = document.body.dataset.page !== name;
  document.body.dataset.page = name;
  pages[name].render(document.getElementById("main"), { ...route, page: name }, isNew);
}

function openHelp() {
  const rows = [
    ["j  \u2193", "next example, or row of the blind review"],
    ["k  \u2191", "previous one"],
    ["/", "search the instructions, or the answers too"],
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
          keys.split("  ").map((key) => [el("kbd", null, key), " "]),
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
      button("\u00d7", () => dialog.close(), { "aria-label": "Close" }),
    ),
    content,
  );
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (isShortcut(event)) return;
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
  [report.overview, report.index] = await Promise.all([unpack("overview"), unpack("index")]);
  if (!report.index.review) delete pages.review;
  if (!report.index.models.length) {
    delete pages.overview;
    delete pages.examples;
  }
  addEventListener("hashchange", show);
  show();
}

startPage(start, "data");

// The islands of data. Those behind this script may still be arriving when they are asked for.

const MOST_UNPACKED = 16; // islands of details; a page may have thousands
const unpackedDetails = new Map();
const pictureLines = new Map();

const soon = () => new Promise((resolve) => setTimeout(resolve, 25));

// The text of an island, or null if there is none. One is whole once something follows it.
async function island(name) {
  for (;;) {
    const node = document.getElementById(`data-${name}`);
    if (node && (node.nextSibling || document.readyState !== "loading")) return node.textContent;
    if (!node && document.readyState !== "loading") return null;
    await soon();
  }
}

async function unpack(name) {
  const text = await island(name);
  if (text === null) return null;
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = characters.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// The details of the examples of an island; those looked at last stay unpacked.
function detailsIn(number) {
  const details = unpackedDetails.get(number) || unpack(`details-${number}`);
  unpackedDetails.delete(number);
  unpackedDetails.set(number, details);
  if (unpackedDetails.size > MOST_UNPACKED) unpackedDetails.delete(unpackedDetails.keys().next().value);
  return details;
}

async function linesOf(number) {
  if (!pictureLines.has(number))
    pictureLines.set(
      number,
      island(`pictures-${number}`).then((text) => (text || "").split("\n")),
    );
  return pictureLines.get(number);
}

// The address of a picture, or null if there is none.
async function pictureAddress(pictures, number) {
  if (number < 0) return null;
  if (pictures.folder !== null) return `${pictures.folder}/${pictures.names[number]}`;
  const lines = await linesOf(Math.floor(number / pictures.an_island));
  const line = lines[number % pictures.an_island];
  return line ? `data:image/${pictures.format};base64,${line}` : null;
}

// Show a picture in `image` once it has arrived; `missing` is called if there is none.
function showPicture(image, pictures, number, missing) {
  if (number < 0) {
    missing();
    return;
  }
  image.addEventListener("error", missing, { once: true });
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 160), { once: true });
  pictureAddress(pictures, number).then((address) => {
    if (address === null) missing();
    else image.src = address;
  });
}

// Start a page that unpacks `what`; an error is shown in its place.
async function startPage(start, what) {
  try {
    if (typeof DecompressionStream === "undefined")
      throw new Error(`this browser is too old to unpack the ${what}; one of 2023 or newer can`);
    await start();
  } catch (error) {
    document
      .getElementById("main")
      .replaceChildren(el("p", { class: "note" }, `This page cannot be shown: ${error.message}`));
    throw error;
  }
}

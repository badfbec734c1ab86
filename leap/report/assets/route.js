// Where the reader is, kept in the address behind "#": a page, or an example, and the filters.
//
//   #overview    #examples?error=wrong_entity    #Spatial/select_fruit_spatial/3?model=baseline    #review/3

// The pages by name: {title, render(main, route, isNew), key(event): whether it used the key}. Each file adds its own.
const pages = {};

const FILTERS = [
  "dimension",
  "task",
  "model",
  "outcome",
  "error",
  "q",
  "sort",
  "a",
  "b",
  "show",
  "where",
  "mean",
  "measure",
  "base",
  "over",
];

function readRoute(hash) {
  const [path, query] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const parameters = new URLSearchParams(query || "");
  const filters = {};
  for (const name of FILTERS) if (parameters.get(name)) filters[name] = parameters.get(name);
  const parts = path.split("/").map(decoded);
  if (parts.length === 3) {
    return { page: "examples", place: { dimension: parts[0], task: parts[1], number: Number(parts[2]) }, filters };
  }
  return { page: parts[0] || "overview", part: parts[1] || null, place: null, filters };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a "%" that was typed
  }
}

function writeRoute({ page, place, filters }) {
  const path = place ? [place.dimension, place.task, place.number].map(encodeURIComponent).join("/") : page;
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value)).toString();
  return `#${path}${query ? `?${query}` : ""}`;
}

// Go to a route. Small steps (the next example, a filter) replace the entry in the browser's history.
function go(route, replace = false) {
  const hash = writeRoute(route);
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  show();
}

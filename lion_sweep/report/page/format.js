// Elements and numbers. Texts of results only ever become text nodes.

const DATA = JSON.parse(document.getElementById("data").textContent);
const HOLE = "—";

/** An element with attributes (functions are listeners) and children; what is null is left out. */
function h(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** Replace what a place holds; what is null is left out. */
function put(place, ...children) {
  place.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

const known = (value) => typeof value === "number" && Number.isFinite(value);
const fixed = (value, digits = 4) => (known(value) ? value.toFixed(digits) : HOLE);
const signed = (value, digits = 4) => (known(value) ? (value >= 0 ? "+" : "") + value.toFixed(digits) : HOLE);

/** A number of any size, as in 12,345 and 1.23e+12. */
function plain(value, digits = 3) {
  if (!known(value)) return HOLE;
  if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-3)) {
    return value.toExponential(digits - 1).replace(/\.?0+e/, "e");
  }
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const whole = Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1 ? 2 : 4;
  return value.toLocaleString("en-US", { minimumFractionDigits: whole, maximumFractionDigits: whole });
}

const bytes = (value) => (known(value) ? `${plain(value / 2 ** 20)} MiB` : HOLE);
const words = (key) => key.replaceAll("_", " ");
const cellLink = (id) => `#cell=${encodeURIComponent(id)}`;

/** A select with a label that calls back with the chosen value. */
function chooser(title, options, chosen, change) {
  const entries = options.map(([value, said]) =>
    h("option", { value, selected: value === chosen }, said));
  return h("label", {}, title, h("select", { "aria-label": title, change: (event) => change(event.target.value) }, entries));
}

/** Rows of two texts. */
function pairs(entries, label) {
  return h("div", { class: "wide", role: "region", tabindex: "0", "aria-label": label },
    h("table", {}, h("tbody", {}, entries.map(([key, value]) =>
      h("tr", {}, h("th", { scope: "row" }, key), h("td", { class: "text" }, value))))));
}

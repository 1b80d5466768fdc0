// Charts: drawn when they come into view, or when there is nothing else to do.

const waiting = new Map();
const watcher = "IntersectionObserver" in window
  ? new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (entry.isIntersecting) drawNow(entry.target);
    }), { rootMargin: "300px" })
  : null;

const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));

function drawNow(place) {
  const work = waiting.get(place);
  if (!work) return Promise.resolve();
  waiting.delete(place);
  watcher?.unobserve(place);
  return work();
}

function drawRest() {
  const [place] = waiting.keys();
  if (!place) return;
  drawNow(place).finally(() => idle(drawRest));
}

/** Draw a specification with datasets; `patch` changes a copy of it first. */
function draw(place, spec, datasets, { patch, caution } = {}) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const work = () => {
    const own = structuredClone(spec);
    Object.assign(own, { title: caution, background: "transparent", width: "container", datasets,
      autosize: { type: "fit-x", contains: "padding" } });
    if (place.clientWidth && place.clientWidth < 480) narrow(own);
    patch?.(own);
    return window.vegaEmbed(place, own, {
      renderer: "svg", logLevel: 1, tooltip: { theme: dark ? "dark" : "light" },
      actions: { export: true, source: false, compiled: false, editor: false },
    }).catch((error) => { place.textContent = `This chart could not be drawn: ${error.message}`; });
  };
  if (waiting.size === 0) idle(drawRest);
  waiting.set(place, work);
  watcher ? watcher.observe(place) : drawNow(place);
}

/** Legends below, on a phone. */
function narrow(spec) {
  spec.config = { ...spec.config, legend: { ...spec.config?.legend, orient: "bottom", columns: 2 } };
}

/** A figure with a title, controls and a caption; `fill(place)` draws into it. */
function figure(title, caption, fill, { controls = [], whole = false } = {}) {
  const place = h("div", { class: "chart", role: "img", "aria-label": title });
  const made = h("figure", { class: whole ? "whole" : null }, h("h3", {}, title),
    controls.length ? h("div", { class: "controls" }, controls) : null, place,
    h("figcaption", {}, caption));
  fill(place);
  return made;
}

const X_OF_CURVES = ["step", "useful_flops", "tokens", "seconds"];
const MOST_CURVES = 40;

const bm25Rows = (section, measure) =>
  measure in section.bm25 ? [{ name: "BM25", score: section.bm25[measure] }] : [];

function scoreRows(section, systems, measure) {
  const main = measure === section.measures[0], rows = [...new Set(section.systems.map((s) => s.row))];
  const step = Math.min(4, 40 / rows.length);
  return systems.map((system) => {
    const [score, spread] = system.scores[measure] ?? [null, null];
    const ends = main ? system.interval : known(spread) ? [score - spread, score + spread] : null;
    return { name: system.name, row: system.row, at: system.at, across: system.across, colour: system.colour, line: system.line,
      other: system.other, score, low: known(score) ? ends?.[0] ?? null : null,
      high: known(score) ? ends?.[1] ?? null : null,
      dodge: step * (rows.indexOf(system.row) - (rows.length - 1) / 2), costs: system.costs };
  });
}

function retitle(spec, from, to) {
  const walk = (part) => {
    if (!part || typeof part !== "object") return;
    if (part.title === from) part.title = to;
    Object.values(part).forEach(walk);
  };
  walk(spec);
}

/** A point lacks what other points have measured; a step without a number breaks the line. */
const drawable = (rows, kind) => rows.filter((row) => known(row.x) && (kind !== "points" || known(row.y)));

/** Curves of training of the systems, with the choice of what is drawn over what. */
function curves(section, systems) {
  const told = systems.flatMap((system) => system.ids.map((id) => [system, DATA.cells[id]]))
    .filter(([, cell]) => cell?.history || cell?.points);
  if (!told.length) return null;
  const drawn = told.slice(0, MOST_CURVES), place = h("div", { class: "chart", role: "img", "aria-label": "Training curves" });
  const options = curveOptions(drawn.map(([, cell]) => cell));
  const state = { y: options.ys[0][0], x: options.xs[0][0] };
  const fill = () => {
    const [kind, key] = state.y.split(":");
    const rows = drawn.flatMap(([system, cell]) => (cell[kind]?.[key] ?? []).map((y, number) => ({
      name: system.ids.length > 1 ? `${system.name}, seed ${cell.seed}` : system.name,
      colour: system.colour, line: system.line, x: cell[kind][state.x]?.[number] ?? null, y })));
    draw(place, section.charts.curves, { curve: drawable(rows, kind) },
      { caution: DATA.cautions[section.ladder], patch: (spec) => titled(spec, words(state.x), words(key)) });
  };
  fill();
  const left = told.length - drawn.length;
  return h("figure", {}, h("h3", {}, "Training"),
    h("div", { class: "controls" },
      chooser("Of", options.ys, state.y, (y) => { state.y = y; fill(); }),
      chooser("over", options.xs, state.x, (x) => { state.x = x; fill(); })),
    place,
    h("figcaption", {}, "From history.jsonl and points.jsonl of the cells, thinned evenly where they are long.",
      left ? ` The first ${drawn.length} of ${told.length}: filter for others.` : ""));
}

function titled(spec, x, y) {
  Object.assign(spec.encoding.x, { title: x });
  Object.assign(spec.encoding.y, { title: y });
  spec.encoding.tooltip = spec.encoding.tooltip.map((tip) =>
    ({ ...tip, title: { x, y }[tip.field] ?? tip.title }));
}

/** What can be drawn of some cells' curves, and over what. */
function curveOptions(cells) {
  const keys = (kind) => [...new Set(cells.flatMap((cell) => Object.keys(cell[kind] ?? {})))];
  const ys = ["history", "points"].flatMap((kind) => keys(kind)
    .filter((key) => !X_OF_CURVES.includes(key))
    .map((key) => [`${kind}:${key}`, kind === "points" ? `${words(key)} (evaluated)` : words(key)]));
  ys.sort(([one], [other]) => (other === "history:loss") - (one === "history:loss"));
  const xs = X_OF_CURVES.filter((key) => keys("history").includes(key) || keys("points").includes(key));
  return { ys, xs: xs.map((key) => [key, words(key)]) };
}

/** Values per query of a system, of the section's main measure. */
function perQuery(section, name) {
  const raw = atob(section.per_query.values[name]);
  const values = new Uint16Array(raw.length / 2);
  for (let place = 0; place < values.length; place++) {
    values[place] = raw.charCodeAt(2 * place) + 256 * raw.charCodeAt(2 * place + 1);
  }
  return values;
}

/** Queries won and lost between two systems that can be chosen. */
function wins(section) {
  const told = section.per_query;
  if (!told) return null;
  const names = Object.keys(told.values), options = names.map((name) => [name, name]);
  const best = section.systems.find((system) => system.marks.includes("best"))?.name ?? names[0];
  const state = { a: best, b: names.findLast((name) => name !== best) };
  const place = h("div", { class: "chart", role: "img", "aria-label": "Differences by query" });
  const summary = h("p", { class: "summary" }), lists = h("div", { class: "columns" });
  const texts = DATA.texts[section.texts] ?? {};
  const fill = () => {
    const [a, b] = [perQuery(section, state.a), perQuery(section, state.b)];
    const rows = told.queries.map((query, number) => ({ query, a: a[number] * told.scale,
      b: b[number] * told.scale, difference: (a[number] - b[number]) * told.scale }));
    rows.sort((one, other) => other.difference - one.difference || one.query.localeCompare(other.query));
    rows.forEach((row, rank) => Object.assign(row, { rank, next: rank + 1 }));
    const won = rows.filter((row) => row.difference > 0), lost = rows.filter((row) => row.difference < 0);
    const mean = rows.reduce((sum, row) => sum + row.difference, 0) / rows.length;
    summary.textContent = `${state.a} is higher on ${won.length}, equal on ${rows.length - won.length - lost.length} ` +
      `and lower on ${lost.length} of ${rows.length} queries than ${state.b}; mean difference ${signed(mean)}.`;
    const patch = (spec) => {
      spec.encoding.y.title = `difference in ${section.measures[0]}`;
      spec.encoding.tooltip = spec.encoding.tooltip.map((tip) => ({ ...tip, title: state[tip.field] ?? tip.field }));
    };
    draw(place, DATA.charts.wins, { differences: rows }, { patch, caution: DATA.cautions[section.ladder] });
    const list = (title, entries) => h("div", {}, h("h4", {}, title), entries.slice(0, 5).map((row) =>
      h("div", { class: "query" }, h("code", {}, row.query), ` ${signed(row.difference)} `,
        texts[row.query] ? h("span", {}, texts[row.query]) : null)));
    put(lists, list(`Most won by ${state.a}`, won), list(`Most won by ${state.b}`, [...lost].reverse()));
  };
  fill();
  const left = told.of - told.queries.length;
  return h("figure", { class: "whole wins" }, h("h3", {}, "Query by query"),
    h("div", { class: "controls" }, chooser("A", options, state.a, (a) => { state.a = a; fill(); }),
      chooser("B", options, state.b, (b) => { state.b = b; fill(); })),
    summary, place, lists,
    h("figcaption", {}, `${section.measures[0]} of A less that of B for each query; means over the seeds where there are several.`,
      left ? ` ${told.queries.length} queries of ${told.of}, evenly taken, are in this page.` : "",
      " Tests of all pairs are in significance.csv."));
}

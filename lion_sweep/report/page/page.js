// The view of a section, and what the address says: #section=NUMBER, #cell=ID.

const views = { cell: document.getElementById("cell"), tables: document.getElementById("tables") };
const aside = ["top", "chapters", "provenance"].map((id) => document.getElementById(id));
const state = { section: Math.max(0, DATA.sections.findIndex((one) => one.own)), measure: null, hidden: {} };

const section = () => DATA.sections[state.section];
const passes = (system) => Object.entries(state.hidden).every(([key, out]) =>
  !out.size || !(key in system.axes) || !out.has(system.axes[key]));

function showSection() {
  const here = section();
  if (!here.measures.includes(state.measure)) state.measure = here.measures[0];
  const changing = h("div", {});
  const fill = () => put(changing, scaling(here), everyCell(here), charts(here));
  const measures = here.measures.length > 1
    ? chooser("Measure", here.measures.map((m) => [m, m]), state.measure, (m) => { state.measure = m; fill(); })
    : null;
  put(views.tables,
    h("h2", {}, "Scaling table"), sectionTabs(), h("h3", {}, `${here.ladder} ladder, ${here.name}`),
    h("p", { class: `label ${here.ladder}` }, label(here.ladder)),
    h("div", { class: "controls" }, measures, chips(here.axes, state.hidden, fill)),
    here.constant.length ? h("p", { class: "note" }, "The same in all cells: ",
      here.constant.map(([key, value]) => `${key} ${value}`).join(", "), ".") : null,
    changing);
  fill();
}

function sectionTabs() {
  if (DATA.sections.length < 2) return null;
  return h("nav", { class: "controls", "aria-label": "Collections" }, DATA.sections.map((other, number) =>
    h("a", { href: `#section=${number}`, "aria-current": number === state.section ? "true" : null },
      `${other.name}${new Set(DATA.sections.map((s) => s.ladder)).size > 1 ? ` (${other.ladder})` : ""}`)));
}

// What a system's score looks like.

function scoreOf(system, here) {
  if (system.hole) return [HOLE, h("small", {}, shortened(system.hole))];
  const [mean, spread, seeds] = system.scores[state.measure] ?? [null, null, 0];
  const main = state.measure === here.measures[0];
  const link = h("a", { href: cellLink(system.ids[0]) }, fixed(mean));
  const marks = main ? system.marks : [];
  return [link, marks.includes("tied") ? " ≈" : "",
    marks.includes("above") ? h("span", { class: "above" }, " ▲") : "",
    marks.includes("below") ? h("span", { class: "below-mark" }, " ▼") : "",
    main && system.interval ? h("small", {}, `[${fixed(system.interval[0])}, ${fixed(system.interval[1])}]`) : null,
    seeds > 1 ? h("small", {}, `± ${fixed(spread)} (n=${seeds})`) : null];
}

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 59)}…` : text);
const kindOf = (system, here) => system.hole ? "hole"
  : state.measure === here.measures[0] && system.marks.includes("best") ? "best" : null;
const meanOf = (system) => system?.scores[state.measure]?.[0] ?? null;

function scaling(here) {
  const shown = here.systems.filter(passes), rows = new Map();
  for (const system of shown) {
    if (!rows.has(system.row)) rows.set(system.row, { name: system.row });
    rows.get(system.row)[system.across] = system;
  }
  const heads = here.columns.values.map(([said]) => said)
    .filter((said) => shown.some((system) => system.across === said));
  const columns = [
    { title: "System", value: (row) => row.name, show: (row) => row.name },
    ...heads.map((said) => ({ title: said, value: (row) => meanOf(row[said]),
      kind: (row) => row[said] && kindOf(row[said], here),
      show: (row) => (row[said] ? scoreOf(row[said], here) : "") })),
  ];
  const interval = here.bm25_interval && state.measure === here.measures[0]
    ? ` [${here.bm25_interval.map((end) => fixed(end)).join(", ")}]` : "";
  const foot = state.measure in here.bm25
    ? h("tr", { class: "bm25" }, h("th", { scope: "row" }, "BM25"),
        h("td", { colspan: Math.max(1, heads.length) }, `${fixed(here.bm25[state.measure])}${interval}, whatever the column`))
    : null;
  const missing = shown.filter((system) => system.hole);
  return h("div", { class: "scaling" },
    sortable(`${state.measure} on ${here.name}`, columns, [...rows.values()], foot),
    h("p", { class: "below legend" }, legend(here)),
    missing.length ? h("details", { class: "holes", open: missing.length <= 10 },
      h("summary", {}, `${missing.length} without a result`),
      h("ul", {}, missing.map((system) => h("li", {}, `${system.name}: ${system.hole}`)))) : null,
    here.notes.map((note) => h("p", { class: "below" }, note)));
}

function legend(here) {
  const tests = here.tests, main = state.measure === here.measures[0];
  if (!main) return `Intervals and tests are of ${here.measures[0]}. ± is the standard deviation over n seeds.`;
  if (!tests.queries) return "No tests: values per query are missing.";
  return `Bold: the highest. ≈: not significantly different from it. ▲ ▼: significantly above or below BM25. ` +
    `[ ]: ${100 * tests.level} % bootstrap interval over the queries. Tests: ${tests.words}. ` +
    `—: no result. A click on a number opens its cell.`;
}

function everyCell(here) {
  const form = { flops: plain, index_bytes: bytes, hours: (v) => (known(v) ? plain(v) : HOLE) };
  const name = (system) => (system.ids.length ? h("a", { href: cellLink(system.ids[0]) }, system.name) : system.name);
  const end = (number) => ({ value: (s) => s.interval?.[number], show: (s) => fixed(s.interval?.[number]) });
  const columns = [
    { title: "Cell", value: (s) => s.name, show: name },
    ...here.axes.map((axis) => ({ title: axis.title, value: (s) => ordered(s.axes[axis.key]),
      show: (s) => axis.values.find(([value]) => value === s.axes[axis.key])?.[1] ?? s.axes[axis.key] })),
    ...here.measures.map((m) => ({ title: m, value: (s) => s.scores[m]?.[0], kind: (s) => (s.hole ? "hole" : null),
      show: (s) => fixed(s.scores[m]?.[0]) })),
    { title: "from", said: "lower end of the interval", ...end(0) },
    { title: "to", said: "upper end of the interval", ...end(1) },
    { title: "vs BM25", said: "whether it differs significantly", value: (s) => verdict(s, here), show: (s) => verdict(s, here) },
    ...here.costs.map((cost) => ({ title: cost.title, said: cost.said, value: (s) => s.costs[cost.key],
      show: (s) => (form[cost.key] ?? plain)(s.costs[cost.key]) })),
    { title: "Seeds", value: (s) => s.seeds.length, show: (s) => s.seeds.join(", ") || HOLE },
  ];
  const done = here.systems.filter((system) => !system.hole);
  const texts = (column) => new Set(done.map((system) => column.show(system)));
  const constant = columns.slice(1).filter((column) => done.length > 1 && texts(column).size === 1);
  return h("div", { class: "every" }, h("h3", {}, "Every cell"),
    sortable(`Cells on ${here.name}`, columns.filter((column) => !constant.includes(column)), here.systems.filter(passes)),
    constant.length ? h("p", { class: "below constant" }, "The same in all that have a result: ",
      constant.map((column) => `${column.title} ${[...texts(column)][0]}`).join(", "), ".") : null,
    h("p", { class: "below" }, here.costs.map((cost) => `${cost.title}: ${cost.said}.`).join(" ")));
}

/** A setting as it sorts: a number where it is one, null where there is none. */
const ordered = (text) => (text === "null" ? null : text.trim() && Number.isFinite(Number(text)) ? Number(text) : text);

function verdict(system, here) {
  if (!system.interval || !here.bm25_interval) return HOLE;
  return system.marks.includes("above") ? "above" : system.marks.includes("below") ? "below" : "not different";
}

function charts(here) {
  if (!here.charts.scaling) return h("p", { class: "note" }, "Charts could not be made on the machine that wrote this page.");
  const systems = here.systems.filter(passes), main = here.measures[0], caution = DATA.cautions[here.ladder];
  const bm25 = bm25Rows(here, state.measure), rows = scoreRows(here, systems, state.measure);
  const caption = state.measure === main
    ? "Bars: 95 % bootstrap intervals over the queries." : "Bars: standard deviation over the seeds, where there are several.";
  const alike = [];
  const parts = [figure(`${state.measure} over ${here.columns.title}`, `${caption} A line breaks at a hole.`, (place) =>
    draw(place, here.charts.scaling, { points: rows, bm25 }, { caution, patch: (spec) => retitle(spec, main, state.measure) }))];
  for (const [key, spec] of Object.entries(here.charts.tradeoffs)) {
    const points = scoreRows(here, systems, main).map((row) => ({ ...row, cost: row.costs[key] ?? null }));
    if (!points.some((row) => known(row.cost) && known(row.score))) continue;
    const cost = here.costs.find((one) => one.key === key);
    const spent = points.map((row) => row.cost).filter(known);
    if (Math.max(...spent) <= 1.01 * Math.min(...spent)) {
      alike.push(cost.title);
      continue;
    }
    parts.push(figure(`${main} against ${cost.title}`, `${cost.title}: ${cost.said}. The grey line is the front: no cell shown here is better at less.`,
      (place) => draw(place, spec, { points, bm25: bm25Rows(here, main) }, { caution })));
  }
  const shown = new Set(systems.map((system) => system.name)), topk = here.topk.filter((row) => shown.has(row.name));
  if (topk.length) {
    parts.push(figure(`${main} with fewer terms`, "The same sparse vectors, searched with all their terms and with their largest: evaluation.topk.",
      (place) => draw(place, here.charts.topk, { topk }, { caution })));
  }
  for (const [name, { datasets, ...spec }] of Object.entries(here.charts.profiles)) {
    parts.push(figure(`${name}: contrastive entropy over size`, "Lower is better; lines are the parabolas of the table of IsoFLOP profiles, where it has them. Filters do not change it.",
      (place) => draw(place, spec, datasets, { caution })));
  }
  parts.push(curves(here, systems));
  const sets = DATA.sets[here.ladder];
  if (sets) {
    const names = new Set(systems.map((system) => system.name)), kept = sets.rows.filter((row) => names.has(row.name)).slice(0, 3000);
    parts.push(figure("Every collection", "Scores, coloured by their distance to BM25 on the same collection.",
      (place) => draw(place, sets.spec, { sets: kept }, { caution, patch: (spec) => {
        const [rows, columns] = ["name", "set"].map((key) => new Set(kept.map((row) => row[key])).size);
        spec.height *= rows; // that of one row
        if (place.clientWidth < 300 + 48 * columns) { // it scrolls rather than overlaps
          Object.assign(spec, { width: 48 * columns, autosize: { type: "pad" } });
        }
      } }), { whole: true }));
  }
  parts.push(wins(here));
  const same = alike.length ? h("p", { class: "note" }, `Within 1 % the same for all cells shown, hence without a chart: ${alike.join(", ")}.`) : null;
  return h("div", {}, h("h2", {}, `Figures${caution ? `: ${caution}` : ""}`), same, h("div", { class: "figures" }, parts.filter(Boolean)));
}

function provenance() {
  const place = document.getElementById("provenance");
  place.append(h("h2", {}, "Provenance"));
  for (const [ladder, common] of Object.entries(DATA.common)) {
    const cells = Object.entries(DATA.cells).filter(([, cell]) => cell.ladder === ladder);
    const rows = cells.map(([id, cell]) => ({ id, cell, differs: Object.entries(cell.provenance) }))
      .filter((row) => row.differs.length);
    place.append(h("h3", {}, `${ladder} ladder: what most of ${cells.length} results have`),
      pairs(Object.entries(common.provenance), `Provenance, ${ladder} ladder`));
    if (rows.length) place.append(h("h4", {}, "What some have otherwise"), sortable("Provenance that differs", [
      { title: "Cell", value: (row) => row.cell.name, show: (row) => h("a", { href: cellLink(row.id) }, `${row.cell.name}, seed ${row.cell.seed}`) },
      { title: "Otherwise", value: (row) => row.differs.length, kind: () => "text",
        show: (row) => row.differs.map(([key, value]) => `${key}: ${value}`).join("; ") },
    ], rows));
  }
}

// Addresses.

let scrolled = 0;

function route() {
  const [kind, value] = location.hash.slice(1).split("=").map(decodeURIComponent);
  const one = kind === "cell" && Object.hasOwn(DATA.cells, value);
  if (one) {
    if (views.cell.hidden) scrolled = window.scrollY;
    put(views.cell, cellPage(value));
  }
  const came = !views.cell.hidden && !one;
  views.cell.hidden = !one;
  for (const part of [views.tables, ...aside]) part.hidden = one;
  document.title = one ? `${DATA.cells[value].name} · Scaling of retrievers` : "Scaling of sparse and dense retrievers";
  if (one) {
    window.scrollTo(0, 0);
    views.cell.querySelector("h2").focus({ preventScroll: true });
    return;
  }
  if (kind === "cell") views.tables.prepend(h("p", { class: "label" }, `There is no cell ${value} in this report.`));
  if (kind === "section" && DATA.sections[Number(value)] && Number(value) !== state.section) {
    state.section = Number(value);
    showSection();
  }
  if (came) window.scrollTo(0, scrolled);
}

window.addEventListener("hashchange", route);
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { if (!part.closest(".vega-embed")) part.open = true; });
});
showSection();
provenance();
route();
document.documentElement.dataset.ready = "true";

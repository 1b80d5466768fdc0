// The page of one cell: #cell=ID.

const BESIDE = "../../cells/"; // from outputs/reports/NAME/, where the report is written

function cellPage(id) {
  const cell = { ...DATA.cells[id], id }, common = DATA.common[cell.ladder];
  const first = cell.sections[0];
  const siblings = DATA.sections[first].systems.find((system) => system.ids.includes(id))?.ids ?? [];
  const [own, all] = told(cell.settings, common.settings);
  const [source, sources] = told(cell.provenance, common.provenance);
  return [
    h("a", { class: "back", href: `#section=${first}` }, "← all cells"),
    h("h2", { tabindex: "-1" }, `${cell.name}, seed ${cell.seed}`),
    h("p", { class: `label ${cell.ladder}` }, label(cell.ladder)),
    h("p", {}, h("code", {}, id), " ",
      ["result.json", "config.yaml", "log.txt"].map((name) =>
        [h("a", { href: `${BESIDE}${encodeURIComponent(id)}/${name}` }, name), " "]),
      h("span", { class: "note" }, "beside this page, where it lies among its outputs")),
    siblings.length > 1
      ? h("p", {}, "Seeds: ", siblings.map((other) => [other === id ? h("strong", {}, DATA.cells[other].seed)
          : h("a", { href: cellLink(other) }, DATA.cells[other].seed), " "]))
      : null,
    h("h3", {}, "Scores"), scoresOf(cell),
    h("h3", {}, "What is set otherwise than in other cells"),
    own.length ? pairs(own, "Settings that differ") : h("p", {}, "Nothing."),
    h("details", {}, h("summary", {}, `All ${all.length} settings`), pairs(all, "All settings")),
    h("h3", {}, "Commands"), cell.commands.map(commandBlock),
    curveOf(cell),
    h("h3", {}, "Compute"), ledgerOf(cell),
    h("h3", {}, "Vectors and search"), efficiencyOf(cell),
    h("h3", {}, "Queries"), queriesOf(cell),
    h("h3", {}, "Provenance"),
    source.length ? pairs(source, "Provenance that differs") : h("p", {}, "As most cells here."),
    h("details", {}, h("summary", {}, "All of it"), pairs(sources, "All provenance")),
  ];
}

const label = (ladder) => document.querySelector(`.story .label.${ladder}`)?.textContent ?? ladder;

/** What a cell has of its own, and everything; a value of null is what it lacks. */
function told(own, common) {
  const whole = { ...common, ...own };
  return [Object.entries(own), Object.entries(whole).sort(([a], [b]) => a.localeCompare(b))];
}

function scoresOf(cell) {
  const rows = Object.entries(cell.scores).flatMap(([collection, means]) =>
    Object.entries(means).map(([measure, score]) => ({ collection, measure, score,
      untrained: cell.untrained[collection]?.[measure], bm25: cell.bm25[collection]?.[measure],
      gain: cell.gain[collection]?.[measure], p: measure in (cell.gain[collection] ?? {}) ? cell.gain[collection].p : null })));
  const value = (key, show) => ({ title: words(key), value: (row) => row[key], show: (row) => show(row[key]) });
  return sortable("Scores of the cell", [
    { title: "collection", value: (row) => row.collection, show: (row) => row.collection },
    value("measure", (text) => text), value("score", fixed), value("untrained", fixed),
    value("gain", signed), value("p", (p) => (known(p) ? p.toPrecision(2) : HOLE)),
    { ...value("bm25", fixed), title: "BM25" },
  ], rows);
}

function commandBlock({ title, command, note }) {
  const button = h("button", { type: "button", click: () => copy(command, button) }, "Copy");
  return h("div", { class: "command" }, h("h4", {}, title, button),
    h("pre", { tabindex: "0" }, h("code", {}, command)), h("p", { class: "note" }, note));
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not given to pages that are files
    const field = h("textarea", { readonly: true, style: "position:fixed;top:0;opacity:0" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

function curveOf(cell) {
  if (!DATA.charts.one || !(cell.history || cell.points)) return null;
  const options = curveOptions([cell]), state = { y: options.ys[0][0], x: options.xs[0][0] };
  const place = h("div", { class: "chart", role: "img", "aria-label": "Training curve" });
  const fill = () => {
    const [kind, key] = state.y.split(":");
    const rows = (cell[kind]?.[key] ?? []).map((y, number) => ({ x: cell[kind][state.x]?.[number] ?? null, y }));
    draw(place, DATA.charts.one, { curve: drawable(rows, kind) },
      { caution: DATA.cautions[cell.ladder], patch: (spec) => titled(spec, words(state.x), words(key)) });
  };
  fill();
  return h("figure", {}, h("h3", {}, "Training"), h("div", { class: "controls" },
    chooser("Of", options.ys, state.y, (y) => { state.y = y; fill(); }),
    chooser("over", options.xs, state.x, (x) => { state.x = x; fill(); })), place);
}

function ledgerOf(cell) {
  const rows = Object.entries(cell.ledger).map(([stage, spent]) => ({ stage, ...spent }));
  const column = (key, title) => ({ title, value: (row) => row[key], show: (row) => plain(row[key]) });
  const planned = known(cell.planned) ? `Training was planned at ${plain(cell.planned)} useful FLOPs.` : "";
  const seconds = Object.entries(cell.stages).map(([stage, took]) => [stage, known(took) ? `${plain(took)} s` : HOLE]);
  return [
    sortable("Ledger of the cell", [
      { title: "Stage", value: (row) => row.stage, show: (row) => row.stage },
      column("steps", "Steps"), column("tokens", "Tokens"),
      column("useful_flops", "FLOPs, useful"), column("hardware_flops", "FLOPs, executed"),
    ], rows),
    h("p", { class: "note" }, planned, " Stages that cells share stand whole in each of them."),
    h("details", {}, h("summary", {}, `Seconds of ${seconds.length} stages`), pairs(seconds, "Seconds of the stages")),
  ];
}

function efficiencyOf(cell) {
  const keys = [...new Set(Object.values(cell.efficiency).flatMap((told) => Object.keys(told)))];
  const rows = Object.entries(cell.efficiency).map(([collection, told]) =>
    ({ collection, ...told, entropy: cell.entropy[collection] }));
  if (!rows.length) return h("p", {}, HOLE);
  const shown = Object.keys(cell.entropy).length ? [...keys, "entropy"] : keys;
  return sortable("Vectors and search", [
    { title: "collection", value: (row) => row.collection, show: (row) => row.collection },
    ...shown.map((key) => ({ title: words(key), value: (row) => row[key], show: (row) => plain(row[key]) })),
  ], rows);
}

function queriesOf(cell) {
  const found = Object.entries(cell.queries);
  if (!found.length) return h("p", {}, "There are no values per query.");
  return found.map(([collection, told], number) => {
    const texts = DATA.texts[told.texts] ?? {};
    const list = (title, entries) => h("div", {}, h("h4", {}, title), entries.map(([query, value, bm25, hits]) =>
      h("div", { class: "query" }, h("code", {}, query), ` ${fixed(value)}`, known(bm25) ? ` (BM25 ${fixed(bm25)})` : "",
        texts[query] ? h("div", {}, texts[query]) : null,
        hits.length ? h("div", { class: "note" }, "first hits: ", hits.map(([hit, score], place) =>
          [place ? ", " : "", h("code", {}, hit), ` ${score.toPrecision(4)}`])) : null)));
    const beside = (path) => h("a", { href: `${BESIDE}${encodeURIComponent(cell.id)}/${path.split("/").map(encodeURIComponent).join("/")}` }, path);
    return h("details", { open: number === 0 }, h("summary", {}, h("h4", {}, `${collection}, ${told.measure}`)),
      h("p", { class: "note" }, "All of them: ", beside(`per_query/${collection}.json`), ", ", beside(`runs/${collection}.trec`)),
      h("div", { class: "columns" }, list("Worst", told.worst), list("Best", told.best)),
      told.looked_up ? null : h("p", { class: "note" }, `The run is not at hand, or too large to look hits up: runs/${collection}.trec in the cell's folder.`));
  });
}

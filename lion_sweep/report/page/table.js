// Tables whose every column sorts. A row is any object; a column says what of it is shown.

const SHOWN_AT_ONCE = 200;

/**
 * A table of `rows`. A column has a title and `show(row)`, a text or nodes; `value(row)`, what it is
 * sorted by, numbers or texts; `said`, an explanation; `kind(row)`, a class. The first column names
 * the rows. Rows that lack a value come last, whichever way it is sorted.
 */
function sortable(label, columns, rows, foot) {
  const chosen = { column: null, descending: true };
  let whole = false;
  const body = h("tbody", {});
  const more = h("p", { class: "more" });
  const heads = columns.map((column, place) =>
    h("th", { scope: "col", title: column.said, "aria-sort": "none" },
      h("button", { type: "button", click: () => sort(place) }, column.title)));

  function sort(place) {
    const first = rows.map(columns[place].value).find((value) => value !== null && value !== undefined);
    chosen.descending = chosen.column === place ? !chosen.descending : known(first);
    chosen.column = place;
    heads.forEach((head, other) => head.setAttribute("aria-sort",
      other !== place ? "none" : chosen.descending ? "descending" : "ascending"));
    fill();
  }

  function sorted() {
    if (chosen.column === null) return rows;
    const value = columns[chosen.column].value, turn = chosen.descending ? -1 : 1;
    return [...rows].sort((one, other) => {
      const [a, b] = [value(one) ?? null, value(other) ?? null];
      if (a === null || b === null) return (a === null) - (b === null);
      return turn * (known(a) && known(b) ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    });
  }

  function fill() {
    const order = sorted(), told = whole ? order : order.slice(0, SHOWN_AT_ONCE);
    body.replaceChildren(...told.map((row) => h("tr", {}, columns.map((column, place) =>
      place === 0
        ? h("th", { scope: "row" }, column.show(row))
        : h("td", { class: column.kind?.(row) }, column.show(row))))));
    more.replaceChildren();
    if (told.length < order.length) {
      const all = () => { whole = true; fill(); };
      more.append(`${told.length.toLocaleString("en-US")} of ${order.length.toLocaleString("en-US")} rows. `,
        h("button", { type: "button", click: all }, "Show all"));
    }
  }

  fill();
  return h("div", {},
    h("div", { class: "wide", role: "region", tabindex: "0", "aria-label": label },
      h("table", {}, h("thead", {}, h("tr", {}, heads)), body, foot ? h("tfoot", {}, foot) : null)),
    more);
}

/** A button for each value of each axis; `hidden` holds the values that are filtered out. */
function chips(axes, hidden, change) {
  return axes.map((axis) => h("fieldset", {}, h("legend", {}, axis.title),
    axis.values.map(([value, said]) => {
      const out = hidden[axis.key] ??= new Set();
      const press = (event) => {
        out.has(value) ? out.delete(value) : out.add(value);
        event.currentTarget.setAttribute("aria-pressed", String(!out.has(value)));
        change();
      };
      return h("button", { type: "button", class: "chip", "aria-pressed": String(!out.has(value)),
        "data-axis": axis.key, "data-value": value, click: press }, said);
    })));
}

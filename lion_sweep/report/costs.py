"""What cells cost: compute of training, and what search by them takes."""

from collections import Counter
from collections.abc import Callable

from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.layout import HOLE, NOT_APPLICABLE, Table, folded, show
from lion_sweep.report.sections import Section

HOUR = 3600.0
COMPUTE = ["Cell", "Seed", "Device", "Steps", "Tokens", "FLOPs planned", "FLOPs spent"]
COMPUTE += ["Deviation %", "FLOPs executed", "FLOPs adapt", "FLOPs encode", "FLOPs teacher"]
COMPUTE += ["Train tokens/s", "GPU-hours", "MFU %", "Money"]
EFFICIENCY = ["L0 document", "L0 query", "Posting FLOPs", "Index bytes", "ms per query"]
EFFICIENCY += ["Contrastive entropy"]
# Columns, and their keys in a result, of cells whose texts differ in how many vectors they have.
VECTORS = {"Vectors document": "vectors_documents", "Vectors query": "vectors_queries"}


def by_result(
    section: Section, texts: Callable[[CellResult], list[str]], width: int
) -> list[list[str]]:
    """A row per cell and seed, led by these; of a cell without a result, one of holes."""
    rows = []
    for cell, results in section.results.items():
        found = [[str(result.seed), *texts(result)] for result in results]
        rows += [[section.axes.name(cell), *row] for row in found or [[HOLE] * (width - 1)]]
    return rows


def compute_table(section: Section) -> Table:
    """A row per cell and seed: the ledgers of its training, how fast that ran, and its price."""
    shares = Counter(
        (stage, folder) for r in section.shown for stage in r.ledger for folder in parts(r, stage)
    )
    names = {str(result.device.get("name")) for result in section.shown}
    header = list(COMPUTE)
    if "cpu" in names:
        header[header.index("GPU-hours")] = "Device-hours"
    rows = by_result(section, lambda result: _compute(result, shares), len(header))
    priced = any(result.price is not None for result in section.shown)
    if not priced:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return folded(
        Table(
            title=f"Compute on {section.name}",
            header=header,
            rows=rows,
            below=[
                *_totals(section),
                "FLOPs planned and spent are useful ones of training, and the deviation is of "
                "those spent from those planned; FLOPs executed add padding and recomputation. "
                "FLOPs of adapt and of the teacher are shared out among the cells here that use "
                "them. Tokens are real ones; their rate, the hours (devices x time) and MFU "
                f"(useful FLOPs over the device's published peak, {HOLE} where none is known) are "
                "of the training loop.",
                *(["Money is those hours at the price per GPU-hour that the cell was given "
                   "(site.price)."] if priced else []),
                section.seeds,
            ],
        )
    )  # fmt: skip


def _totals(section: Section) -> list[str]:
    """What all training here comes to, of the results that tell it."""
    told: list[str] = []
    spent = [number(r.ledger, "train", "spent", "useful_flops") for r in section.shown]
    for name, text, values in (
        ("useful FLOPs", "{:.3g}".format, spent),
        ("device-hours", amount, [hours(result) for result in section.shown]),
        ("money", amount, [money(result) for result in section.shown]),
    ):
        known = [value for value in values if value is not None]
        if known:
            missing = (
                f" ({len(known)} of {len(values)} results)" if len(known) < len(values) else ""
            )
            told.append(f"{text(sum(known))} {name}{missing}")
    return [f"All training here: {'; '.join(told)}."] if told else []


def amount(value: float | None) -> str:
    """Hours or money, with two digits at least."""
    return show(value, ",.2f" if value is None or value >= 1 else ".2g")


def parts(result: CellResult, stage: str) -> dict[str, float]:
    """Useful FLOPs of a stage, or of its parts, by the folders that cells share."""
    flops = number(result.ledger, stage, "spent", "useful_flops")
    whole = {} if flops is None else {result.stage_folder(stage): flops}
    return (whole and result.ledger[stage].get("parts")) or whole


def hours(result: CellResult) -> float | None:
    """Device-hours of the training loop."""
    seconds, count = number(result.device, "train_seconds"), number(result.device, "count")
    return None if seconds is None or count is None else seconds * count / HOUR


def money(result: CellResult) -> float | None:
    """Of the training loop, on GPUs: prices are per GPU-hour."""
    taken = hours(result)
    if taken is None or result.price is None or result.device.get("name") == "cpu":
        return None
    return taken * result.price


def mfu(result: CellResult) -> float | None:
    """Useful FLOPs of training over what the devices' published peak allows, 0 to 1."""
    spent = number(result.ledger, "train", "spent", "useful_flops")
    peak, taken = number(result.device, "peak_flops"), hours(result)
    return spent / (peak * taken * HOUR) if spent is not None and peak and taken else None


def _compute(result: CellResult, shares: Counter[tuple[str, str]]) -> list[str]:
    ledger, device = result.ledger, result.device
    planned = number(ledger, "train", "planned", "useful_flops")
    spent = number(ledger, "train", "spent", "useful_flops")
    deviation = 100 * (spent / planned - 1) if planned and spent is not None else None
    tokens, seconds = number(ledger, "train", "spent", "tokens"), number(device, "train_seconds")
    share, count = mfu(result), number(device, "count")

    def shared(stage: str) -> float | None:
        found = parts(result, stage)
        return sum(flops / shares[stage, at] for at, flops in found.items()) if found else None

    name = device.get("name")
    return [
        HOLE if name is None else (f"{count:.0f} x {name}" if count else str(name)),
        show(number(ledger, "train", "spent", "steps"), ",.0f"),
        show(tokens, ",.0f"),
        show(planned, ".3g"),
        show(spent, ".3g"),
        show(deviation, "+.2f"),
        show(number(ledger, "train", "spent", "hardware_flops"), ".3g"),
        show(shared("adapt"), ".3g"),
        show(number(ledger, "encode", "spent", "useful_flops"), ".3g"),
        "none" if ledger and "teacher" not in ledger else show(shared("teacher"), ".3g"),
        show(tokens / seconds if tokens is not None and seconds else None, ",.0f"),
        amount(hours(result)),
        show(None if share is None else 100 * share, ".1f"),
        amount(money(result)),
    ]


def latency(result: CellResult, collection: str) -> float | None:
    """Seconds of search per query."""
    seconds = number(result.efficiency, collection, "search_seconds")
    queries = number(result.collections, collection, "queries")
    return seconds / queries if seconds is not None and queries else None


def efficiency_table(section: Section) -> Table:
    """A row per cell and seed: what search by it takes, and how sharply it tells texts apart."""
    several = [
        title
        for title, key in VECTORS.items()
        if any(key in result.efficiency.get(section.collection, {}) for result in section.shown)
    ]
    header = ["Cell", "Seed", section.main, *EFFICIENCY, *several]

    def texts(result: CellResult) -> list[str]:
        told = result.efficiency.get(section.collection, {})
        found = [number(told, VECTORS[name]) for name in several]
        lacks = NOT_APPLICABLE if told else HOLE
        vectors = (lacks if value is None else show(value, ",.1f") for value in found)
        return [*_efficiency(result, section), *vectors]

    return folded(
        Table(
            title=f"Efficiency on {section.name}",
            header=header,
            rows=by_result(section, texts, len(header)),
            below=[
                *_targets(section),
                "L0 is the mean number of non-zero terms; posting FLOPs are the terms that a query "
                "and a document have in common on average, which exhaustive scoring multiplies; "
                "ms per query are the seconds of search, building the index included, by the "
                "number of queries, searched in one batch; contrastive entropy is in nats, "
                "over the same candidates for every cell, and lower is better.",
                *["Vectors are the mean number of a text; other cells have one."][: len(several)],
                section.seeds,
            ],
        ),
        keep=[section.main],
    )


def _efficiency(result: CellResult, section: Section) -> list[str]:
    collection = section.collection
    efficiency = result.efficiency.get(collection, {})
    # Only vectors of terms have them, whatever their paradigm is called.
    of_terms = [number(efficiency, key) for key in ("L0_documents", "L0_queries", "flops")]
    dense = efficiency and of_terms[0] is None
    seconds = latency(result, collection)
    return [
        show(number(result.scores, collection, section.main), ".4f"),
        *(NOT_APPLICABLE if dense else show(value, ",.1f") for value in of_terms),
        show(number(efficiency, "index_bytes"), ",.0f"),
        show(None if seconds is None else 1000 * seconds, ".3g"),
        show(number(result.entropy or {}, collection), ".4f"),
    ]


def _targets(section: Section) -> list[str]:
    """Which cells were brought to an L0, and what they had before that, where any was."""
    told = []
    for _, name, result in section.named:
        here = result.efficiency.get(section.collection, {})
        pairs = [
            f"{what} {had:,.1f} -> {has:,.1f}, asked for {target:,g}"
            for what in ("documents", "queries")
            if (target := number(here, f"L0_{what}_target")) is not None
            and (had := number(here, f"L0_{what}_encoded")) is not None
            and (has := number(here, f"L0_{what}")) is not None
        ]
        if pairs:
            told.append(f"{name}, seed {result.seed} ({'; '.join(pairs)})")
    lead = "Brought to an L0 before search (terms as encoded -> as searched): "
    return [f"{lead}{'; '.join(told)}."] if told else []

"""What the page says first, in words made of the results: what was compared, what came out."""

import datetime
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lion_sweep.cell.names import UNSET, short
from lion_sweep.config.ladder import CAVEATS, LABELS
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.page.cells import Shown
from lion_sweep.report.page.content import best
from lion_sweep.report.sections import Section

MOST = 6  # of things that a sentence lists


@dataclass(frozen=True)
class Story:
    """Of one ladder: terms and what they are, findings and what they do not say."""

    ladder: str
    label: str
    facts: list[tuple[str, str]]
    findings: list[str]
    limits: list[str]


def stories(sections: Sequence[Section], shown: Mapping[str, Shown]) -> list[Story]:
    """One for each ladder, in the order of the sections."""
    found = []
    for ladder, parts in itertools.groupby(sections, key=lambda section: section.ladder):
        of_ladder = list(parts)
        ids = dict.fromkeys(r.id for section in of_ladder for r in section.shown)
        results = [shown[identity] for identity in ids]
        own = {one.result.data for one in results}
        # What was trained on comes first.
        order = sorted(of_ladder, key=lambda section: section.collection not in own)
        findings = [" ".join(_findings(section)) for section in order]
        found.append(
            Story(
                ladder,
                LABELS[ladder],
                list(_facts(of_ladder, results)),
                findings,
                list(_limits(of_ladder, results)),
            )
        )
    return found


def listed(words: Iterable[str], most: int = MOST) -> str:
    """Words with commas and 'and'; of many the first, and how many more there are."""
    told = list(words)
    if len(told) > most:
        return f"{', '.join(told[:most])} and {len(told) - most:,} more"
    return f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else "".join(told)


def count(number_of: int, word: str, plural: str = "") -> str:
    """As in '1 cell' and '18 cells'."""
    return f"{number_of:,} {word if number_of == 1 else plural or word + 's'}"


def _facts(sections: list[Section], shown: list[Shown]) -> Iterator[tuple[str, str]]:
    results = [one.result for one in shown]
    cells = {
        (s.axes.name(cell), bool(found)) for s in sections for cell, found in s.results.items()
    }
    done = {name for name, has in cells if has}
    names = {name for name, _ in cells}
    yield "Cells", f"{len(done):,} of {count(len(names), 'cell')} {_have(len(done))} a result"
    yield "Compared", "; ".join(_axes(sections))
    seeds = sorted({result.seed for result in results})
    one_seed = f"one, {seeds[0]}" if len(seeds) == 1 else ""
    yield "Seeds", one_seed or f"{len(seeds)}: {listed(map(str, seeds), 12)}"
    yield "Trained on", listed(sorted({result.data for result in results}))
    yield "Scored on", listed(_collection(section) for section in sections)
    yield "Training", _training(results)
    if seconds := _seconds(results):
        time = f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:,.1f} minutes"
        yield "Time", f"{time} of stages, each counted once, whichever cells share it"
    yield "Hardware", listed(_devices(shown))
    yield "Code", listed(_commits(shown))
    days = sorted({_day(result.modified) for result in results})
    yield "Results of", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _have(number_of: int) -> str:
    return "has" if number_of == 1 else "have"


def _axes(sections: list[Section]) -> Iterator[str]:
    """Each key with its values, over all sections."""
    keys = dict.fromkeys(key for section in sections for key in section.axes.keys)
    names = short(keys)
    for key in keys:
        values: dict[str, None] = {}
        for axes in (section.axes for section in sections if key in section.axes.keys):
            told = (value for value in axes.values(key) if value != UNSET)
            values |= dict.fromkeys(axes.titles.get((key, value), value) for value in told)
        yield f"{names[key]} {listed(values)}"


def _collection(section: Section) -> str:
    told = [r.collections.get(section.collection, {}) for r in section.shown]
    sizes = ((number(one, "queries"), number(one, "documents")) for one in told)
    queries, documents = next(((q, d) for q, d in sizes if q and d), (None, None))
    if queries is None or documents is None:
        return section.name
    return f"{section.name} ({queries:,.0f} queries, {documents:,.0f} passages)"


def _training(results: list[CellResult]) -> str:
    spent = [number(r.ledger, "train", "spent", "useful_flops") for r in results]
    known = [flops for flops in spent if flops is not None]
    if not known:
        return "FLOPs are not told"
    each = f"{min(known):.3g}"
    if f"{max(known):.3g}" != each:
        each = f"{each} to {max(known):.3g}"
    said = f"{each} useful FLOPs a cell, {sum(known):.3g} in all"
    unknown = len(spent) - len(known)
    said += f" ({unknown} not told)" if unknown else ""
    shares = [
        100 * (flops / planned - 1)
        for result, flops in zip(results, spent, strict=True)
        if flops is not None
        and (planned := number(result.ledger, "train", "planned", "useful_flops"))
    ]
    if shares:
        said += f"; {max(map(abs, shares)):.2f} % from the plan at most"
    return said


def _seconds(results: list[CellResult]) -> float:
    """Seconds of the stages by their folders, as cells share stages."""
    seconds: dict[str, float] = {}
    for result in results:
        for stage in result.stages:
            if (value := number(result.stages, stage, "seconds")) is not None:
                folder = result.stages[stage].get("folder") or f"{result.id} {stage}"
                seconds[folder] = value
    return sum(seconds.values())


def _devices(shown: list[Shown]) -> Iterator[str]:
    told: Counter[str] = Counter()
    for one in shown:
        device, machine = one.result.device, one.record.get("environment") or {}
        name = machine.get("gpu") or device.get("name") or "not told"
        processor = f", {machine['processor']}" if machine.get("processor") else ""
        cores = f", {machine['cores']} cores" if machine.get("cores") else ""
        told[f"{device.get('count', 1)} x {name}{processor}{cores}"] += 1
    for name, cells in told.most_common():
        yield name if len(told) == 1 else f"{name} ({count(cells, 'result')})"


def _commits(shown: list[Shown]) -> Iterator[str]:
    told: dict[tuple[str, bool], None] = {}
    for one in shown:
        machine = one.record.get("environment") or {}
        told[str(machine.get("commit") or "")[:12], bool(machine.get("changed"))] = None
    for commit, changed in sorted(told):
        yield f"{commit or 'commit not told'}{' with changes' if changed else ''}"


def _day(modified: float) -> str:
    return datetime.datetime.fromtimestamp(modified, datetime.UTC).date().isoformat()


def _findings(section: Section) -> Iterator[str]:
    """Sentences on the main measure of one section."""
    main, where = section.main, f"On {section.name}"
    scores = {c: s for c in section.results if (s := section.score(c, main))}
    if not scores:
        yield f"{where}: no cell has {main} yet."
        return
    top = max(scores, key=lambda cell: scores[cell].mean)
    tested, comparison = best(section), section.comparison
    said = f"{where}, {section.axes.name(top)} has the highest {main}: {scores[top].mean:.4f}"
    if tested and tested.cell == top:
        said += f" (95 % interval {tested.low:.4f} to {tested.high:.4f})"
        rest = [pair for pair in comparison.against(top) if pair.b.cell is not None]
        clear = sum(pair.significant for pair in rest)
        if rest:
            said += f"; {clear} of the {count(len(rest), 'other cell')} lie significantly below it"
    yield f"{said}."
    yield from _against_bm25(section, [score.mean for score in scores.values()])
    yield from _by_axis(section)


def _against_bm25(section: Section, means: list[float]) -> Iterator[str]:
    baseline = section.bm25(section.main)
    if baseline is None:
        return
    above = sum(mean > baseline for mean in means)
    said = f"BM25 has {baseline:.4f}: {above} of {count(len(means), 'cell')} {_are(above)} higher"
    pairs = section.comparison.against(None)
    if any(system.cell is None for system in section.comparison.systems) and pairs:
        better = sum(pair.significant and pair.difference < 0 for pair in pairs)
        worse = sum(pair.significant and pair.difference > 0 for pair in pairs)
        said += f", {better or 'none'} significantly; {worse or 'none'} significantly lower"
    yield f"{said}."


def _are(number_of: int) -> str:
    return "is" if number_of == 1 else "are"


def _by_axis(section: Section) -> Iterator[str]:
    """Of each axis with two values: in how many pairs that differ in nothing else one is higher."""
    axes, main = section.axes, section.main
    scored = {c: s.mean for c in section.results if (s := section.score(c, main))}
    for key in axes.keys:
        values = axes.values(key)
        if len(values) != 2:
            continue
        others = [other for other in axes.keys if other != key]
        by_rest: dict[tuple[str, ...], dict[str, float]] = {}
        for cell, mean in scored.items():
            by_rest.setdefault(tuple(cell[o] for o in others), {})[cell[key]] = mean
        pairs = [told for told in by_rest.values() if len(told) == 2]
        if pairs:
            one, other = values
            higher = sum(told[one] > told[other] for told in pairs)
            gap = fmean(told[one] - told[other] for told in pairs)
            yield (
                f"Of {count(len(pairs), 'pair')} that differ in nothing else, "
                f"{axes.said(key, one)} is higher than {axes.said(key, other)} in {higher}, by "
                f"{gap:+.4f} on average (not tested)."
            )


def _limits(sections: list[Section], shown: list[Shown]) -> Iterator[str]:
    """What the results do not say."""
    results = [one.result for one in shown]
    if caveat := CAVEATS.get(sections[0].ladder):
        yield caveat.limit
    seeds = Counter(len(found) for s in sections for found in s.results.values() if found)
    if set(seeds) == {1}:
        yield "How far another seed would be: every cell has one."
    else:
        yield (
            "Whether other seeds would differ: intervals and tests speak of other queries of the "
            "same kind."
        )
    missing = {
        s.axes.name(cell) for s in sections for cell, found in s.results.items() if not found
    }
    if missing:
        yield f"Anything about {listed(sorted(missing))}: no result."
    partly = {
        f"{s.axes.name(cell)} on {s.name}"
        for s in sections
        for cell in s.holes(s.main)
        if s.results[cell]
    }
    if partly:
        yield f"{sections[0].main} of {listed(sorted(partly))}: not a number."
    if unknown := sum(not (one.record.get("environment") or {}).get("commit") for one in shown):
        yield f"Which code made {count(unknown, 'result')}: the commit is not told."
    if len({tuple(_devices([one])) for one in shown}) > 1:
        yield "Times of different machines: compare them only within one."
    if {r.teacher["name"] for r in results if r.teacher and "name" in r.teacher}:
        yield "What the teacher cost: its FLOPs are beside a cell's budget, see Compute below."

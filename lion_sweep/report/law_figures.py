"""Charts of contrastive entropy over size: IsoFLOP profiles."""

import numpy as np

from lion_sweep.evaluation.laws import SIZES
from lion_sweep.report.figures import COLOURS, GREY, Rows, Spec, drawn, titled
from lion_sweep.report.fits import Group
from lion_sweep.report.sections import Section

FINE = 60  # places at which a curve is drawn


def drawable(section: Section) -> list[Group]:
    """The groups with so many sizes that a profile may be fitted."""
    groups = section.fits.groups
    return [g for g in groups if len({point.size for point in g.points if point.size}) >= SIZES]


def profiles(section: Section, group: Group) -> Spec:
    """Entropies over size, a colour for each budget, with the parabolas that were fitted."""
    known = [point for point in group.points if point.size]
    said = {budget: budget or "this budget" for budget in group.profiles}
    rows: Rows = [
        {"size": p.size, "entropy": p.loss, "budget": said[p.budget], "model": p.cell.model}
        for p in known
    ]
    curves: Rows = []
    for budget, found in group.profiles.items():
        if not found.refused:
            log_P = np.log(found.size_P)
            # Predictions: what was seen less what was left over.
            least_P = np.array(found.loss_P) - np.array(found.residuals)
            curve = np.polyfit(log_P - log_P.mean(), least_P, 2)
            at = np.linspace(log_P[0], log_P[-1], FINE)
            for place, value in zip(at, np.polyval(curve, at - log_P.mean()), strict=True):
                curves.append(
                    {"size": float(np.exp(place)), "entropy": float(value), "budget": said[budget]}
                )
    many = len(said) > 1
    colour = {
        "field": "budget",
        "type": "nominal",
        "sort": list(said.values()),
        "scale": {"domain": list(said.values()), "range": list(COLOURS)},
        "legend": {"title": "budget"} if many else None,
    }
    x = {
        "field": "size",
        "type": "quantitative",
        "title": f"backbone parameters {section.fits.counted}",
        "scale": {"type": "log", "nice": False, "padding": 20},
        "axis": {"format": ".2~s", "tickCount": 6, "labelOverlap": True},
    }
    y = {
        "field": "entropy",
        "type": "quantitative",
        "title": "contrastive entropy (nats)",
        "scale": {"zero": False},
    }
    tips = [
        {"field": "model"},
        {"field": "budget"},
        {"field": "size", "format": ",.4~g"},
        {"field": "entropy", "format": ".4f"},
    ]
    return drawn(
        titled(section, f"{group.name}: contrastive entropy on {section.name}")
        | {
            "encoding": {"x": x, "y": y, "color": colour},
            "layer": [
                {"data": {"name": "curves"}, "mark": {"type": "line", "strokeWidth": 1.6}},
                {
                    "data": {"name": "cells"},
                    "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                    "encoding": {"tooltip": tips},
                },
                {
                    "data": {"name": "cells"},
                    # A size lies at one place, whatever the budget: it is named once.
                    "transform": [
                        {"filter": {"field": "budget", "equal": next(iter(said.values()))}}
                    ],
                    "mark": {"type": "text", "dy": -10, "fontSize": 10, "color": GREY},
                    "encoding": {"text": {"field": "model"}, "color": {"value": GREY}},
                },
            ],
        },
        curves=curves,
        cells=rows,
    )

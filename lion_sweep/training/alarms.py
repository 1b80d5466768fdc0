"""What stops a training whose vectors have collapsed, before it burns the rest of its budget.

An alarm compares one measurement of health.py with its limit, a key of `alarms`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lion_sweep.errors import Collapse, NotFinite, UserError

EARLY, JUDGED = 2, 10  # percent of the steps; at the first only `early` alarms are asked
QUARTERS = 4
Measured = Mapping[str, float]


@dataclass(frozen=True)
class Alarm:
    """One way to collapse: what is compared with the limit, what it means, and what to change."""

    of: Callable[[Measured], float | None]  # None: this encoder has no such thing
    says: str  # with the value in it
    cause: str
    below: bool = False  # goes off below the limit, not above it
    early: bool = False  # no healthy model ever shows it, trained or not
    error: type[UserError] = Collapse

    def goes_off(self, measured: Measured, limit: float) -> bool:
        """What is not a number sets off the alarm for that alone."""
        value = self.of(measured)
        return value is not None and (value < limit if self.below else value > limit)


def _largest(*names: str) -> Callable[[Measured], float | None]:
    return lambda measured: max((measured[n] for n in names if n in measured), default=None)


SLOWER = "lower recipe.learning_rate (and recipe.embedding_rate), or raise recipe.warmup"
WEAKER = (
    "lower the weights of paradigm.regulariser (recipe.sparse.flops_query and flops_passage), or "
    "let them rise over more steps (recipe.sparse.flops_ramp)"
)
# By key of `alarms`; the first one that goes off is told, so what explains others stands first.
ALARMS = {
    "not_finite": Alarm(
        _largest("not_finite"),
        "{:.0%} of the numbers of vectors are not finite",
        f"steps too large for the weights: {SLOWER}",
        early=True,
        error=NotFinite,
    ),
    "lookahead": Alarm(
        _largest("lookahead"),
        "no token sees what comes after it (another second half moves the states of a text's first "
        "half by {:.1g} of their length)",
        "causal attention in a decoder that is taken for a bidirectional one: take another backbone"
        " or version of transformers, whose attention keeps to is_causal=false",
        below=True,
        early=True,
    ),
    "empty": Alarm(
        _largest("empty_queries", "empty_passages"),
        "{:.0%} of the texts have no term left",
        f"a regulariser that is too strong: {WEAKER}; or a threshold no logit reaches: lower "
        "recipe.sparse.threshold",
    ),
    "sink": Alarm(
        _largest("sink"),
        "{:.0%} of a passage's terms are the same in every passage, and come from its first token",
        "a sink, as the beginning-of-text token often is, wins the max pooling: take it out of the "
        "pool (recipe.sparse.pool_bos=false)",
    ),
    "regulariser": Alarm(
        _largest("regulariser"),
        "the regulariser adds {:.3g} times the loss to it, which is next to nothing beside it",
        f"a regulariser that is too strong: {WEAKER}",
    ),
    "cosine": Alarm(
        _largest("cosine_queries", "cosine_passages"),
        "two texts have a mean cosine of {:.4f}, so that all are one to a search",
        f"steps too large, or a temperature too high to part them: {SLOWER}, or lower "
        "paradigm.temperature",
    ),
    "flat": Alarm(
        _largest("spread"),
        "a query's scores, divided by the temperature, deviate by {:.2g}: no loss tells them apart",
        "a temperature that is too high: lower paradigm.temperature",
        below=True,
    ),
    "sharp": Alarm(
        _largest("spread"),
        "a query's scores, divided by the temperature, deviate by {:.3g}: one passage takes all of "
        "a softmax, right or wrong",
        "a temperature that is too low: raise paradigm.temperature",
    ),
}


def due(steps: int) -> frozenset[int]:
    """After which of so many steps alarms are asked, whatever is evaluated on the way."""
    quarters = {-(-steps * number // QUARTERS) for number in range(1, QUARTERS + 1)}
    return frozenset({_within(steps, EARLY), _within(steps, JUDGED)} | quarters)


def _within(steps: int, percent: int) -> int:
    """The last step within a part of them, or the first of all."""
    return max(1, steps * percent // 100)


def judge(measured: Measured, limits: Mapping[str, float], step: int, steps: int) -> None:
    """Raises the error of the first alarm that goes off after step `step` of `steps`."""
    late = step >= _within(steps, JUDGED)
    for key, alarm in ALARMS.items():
        if key not in limits or not (late or alarm.early):
            continue
        if alarm.goes_off(measured, limits[key]):
            said = alarm.says.format(alarm.of(measured))
            raise alarm.error(
                f"Collapsed by step {step} of {steps}: {said} (alarm {key}, limit "
                f"{limits[key]:g}). Likely cause: {alarm.cause}. alarms.{key}=null goes on "
                "regardless."
            )

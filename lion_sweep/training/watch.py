"""What is looked at while a training goes on, and what may end it there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lion_sweep.cost.meter import Spending
from lion_sweep.machine.history import POINTS, Record
from lion_sweep.training import alarms
from lion_sweep.training.health import Health
from lion_sweep.training.optimisation import Run, Steps

if TYPE_CHECKING:
    from lion_sweep.models.encoders import Encoder
    from lion_sweep.training.loop import TrainingData


class Watch:
    """The evaluation points of a run, and what its alarms are asked about; `due` says when.

    A line of `points.jsonl` for every look, of which the first `steps.start` steps are there.
    """

    def __init__(self, data: "TrainingData", steps: Steps, run: Run) -> None:
        self.data, self.run, self.total = data, run, steps.total
        self.limits = run.alarms.limits if run.alarms else {}
        self.asked = run.points.due(steps.total) if run.points else frozenset[int]()
        self.due = self.asked | (alarms.due(steps.total) if self.limits else frozenset[int]())
        self.health = Health.of(data) if self.due else None
        leads = run.accelerator.is_main_process
        self.record = Record(run.folder / POINTS, steps.start, writes=leads)

    def look(
        self, encoder: "Encoder", step: int, flops: int, of_step: Mapping[str, float]
    ) -> tuple[float, Spending]:
        """After a step: seconds, and what it cost. May raise `Collapse` or `NotFinite`.

        `flops` are the useful ones so far, `of_step` what the step has told besides.
        """
        found, took, spent = {"step": step, "useful_flops": flops, **of_step}, 0.0, Spending()
        for one in (self.run.points if step in self.asked else None, self.health):
            if one:
                values, cost, seconds = one.measure(encoder, self.data, self.run.accelerator)
                found, spent, took = found | values, spent + cost, took + seconds
        self.record.add(found)
        alarms.judge(found, self.limits, step, self.total)
        return took, spent

"""Optimiser, learning-rate schedule, checkpoints that continue a run bit by bit, and its steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lion_sweep.config import Adapt, Alarms
from lion_sweep.config.recipe import Recipe, Schedule
from lion_sweep.errors import NotFinite, UserError
from lion_sweep.files import written
from lion_sweep.machine import interruption
from lion_sweep.training.parallel import average_gradients

if TYPE_CHECKING:  # importing the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone
    from lion_sweep.training.points import Points

CHECKPOINT = "checkpoint.pt"
# Raised when what a checkpoint holds changes.
FORMAT = 2


@dataclass(frozen=True)
class Optimisation:
    """AdamW and its schedule."""

    learning_rate: float
    embedding_rate: float | None  # of embedding and head rows; None: they are frozen
    warmup: float  # share of the steps
    weight_decay: float
    clip: float  # largest norm of the gradient
    betas: tuple[float, float]
    epsilon: float
    schedule: Schedule = Schedule.linear

    @classmethod
    def of(cls, recipe: Recipe, of_work: Recipe | Adapt) -> "Optimisation":
        """The recipe's, at the rates of the training itself or of MNTP, which falls linearly."""
        rates, (first, second) = (of_work.learning_rate, of_work.embedding_rate), recipe.betas
        shape = recipe.warmup, recipe.weight_decay, recipe.clip
        falls = of_work.schedule if isinstance(of_work, Recipe) else Schedule.linear
        return cls(*rates, *shape, (first, second), recipe.epsilon, falls)


def optimizer(backbone: "Backbone", settings: Optimisation) -> torch.optim.AdamW:
    """AdamW over what trains; embedding and head rows take `embedding_rate`, None freezes them."""
    model = backbone.language_model
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    tables = {id(parameter) for end in ends for parameter in end.parameters()}
    trainable = backbone.trainable().values()
    rows = [parameter for parameter in trainable if id(parameter) in tables]
    layers = [parameter for parameter in trainable if id(parameter) not in tables]
    groups: list[dict[str, Any]] = [{"params": layers, "lr": settings.learning_rate}]
    if rows and settings.embedding_rate:
        groups.append({"params": rows, "lr": settings.embedding_rate})
    elif rows:
        for parameter in rows:
            parameter.requires_grad_(False)
    return torch.optim.AdamW(
        groups, betas=settings.betas, eps=settings.epsilon, weight_decay=settings.weight_decay
    )


def rate_schedule(
    optimiser: torch.optim.Optimizer, steps: int, warmup: float, falls: Schedule = Schedule.linear
) -> LambdaLR:
    """Up from 0 over the `warmup` share of `steps`, then down to 0: in a line, or half a cosine."""
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        left = min(1.0, (steps - step) / max(1, steps - rising + 1))
        if falls is Schedule.cosine:
            left = (1 - math.cos(math.pi * left)) / 2
        return min((step + 1) / rising, left)

    return LambdaLR(optimiser, factor)


def check_finite(value: float, step: int, what: str = "loss") -> None:
    """Stop at the first loss, or norm of a gradient, that is not a number."""
    if not math.isfinite(value):
        raise NotFinite(
            f"The {what} is {value} at step {step}: lower recipe.learning_rate"
            " (and recipe.embedding_rate), or raise recipe.warmup."
        )


@dataclass(frozen=True)
class Run:
    """Where a loop runs, and who hears of it: nothing in here changes what it computes."""

    accelerator: Accelerator
    folder: Path  # of checkpoints
    checkpoint_every: int  # steps
    on_step: Callable[[int, int, dict[str, float]], None]  # done, of how many, values
    on_kept: Callable[[int], None] = lambda _: None  # steps that no kill can undo
    points: "Points | None" = None  # where the model is evaluated on the way
    alarms: Alarms | None = None  # what stops it


class Steps:
    """The optimiser steps of a run, of which the first `start` are done; `facts` were kept then.

    In every step from `start` on, once there are gradients: `clip_gradients`, `take`, `end`.
    """

    def __init__(
        self, backbone: "Backbone", settings: Optimisation, total: int, seed: int, run: Run
    ) -> None:
        self.run, self.total, self.clip = run, total, settings.clip
        self.path = run.folder / CHECKPOINT
        self.optimiser = optimizer(backbone, settings)
        self.schedule = rate_schedule(self.optimiser, total, settings.warmup, settings.schedule)
        self.parameters = backbone.trainable()
        torch.manual_seed(seed + run.accelerator.process_index)  # of dropout
        self.start, self.facts = self._load() if self.path.is_file() else (0, {})
        if self.start:
            run.on_kept(self.start)
        backbone.train()

    def _load(self) -> tuple[int, dict[str, Any]]:
        path, afresh = self.path, "delete it to start this stage afresh."
        try:
            with ZipFile(path) as members:  # torch reads them without a look at their checksums
                if damaged := members.testzip():
                    raise ValueError(f"{damaged} in it is not what was written")
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(f"{path} cannot be read ({error}): {afresh}") from None
        if state.get("format") != FORMAT:
            raise UserError(f"{path} was written by another version of lion_sweep: {afresh}")
        if self.run.accelerator.process_index >= len(state["rng"]):
            advice = f"go on with as many (site.devices), or {afresh}"
            raise UserError(f"{path} is of {len(state['rng'])} processes: {advice}")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimiser.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        generators = state["rng"][self.run.accelerator.process_index]
        torch.set_rng_state(generators["cpu"])
        if generators["cuda"]:
            torch.cuda.set_rng_state_all(generators["cuda"])
        return state["step"], state["facts"]

    def save(self, done: int, facts: dict[str, Any]) -> None:
        """Write atomically the state after so many steps, and `facts` to remember.

        One rank writes, the others wait, so that none stops before that. Every rank draws its own
        dropout, so the states of all their generators are kept.
        """
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        ranks_rng = gather_object([{"cpu": torch.get_rng_state(), "cuda": cuda}])
        if self.run.accelerator.is_main_process:
            state = {
                "format": FORMAT,
                "step": done,
                "facts": facts,
                "parameters": {name: p.detach() for name, p in self.parameters.items()},
                "rng": ranks_rng,
                "optimizer": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
            }
            with written(self.path) as temporary, temporary.open("wb") as file:
                torch.save(state, file)  # of a path, it would not say why it cannot be written
        self.run.accelerator.wait_for_everyone()

    @property
    def learning_rate(self) -> float:
        """Of the step that comes next, for what has no rate of its own."""
        return float(self.schedule.get_last_lr()[0])

    def clip_gradients(self) -> Tensor:
        """Make them the ranks' mean, no longer than `clip`; the norm before, where they are.

        It is left on the device: to read it is to wait for the whole backward pass.
        """
        parameters = list(self.parameters.values())
        average_gradients(parameters, self.run.accelerator)
        return torch.nn.utils.clip_grad_norm_(parameters, self.clip)

    def take(self, number: int, loss: float, norm: float = 0.0) -> None:
        """Go by the gradients, unless the `loss` or their `norm` is `NotFinite`.

        Both are the same to all ranks.
        """
        check_finite(loss, number)
        check_finite(norm, number, "norm of the gradient")
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()

    def end(self, number: int, values: dict[str, float], facts: dict[str, Any]) -> None:
        """Tell of a step, and save it with `facts` where it is time to.

        Raises `Interrupted` where the process is to stop, after a step that is saved.
        """
        done = number + 1
        self.run.on_step(done, self.total, values)
        stopping = interruption.requested(self.run.accelerator)
        if stopping or done % self.run.checkpoint_every == 0:
            self.save(done, facts)
            self.run.on_kept(done)
        if stopping:
            raise interruption.stop()

"""Where stages are done: below one folder, shown on one progress line, by one team of processes."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from lion_sweep.config.site import Verify
from lion_sweep.errors import Busy
from lion_sweep.machine import interruption, threads
from lion_sweep.machine.digests import DIGESTS, Digests
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.seal import Damaged, Seals
from lion_sweep.stages import engine
from lion_sweep.stages.base import Stage
from lion_sweep.stages.engine import Done, Team

# Ranks wait for their leader as long as it searches and scores.
PATIENCE = timedelta(hours=24)


class Ranks(Team):
    """All processes of a job, started by whoever started them (srun, a test)."""

    def __init__(self, cpu: bool) -> None:
        self.leads = PartialState(cpu=cpu, timeout=PATIENCE).is_main_process

    def tell(self, value: Any) -> Any:
        said = [value]
        broadcast_object_list(said)
        return said[0]


class Workshop:
    """Does stages, and what they are made from, where that is not done yet.

    `owner` names whose locks are meant to be fenced off, `team` the processes that work together,
    `execution` how the work is carried out where it takes more than reading and counting.
    """

    def __init__(
        self,
        root: Path,
        progress: Progress,
        execution: Execution | None = None,
        *,
        owner: str = "",
        team: Team | None = None,
    ) -> None:
        self.root, self.progress = root, progress
        self.execution = cast(Execution, execution)  # None where it only reads and counts
        self.owner, self.team = owner, team or Team()
        self.digests = Digests(root / DIGESTS)
        self.seals = Seals(root / DIGESTS, execution.verify if execution else Verify.once)
        # Hears where a training writes what it does, and what it is to spend.
        self.on_record: Callable[[Path, dict[str, int]], None] = lambda folder, planned: None
        self._done: dict[str, Done] = {}
        self._loaded: tuple[str, Any] | None = None

    def place(self, stage: Stage) -> Path:
        """Where a stage is when it is done."""
        return self.root / "stages" / stage.name

    def run(self, stage: Stage, *, wait: bool = True) -> Done:
        """One stage, after what it is made from.

        What is finished is neither looked up nor logged again, and what a finished stage was made
        from may be gone. Raises what `engine.run` raises, so `Busy` where it is not to `wait` for
        another process.
        """
        if interruption.requested():
            raise interruption.stop()
        if stage.name in self._done:
            return self._done[stage.name]
        if not self.finished(stage):
            for one in stage.inputs:
                self.run(one)
        self.progress.begin(stage.title)
        threads.as_torch_has()  # also the kernels of the libraries that stages use
        threads.blas_as_torch_has()
        try:
            done = engine.run(
                self.place(stage),
                stage.specification,
                lambda folder: self._work(stage, folder),
                self.team,
                owner=self.owner,
                together=stage.together,
                wait=wait,
            )
        except Busy:
            self.progress.leave(stage.title)
            raise
        self._check(done)
        self.progress.end(stage.title, done.seconds, done.reused)
        self._done[stage.name] = done
        return done

    def _check(self, done: Done) -> None:
        """Whether it holds what it did, which one looks for all."""
        wrong = None
        if self.team.leads and done.reused:
            try:
                self.seals.check(done.folder, done.files)
            except Damaged as error:
                wrong = error
        elif self.team.leads:
            self.seals.remember(done.folder, done.files or {})
        if wrong := self.team.tell(wrong):
            raise wrong

    def _work(self, stage: Stage, folder: Path) -> dict[str, Any]:
        if stage.together:
            return stage.work(self, folder)
        # The others wait for its end: they hear nothing of stages that are looked up meanwhile.
        team, done, self.team = self.team, dict(self._done), Team()
        try:
            return stage.work(self, folder)
        finally:
            self.team, self._done = team, done

    def folder(self, stage: Stage) -> Path:
        """The folder of a stage, which is done first where it is not finished."""
        return self.run(stage).folder

    def find(self, stage: Stage) -> Done | None:
        """The stage where it is finished; nothing is done."""
        return self._done.get(stage.name) or engine.find(self.place(stage))

    def finished(self, stage: Stage) -> bool:
        """Whether a stage is finished, the same to all ranks."""
        return self.team.tell(self.find(stage) is not None if self.team.leads else None)

    def remove(self, stage: Stage) -> None:
        """Delete a stage that nothing reads any more."""
        self._done.pop(stage.name, None)
        if self.team.leads:
            engine.remove(self.place(stage))

    def keep_loaded(self, key: str, load: Callable[[], Any]) -> Any:
        """What `load` gives, kept until something else is loaded: weights that stages share."""
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # its weights, before others are loaded
            self._loaded = key, load()
        return self._loaded[1]

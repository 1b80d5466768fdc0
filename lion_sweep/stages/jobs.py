"""Encoding jobs: several jobs take the shards of a cell's passages from each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.of_cell import CellStages
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True, eq=False)
class EncodingJob(Stage):
    """One of several jobs, finished when no shard is left that nobody is at."""

    kind = "encoding"
    together = True

    passages: list[Encode]
    number: int  # from 1 on
    jobs: int
    title: str = beside("encoding")

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """What the vectors are made from, not the vectors themselves."""
        return tuple(stage for encode in self.passages for stage in encode.inputs)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """How many shards it encoded."""
        return {"shards": sum(encode.share(shop) for encode in self.passages)}


def encoding_jobs(stages: CellStages, jobs: int) -> list[EncodingJob]:
    """The encoding jobs of a cell: its trained passages first, then the untrained ones."""
    passages = [found.passages for found in stages.trained.values()]
    passages.append(stages.untrained.passages)
    return [EncodingJob(passages, number, jobs) for number in range(1, jobs + 1)]

"""Which tasks may start on one machine, and on which of its GPUs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain

Gpus = tuple[str, ...]


@dataclass
class Places:
    """The GPUs of a machine; none are its processors, which all jobs share."""

    gpus: Gpus
    most: int  # jobs at once
    # A task that does not fit is first in line: these are given to nobody else until it starts.
    kept: dict[str, Gpus] = field(default_factory=dict)

    def give(self, needs: Mapping[str, int], taken: Collection[Gpus]) -> dict[str, Gpus]:
        """The tasks that may start now, in their order, and a GPU of its own for each device.

        `needs` are the devices of those that wait, by name, `taken` the GPUs of each running job.
        """
        given: dict[str, Gpus] = {}
        for name, devices in needs.items():
            if len(taken) + len(given) >= self.most:
                break
            if not self.gpus:
                given[name] = ()
                continue
            busy = {*chain.from_iterable(taken), *chain.from_iterable(given.values())}
            others = {gpu for who, gpus in self.kept.items() if who != name for gpu in gpus}
            free = [gpu for gpu in self.gpus if gpu not in busy | others]
            if len(free) >= devices:
                given[name] = tuple(free[:devices])
                self.kept.pop(name, None)
            elif not self.kept:  # busy ones, so that the free ones are of use meanwhile
                self.kept[name] = tuple(
                    sorted(self.gpus, key=lambda gpu: gpu not in busy)[:devices]
                )
        return given

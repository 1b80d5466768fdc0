"""All processes of a job, started by whoever started them (srun, a test)."""

from datetime import timedelta
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from lion_sweep.stages.engine import Team

# Ranks wait for their leader as long as it searches and scores.
PATIENCE = timedelta(hours=24)


class Ranks(Team):
    """A team whose first rank leads."""

    def __init__(self, cpu: bool) -> None:
        self.leads = PartialState(cpu=cpu, timeout=PATIENCE).is_main_process

    def tell(self, value: Any) -> Any:
        said = [value]
        broadcast_object_list(said)
        return said[0]

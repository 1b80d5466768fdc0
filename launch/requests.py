"""What a task asks of the cluster, and how sbatch is told."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lion_sweep.cell.tasks import CELL, Task
from lion_sweep.config import Config
from lion_sweep.errors import UserError

OUT_OF_MEMORY, TIME_LIMIT = "out of memory", "time limit"


@dataclass(frozen=True)
class Request:
    """Resources of one job: totals over its nodes but for memory (GiB per node), hours; where."""

    devices: int
    nodes: int
    gpus: int
    cpus: int
    memory: float
    time_limit: float | None
    partition: str | None = None

    def parameters(self, config: Config) -> dict[str, Any]:
        """The keyword arguments of submitit's SlurmExecutor."""
        slurm = config.site.slurm
        tasks = self.devices // self.nodes
        return {
            "nodes": self.nodes,
            "ntasks_per_node": tasks,
            "cpus_per_task": max(1, self.cpus // self.nodes // tasks),
            "gpus_per_node": self.gpus // self.nodes or None,
            "mem": f"{round(self.memory * 1024)}M",
            "time": None if self.time_limit is None else max(1, round(self.time_limit * 60)),
            "partition": self.partition,
            "account": slurm.account,
            "qos": slurm.qos,
            "constraint": slurm.constraint,
            "signal_delay_s": slurm.signal,
            "stderr_to_stdout": True,
            "setup": list(slurm.setup) or None,
            # One rank that dies must not leave the others waiting for it until the time limit.
            "srun_args": ["--kill-on-bad-exit=1", "--cpu-bind=none"],
            "additional_parameters": {
                "requeue": True,
                # A cell whose preparation failed is cancelled instead of waiting for ever.
                "kill-on-invalid-dep": "yes",
                **slurm.sbatch,
            },
        }


def request(task: Task, failures: list[str]) -> Request:
    """What the task asks for, after it has failed in these ways before."""
    site, found = task.config.site, asdict(task.config.resources())
    found |= {"time_limit": site.time_limit, "partition": site.slurm.partition}
    asked = Request(nodes=site.slurm.nodes, **found)
    if task.kind != CELL:
        asked = _other(asked, task.kind, site.stages.get(task.kind, {}))
    if asked.devices % asked.nodes:
        raise UserError(
            f"{task.label}: {asked.devices} devices do not spread evenly over site.slurm.nodes="
            f"{asked.nodes}: choose a divisor."
        )
    memory = asked.memory * site.escalate.memory ** failures.count(OUT_OF_MEMORY)
    hours = asked.time_limit
    if hours is not None:
        hours *= site.escalate.time ** failures.count(TIME_LIMIT)
    return replace(asked, memory=memory, time_limit=hours)


def _other(asked: Request, kind: str, values: dict[str, Any]) -> Request:
    known = {field.name for field in fields(Request)} - {"nodes"}
    for key in set(values) - known:
        raise UserError(f"site.stages.{kind}.{key} is not a key: {', '.join(sorted(known))}.")
    changed = replace(asked, **values)
    if changed.devices < asked.devices:  # fewer processes need no more than their share
        share = changed.devices / asked.devices
        fewer: dict[str, Any] = {
            key: max(1, round(getattr(asked, key) * share)) if getattr(asked, key) else 0
            for key in ("gpus", "cpus")
            if key not in values
        }
        changed = replace(changed, nodes=min(asked.nodes, changed.devices), **fewer)
    return changed

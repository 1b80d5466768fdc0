"""What sbatch is told for the full-size cells: a change of it shows here."""

from typing import Any

import pytest

from launch.requests import Request, request
from lion_sweep.cell.tasks import ADAPT, CELL, ENCODE, TEACHER, TRAIN, Task
from lion_sweep.errors import UserError

FULL = ["site=slurm", "ladder=full", "site.slurm.account=lab", "site.time_limit=24"]
EVERY_CELL = {
    "nodes": 1,
    "time": 24 * 60,
    "partition": None,
    "account": "lab",
    "qos": None,
    "constraint": None,
    "signal_delay_s": 120,
    "stderr_to_stdout": True,
    "setup": None,
    "srun_args": ["--kill-on-bad-exit=1", "--cpu-bind=none"],
    "additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes"},
}
OF_SIZE = {
    "1b": {"ntasks_per_node": 1, "cpus_per_task": 8, "gpus_per_node": 1, "mem": "65536M"},
    "3b": {"ntasks_per_node": 4, "cpus_per_task": 8, "gpus_per_node": 4, "mem": "196608M"},
    "8b": {"ntasks_per_node": 8, "cpus_per_task": 8, "gpus_per_node": 8, "mem": "393216M"},
}


@pytest.mark.parametrize("model", ["1b", "3b", "8b"])
@pytest.mark.parametrize("paradigm", ["sparse", "dense"])
@pytest.mark.parametrize("loss", ["cl", "kd", "clkd"])
def test_parameters_of_the_full_size_cells(
    compose_cell: Any, model: str, paradigm: str, loss: str
) -> None:
    config = compose_cell(f"model={model}", f"paradigm={paradigm}", f"loss={loss}", *FULL)
    asked = request(Task(CELL, "cell", config), [])
    assert asked.parameters(config) == EVERY_CELL | OF_SIZE[model]


def test_shared_stages_may_ask_for_something_else(compose_cell: Any) -> None:
    config = compose_cell("model=8b", *FULL, "+site.stages.adapt.time_limit=4")
    adapt = request(Task(ADAPT, "adapt-1", config), [])
    assert adapt == Request(8, 1, 8, 64, 384, 4)
    # The teacher is one process: it gets a device's share of GPUs and cores.
    assert request(Task(TEACHER, "teacher-1", config), []) == Request(1, 1, 1, 8, 384, 24)
    # A cell's own training and encoding ask for what the cell does.
    spread = compose_cell("model=8b", *FULL, "+site.stages.encode.devices=2")
    assert request(Task(TRAIN, "train-1", spread), []) == Request(8, 1, 8, 64, 384, 24)
    assert request(Task(ENCODE, "encoding-1", spread), []) == Request(2, 1, 2, 16, 384, 24)
    wrong = compose_cell("model=8b", *FULL, "+site.stages.adapt.gpu=4")
    with pytest.raises(UserError, match=r"site\.stages\.adapt\.gpu is not a key: cpus, devices"):
        request(Task(ADAPT, "adapt-1", wrong), [])


def test_more_after_failures_that_more_would_mend(compose_cell: Any) -> None:
    config = compose_cell("model=1b", *FULL)
    failures = ["out of memory", "code", "out of memory", "time limit"]
    assert request(Task(CELL, "cell", config), failures) == Request(1, 1, 1, 8, 64 * 1.5**2, 48)


def test_devices_bring_their_share(compose_cell: Any) -> None:
    config = compose_cell("model=8b", *FULL, "site.devices=16", "site.slurm.nodes=2")
    asked = request(Task(CELL, "cell", config), [])
    parameters = asked.parameters(config)
    keys = ("nodes", "ntasks_per_node", "cpus_per_task", "gpus_per_node")
    assert [parameters[key] for key in keys] == [2, 8, 8, 8]
    uneven = compose_cell("model=8b", *FULL, "site.devices=9", "site.slurm.nodes=2")
    with pytest.raises(UserError, match="9 devices do not spread evenly"):
        request(Task(CELL, "cell", uneven), [])


def told(asked: Request, config: Any) -> dict[str, Any]:
    """What sbatch hears of resources and time."""
    keys = ("nodes", "ntasks_per_node", "cpus_per_task", "gpus_per_node", "mem", "time")
    parameters = asked.parameters(config)
    return {key: parameters[key] for key in keys}


def test_several_nodes_have_the_memory_and_the_time_of_one(compose_cell: Any) -> None:
    """Devices, GPUs and cores are shared out over nodes; memory is each node's, time the job's."""
    words = ["model=8b", *FULL, "site.slurm.nodes=4", "site.time_limit=1.5", "site.memory=100.5"]
    config = compose_cell(*words)
    asked = request(Task(CELL, "cell", config), [])
    assert asked == Request(8, 4, 8, 64, 100.5, 1.5)
    assert told(asked, config) == {
        "nodes": 4,
        "ntasks_per_node": 2,
        "cpus_per_task": 8,
        "gpus_per_node": 2,
        "mem": "102912M",
        "time": 90,
    }
    more = request(Task(TRAIN, "train-1", config), ["out of memory", "time limit", "out of memory"])
    assert more == Request(8, 4, 8, 64, 100.5 * 1.5**2, 3)
    assert told(more, config)["mem"] == f"{round(100.5 * 2.25 * 1024)}M"
    assert told(more, config)["time"] == 180
    # One process, so one node, whose memory is the same.
    alone = request(Task(TEACHER, "teacher-1", config), ["time limit"])
    assert alone == Request(1, 1, 1, 8, 100.5, 3)
    assert told(alone, config)["cpus_per_task"] == 8
    spread = compose_cell(*words, "+site.stages.adapt={devices: 2, memory: 7, cpus: 6}")
    assert request(Task(ADAPT, "adapt-1", spread), []) == Request(2, 2, 2, 6, 7, 1.5)
    assert told(request(Task(ADAPT, "adapt-1", spread), []), spread)["cpus_per_task"] == 3


def test_what_is_asked_for_by_name(compose_cell: Any) -> None:
    words = ["site.gpus=3", "site.cpus=5", "site.memory=1", "site.time_limit=0.001"]
    config = compose_cell("model=3b", *FULL, *words)
    asked = request(Task(CELL, "cell", config), [])
    assert asked == Request(4, 1, 3, 5, 1, 0.001)
    assert told(asked, config) == {
        "nodes": 1,
        "ntasks_per_node": 4,
        "cpus_per_task": 1,
        "gpus_per_node": 3,
        "mem": "1024M",
        "time": 1,  # SLURM takes 0 for none
    }


def test_where_a_job_is_sent(compose_cell: Any) -> None:
    names = {name: f"my-{name}" for name in ("partition", "account", "qos", "constraint")}
    words = [f"site.slurm.{name}={value}" for name, value in names.items()]
    config = compose_cell("site=slurm", *words, "site.slurm.setup=[module load cuda]")
    parameters = request(Task(CELL, "cell", config), []).parameters(config)
    assert {name: parameters[name] for name in names} == names
    assert parameters["setup"] == ["module load cuda"]


def test_a_model_that_is_not_named_takes_the_default(compose_cell: Any) -> None:
    config = compose_cell("model=smollm2", "site=slurm")
    assert request(Task(CELL, "cell", config), []) == Request(1, 1, 0, 2, 6, None)
    assert request(Task(CELL, "cell", config), []).parameters(config)["time"] is None


def test_sbatch_lines_of_ones_own(compose_cell: Any) -> None:
    config = compose_cell("site=slurm", "+site.slurm.sbatch.mail-type=FAIL")
    lines = request(Task(CELL, "cell", config), []).parameters(config)["additional_parameters"]
    assert lines == {"requeue": True, "kill-on-invalid-dep": "yes", "mail-type": "FAIL"}

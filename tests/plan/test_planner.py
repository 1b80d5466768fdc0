"""What a plan says is shared by cells, on one device and on several."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import TINY

from lion_sweep.cell.prepare import refuse_spread
from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import planned_mntp
from lion_sweep.errors import UserError
from lion_sweep.machine.site import settle
from lion_sweep.plan.cells import GridPlan
from lion_sweep.plan.planner import Planner

Compose = Callable[..., Config]


def planned(configs: list[Config]) -> tuple[GridPlan, DecoderShape]:
    """The plan of some cells, and the shape of the first one's decoder."""
    settled = [settle(config, SiteName.laptop) for config in configs]
    planner = Planner(SiteName.laptop)
    return planner.grid(settled), planner.training(settled[0]).stages.blueprint.shape


def test_adapting_costs_the_same_on_any_number_of_devices(
    compose_cell: Compose, small_beir: Path, tmp_path: Path
) -> None:
    words = [*TINY, "budget=steps", "budget.steps=2", f"data.path={small_beir}"]
    for devices in (1, 4):
        own = [f"site.devices={devices}", f"paths.root={tmp_path}"]
        configs = [compose_cell(*words, *own, f"paradigm={p}") for p in ("dense", "sparse")]
        plan, shape = planned(configs)
        (adapting,) = (work for work in plan.shared if work.title.startswith("adapt"))
        assert adapting.cells == 2
        assert adapting.spending == planned_mntp(shape, configs[0].recipe.adapt, None)
        total = plan.as_dict()["total"]["useful_flops"]
        works = [*(cell.work for cell in plan.cells), *(work.spending for work in plan.shared)]
        assert total == sum(work.useful_flops for work in works)


@pytest.mark.parametrize("most", [1006, 1051, 1250, 3333])
def test_the_tolerance_that_is_offered_is_enough(most: int) -> None:
    """And no more than what was allowed is refused."""
    costs, apart = {"a": 1004, "b": 1000, "c": most, "d": 1002}, most / 1000 - 1
    refuse_spread(costs, apart)
    with pytest.raises(UserError, match=r"same: c .* useful FLOPs, b 1000: ") as refused:
        refuse_spread(costs, apart - 1e-4)
    offered = float(str(refused.value).split("budget.tolerance=")[1].rstrip("."))
    assert apart - 1e-9 <= offered < apart + 0.002
    refuse_spread(costs, offered)


def test_shared_work_is_counted_by_what_it_is_and_not_by_what_it_is_called(
    compose_cell: Compose, small_beir: Path, tmp_path: Path
) -> None:
    """Three seeds adapt three times, though their decoders have one name."""
    words = [*TINY, "budget=steps", "budget.steps=2", f"data.path={small_beir}"]
    own = [f"paths.root={tmp_path}", "loss=kd"]
    plan, _ = planned([compose_cell(*words, *own, f"seed={seed}") for seed in (0, 1, 2)])
    titles = [work.title for work in plan.shared]
    assert [title.split()[0] for title in titles].count("adapt") == 3
    assert [title.split()[0] for title in titles].count("encode") == 3
    assert [title.split()[0] for title in titles].count("teacher") == 1
    (teacher,) = (work for work in plan.shared if work.title.startswith("teacher"))
    assert teacher.cells == 3


def test_cells_that_encode_in_other_portions_pad_as_each_alone(
    compose_cell: Compose, small_beir: Path, tmp_path: Path
) -> None:
    words = [*TINY, "budget=steps", "budget.steps=2", f"data.path={small_beir}"]
    words += [f"paths.root={tmp_path}", "site.devices=1"]
    configs = [compose_cell(*words, f"evaluation.batch_tokens={tokens}") for tokens in (64, 4096)]
    together = [cell.encoding for cell in planned(configs)[0].cells]
    alone = [planned([config])[0].cells[0].encoding for config in configs]
    assert together == alone
    assert together[0].hardware_flops < together[1].hardware_flops

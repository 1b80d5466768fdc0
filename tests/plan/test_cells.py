"""Memory, time and obstacles of planned cells, on shapes of the real sizes and no weights.

Shapes: P training pairs, M mined negatives.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lion_sweep import preflight
from lion_sweep.config import Config, Precision, changed
from lion_sweep.config.site import SiteName
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.memory import Decoder, training_memory
from lion_sweep.cost.meter import Spending
from lion_sweep.data.batches import Sampler, micro_batches
from lion_sweep.data.groups import Groups
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.errors import UserError
from lion_sweep.machine.devices import GIB, Device, device
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.site import settle
from lion_sweep.plan.cells import CellPlan, GridPlan, SharedWork, steps_of_hours
from lion_sweep.plan.disk import Disk
from lion_sweep.plan.show import as_table
from lion_sweep.stages.backbone import Blueprint
from lion_sweep.training.fit import Fit

Compose = Callable[..., Config]
LLAMA_1B = DecoderShape(2048, 8192, 16, 32, 8, 64, 128256)
LLAMA_8B = DecoderShape(4096, 14336, 32, 32, 8, 128, 128256)
PAIRS = 300
rng = np.random.default_rng(3)
LENGTH_N = (rng.integers(4, 20, PAIRS), rng.integers(20, 128, 2000))


def training(config: Config, machine: Device) -> CellPlan:
    """The 1b or 8b decoder on random lengths."""
    draw = np.random.default_rng(4)
    groups = Groups(
        query_P=np.arange(PAIRS, dtype=np.int32),
        positive_P=np.arange(PAIRS, dtype=np.int32),
        negative_PM=draw.integers(0, 2000, (PAIRS, 40)).astype(np.int32),
        positive_score_P=np.zeros(PAIRS, dtype=np.float32),
        negative_score_PM=np.zeros((PAIRS, 40), dtype=np.float32),
    )
    sampler = Sampler(groups, config.loss.batch_size, config.loss.negatives, config.seed)
    site = SiteName.gpu if machine.gpu else SiteName.laptop
    config = settle(config, site)

    def counts(tokens: int) -> LengthCounts:
        devices = config.site.devices or 1
        return LengthCounts(sampler, *LENGTH_N, micro_batch_tokens=tokens, parts=devices)

    large = config.model.name == "8b"
    shape, tied = LLAMA_8B if large else LLAMA_1B, not large
    no_tokenizer = Pretrained("llama", None, "llama")
    blueprint = Blueprint("llama", None, "llama", "pretrained", shape, tied, no_tokenizer)
    execution = replace(Execution.of(config, site), device=machine)
    bf16, recipe = config.recipe.precision is Precision.bf16, config.recipe
    least = recipe.adapt.chunk if recipe.adapt.steps else 0
    decoder = Decoder(shape, recipe.lora, bf16)
    sparse, tokens = config.paradigm.name == "sparse", execution.micro_batch_tokens
    fit = Fit(decoder, tied, sparse, config.budget, least, execution, counts(tokens))
    return CellPlan(
        config,
        Stages(blueprint),  # type: ignore[arg-type]
        fit.settled(counts),
    )


@dataclass(frozen=True)
class Stages:
    """What a plan shows of a cell's stages."""

    blueprint: Blueprint

    @property
    def train(self) -> Any:
        """What a measured step time would hold for."""
        return SimpleNamespace(
            start=SimpleNamespace(blueprint=self.blueprint, lora=None, precision="bf16"),
            course=SimpleNamespace(queries="q", passages="p", draws="groups"),
            supervision="loss",
            optimisation=SimpleNamespace(embedding_rate=None),
        )


@pytest.fixture
def full(compose_cell: Compose, tmp_path: Path) -> Compose:
    """A full-size cell of six steps."""
    settings = ("ladder=full", "budget=steps", "budget.steps=6", f"paths.root={tmp_path}")
    return lambda *overrides: compose_cell(*settings, *overrides)


NO_DISK = Disk(0, 0, unbounded=False)
H200 = Device("h200", 989e12, 139 * GIB)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("cached", [False, True])
def test_memory_is_that_of_the_worst_share_of_the_largest_step(
    full: Compose, devices: int, cached: bool
) -> None:
    how = "always" if cached else "never"
    config = full("paradigm=dense", f"site.devices={devices}", f"recipe.gradient_cache={how}")
    plan = training(config, H200)
    padded = []
    for number in range(6):
        step = plan.fit.counts.sampler.step(number)
        shares = [plan.fit.counts.lengths(part) for part in step.split(devices)]
        cuts = [[(len(b), int(p[b].max())) for b in micro_batches(p, 16384)] for p in shares]
        padded.append((sum(rows * long for cut in cuts for rows, long in cut), cuts))
        assert sum(rows for cut in cuts for rows, _ in cut) == len(plan.fit.counts.lengths(step))
    _, cuts = max(padded, key=lambda item: item[0])
    expected = [
        training_memory(
            Decoder(LLAMA_1B, config.recipe.lora, bf16=True),
            cut,
            tied=True,
            sparse=False,
            cached=cached,
        ).total
        for cut in cuts
    ]
    assert plan.fit.memory.total == max(expected)
    assert plan.fit.caches is cached


def test_gradients_are_cached_where_a_step_does_not_fit(full: Compose) -> None:
    large, small = (training(full(), Device("own", 1e14, size * GIB)) for size in (600, 60))
    assert (large.fit.caches, small.fit.caches) == (False, True)
    assert small.fit.memory.total < 60 * GIB < large.fit.memory.total
    # The same training, for one more forward pass.
    assert small.fit.spending.useful_flops == large.fit.spending.useful_flops
    assert small.fit.spending.hardware_flops > 1.3 * large.fit.spending.hardware_flops
    unknown = training(full(), Device("own", None, None))
    assert not unknown.fit.caches


def test_time_is_executed_flops_over_a_share_of_the_peak(full: Compose) -> None:
    config = full("site.devices=2", "site.efficiency=0.5", "site.price=3")
    cell = replace(training(config, H200), encoding=Spending(0, 5, 7 * 10**15, 100))
    row = cell.as_dict()
    assert row["step_seconds"] == pytest.approx(row["hardware_flops"] / 6 / (0.5 * 989e12) / 2)
    hours = (row["hardware_flops"] + 7e15) / (0.5 * 989e12) / 3600
    assert row["gpu_hours"] == pytest.approx(hours)
    assert row["cost"] == pytest.approx(3 * hours)
    assert row["time_from"] == "50% of peak, assumed"


def test_where_no_peak_is_known_time_is_missing(full: Compose) -> None:
    row = training(full(), Device("own", None, None)).as_dict()
    for key in ("step_seconds", "seconds", "gpu_hours", "cost", "time_from", "deviation"):
        assert row[key] is None
    assert row["fits"]


def test_micro_batches_are_halved_until_one_fits(full: Compose) -> None:
    large, small = (
        training(full("paradigm=dense"), Device("own", 1e14, size * GIB)) for size in (60, 12)
    )
    assert large.fit.caches and small.fit.caches
    assert large.fit.counts.tokens == 16384
    assert small.fit.counts.tokens in (1024, 2048, 4096, 8192)
    assert small.fit.memory.total < 0.94 * 12 * GIB < large.fit.memory.total
    assert large.fit.fitting(0.94 * 12 * GIB) == small.fit.counts.tokens
    assert large.fit.fitting(small.fit.memory.total - 1) == small.fit.counts.tokens // 2
    assert small.fit.spending.useful_flops == large.fit.spending.useful_flops
    assert small.fit.lighter() == f"recipe.micro_batch_tokens={small.fit.counts.tokens // 2}"
    assert training(full(), Device("own", 1e14, 600 * GIB)).fit.lighter() == (
        "recipe.gradient_cache=always"
    )
    least = ["paradigm=dense", "recipe.micro_batch_tokens=512", "recipe.gradient_cache=always"]
    for words, change in (
        (["site.devices=4"], "site.shard=always"),
        (["site.devices=4", "site.shard=always"], None),
        ([], None),
    ):
        assert training(full(*least, *words), H200).fit.lighter() == change


def test_what_does_not_fit_is_named_with_the_setting_that_does(full: Compose) -> None:
    config, small = full("recipe.gradient_cache=never"), Device("small", 1e14, 24 * GIB)
    (obstacle,) = training(config, small).obstacles
    assert "GiB of small's 22.6: recipe.gradient_cache=auto fits" in obstacle
    fitting = training(full(), small)
    assert not fitting.obstacles
    with pytest.raises(UserError, match=r"1b-sparse-cl needs .* fits"):
        preflight.refuse_misfits([training(config, small)])
    preflight.refuse_misfits([fitting])


def test_weights_that_encoding_cannot_load_need_a_larger_device(full: Compose) -> None:
    """However little sharded training takes."""
    config = full("model=8b", "paradigm=dense", "site.devices=8")
    plan = training(config, Device("small", 1e14, 15 * GIB))
    assert plan.fit.memory.total < 0.94 * 15 * GIB
    (obstacle,) = plan.obstacles
    assert obstacle == (
        "has weights of 15.1 GiB, which encoding holds whole on every small of 14.1: "
        "take a larger device"
    )


def own(gib: float) -> Device:
    return Device("own", 1e14, int(gib * GIB))


def test_layers_are_sharded_where_whole_ones_leave_no_room(full: Compose) -> None:
    def eight(gib: float, *more: str) -> CellPlan:
        return training(full("model=8b", "paradigm=dense", "site.devices=8", *more), own(gib))

    small, large = eight(20), eight(22)
    assert (small.fit.sharded, large.fit.sharded) == (True, False)
    assert small.fit.memory.total < 0.94 * 20 * GIB < large.fit.memory.total < 0.94 * 22 * GIB
    # A share of 32 layers, three whole ones, two tables, final norm, adapters.
    layer = LLAMA_8B.linear_parameters // 32 + 2 * 4096
    base = 32 * layer // 8 + 3 * layer + 2 * 4096 * 128256 + 4096
    lora = small.config.recipe.lora
    assert lora is not None
    adapters = 4 * LLAMA_8B.lora_parameters(lora)
    assert small.fit.memory.weights == 2 * base + adapters
    assert large.fit.memory.weights == large.fit.weights
    assert small.fit.spending.useful_flops == large.fit.spending.useful_flops
    assert [plan.calibration()["sharded"] for plan in (small, large)] == [True, False]
    assert eight(80, "site.shard=always").fit.sharded
    assert not eight(20, "site.shard=never").fit.sharded
    assert not eight(20, "recipe.lora=null").fit.sharded
    unknown = Device("own", None, None)
    assert not training(small.config, unknown).fit.sharded


def test_what_sharding_would_make_fit_is_named(full: Compose) -> None:
    def obstacles(*words: str) -> list[str]:
        plan = training(full("model=8b", "paradigm=dense", *words), own(20))
        return plan.obstacles

    assert not obstacles("site.devices=8")
    for words, change in (
        (["site.devices=8", "site.shard=never"], "site.shard=auto"),
        (["site.devices=1"], "site.devices=2"),
        (
            ["site.shard=never", "recipe.gradient_cache=never"],
            "site.devices=2 recipe.gradient_cache=auto site.shard=auto",
        ),
    ):
        (obstacle,) = obstacles(*words)
        assert obstacle.endswith(f": {change} fits")
        changed = {word.split("=")[0]: word for word in [*words, *change.split()]}
        assert not obstacles(*changed.values())
    (obstacle,) = obstacles("site.devices=1", "recipe.lora=null", "recipe.precision=bf16")
    assert "take a larger device" in obstacle


def test_sharding_is_refused_on_one_device(full: Compose) -> None:
    with pytest.raises(UserError, match=r"site\.shard=always .* set site\.devices=2 or more"):
        training(full("site.shard=always"), H200)


def test_a_plan_tells_which_cells_are_sharded(full: Compose) -> None:
    cells = [training(full(f"model={model}", "site.devices=8"), own(18)) for model in ("1b", "8b")]
    assert [cell.as_dict()["sharded"] for cell in cells] == [False, True]
    assert "are sharded over a cell's devices in 8b-sparse-cl;" in as_table(
        GridPlan(cells, [], NO_DISK)
    )
    assert "sharded over" not in as_table(GridPlan(cells[:1], [], NO_DISK))


def test_a_micro_batch_holds_a_chunk_of_the_adaptation(full: Compose) -> None:
    small = training(full("paradigm=dense"), own(12))
    chunk = f"recipe.adapt.chunk={2 * small.fit.counts.tokens}"
    (obstacle,) = training(full("paradigm=dense", chunk), own(12)).obstacles
    assert obstacle.startswith("needs")
    adapted = training(full("paradigm=dense", chunk, "recipe.adapt.steps=0"), own(12))
    assert adapted.fit.counts.tokens == small.fit.counts.tokens


def test_a_time_limit_and_a_missing_gpu_are_obstacles(full: Compose) -> None:
    late = training(full("site.time_limit=0.001"), H200).obstacles
    assert len(late) == 1 and "site.time_limit=0.001" in late[0]
    cpu = Device("cpu", None, 999 * GIB, gpu=False)
    (obstacle,) = training(full(), cpu).obstacles
    assert obstacle.startswith("needs a GPU")


def test_encoding_jobs_share_what_one_job_has_no_time_for(full: Compose) -> None:
    def plan(*words: str) -> CellPlan:
        planned = training(full("site.time_limit=24", *words), H200)
        assert planned.rate is not None
        encoding = Spending(hardware_flops=int(planned.rate * 30 * 3600))
        return replace(planned, encoding=encoding)

    (obstacle,) = plan().obstacles
    assert "add site.devices or site.encode_jobs" in obstacle
    shared = plan("site.encode_jobs=2")
    assert shared.longest_job == pytest.approx(15 * 3600)
    assert shared.obstacles == []
    train = shared.seconds(shared.fit.spending)
    assert train is not None and train > 0
    assert plan().longest_job == pytest.approx(30 * 3600 + train)
    assert plan("site.encode_jobs=1000000000").longest_job == train


def test_many_gpu_hours_are_to_be_confirmed(full: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = full("budget.confirm_gpu_hours=1", "site.price=2")
    cell = training(config, H200)
    shared = SharedWork("adapt", Spending(), 3600.0, 1.0, 1)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(UserError, match=r"about 1 GPU-hours, 2 at 2 an hour.*confirm=true"):
        preflight.confirm(GridPlan([cell], [shared], NO_DISK), config)
    with pytest.raises(UserError, match="an unknown number of GPU-hours"):
        unknown = training(config, Device("own", None, None))
        preflight.confirm(GridPlan([unknown], [], NO_DISK), config)
    preflight.confirm(GridPlan([cell], [shared], NO_DISK), changed(config, {"confirm": True}))
    preflight.confirm(GridPlan([cell], [], NO_DISK), config)  # minutes
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, starts in (("y", True), ("", False)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        if starts:
            preflight.confirm(GridPlan([cell], [shared], NO_DISK), config)
        else:
            with pytest.raises(UserError, match="Not started"):
                preflight.confirm(GridPlan([cell], [shared], NO_DISK), config)


def test_a_budget_of_gpu_hours_needs_a_measured_step_time(full: Compose) -> None:
    config = full("budget=gpu_hours", "budget.gpu_hours=2", "budget.steps=null")
    with pytest.raises(UserError, match=r"budget\.gpu_hours=2 needs a measured step time on h200"):
        steps_of_hours(training(config, H200))


def test_devices() -> None:
    config = {"device": "h100", "peak_tflops": None, "memory_gib": None}
    site = type("Site", (), config)()
    assert device(site) == Device("h100", 989e12, 79 * GIB)
    site.peak_tflops, site.memory_gib = 500.0, 40.0
    assert device(site) == Device("h100", 500e12, 40 * GIB)
    site.device = "b300"
    assert device(site) == Device("b300", 500e12, 40 * GIB)
    site.memory_gib = None
    with pytest.raises(UserError, match=r"site\.device=b300 is not known: choose b200, h200"):
        device(site)


def test_cells_of_several_budgets_are_compared_within_each(full: Compose) -> None:
    budgets = ("1e17", "4e17")
    cells = [
        training(full("budget=flops", f"budget.flops={flops}", "budget.steps=null"), H200)
        for flops in budgets
    ]
    plan = GridPlan(cells, [], NO_DISK)
    assert plan.as_dict()["spread"] == 0
    assert "FLOPs among cells of one budget, at most: 0.000%" in as_table(plan)
    # Of one budget a grid is told as before.
    alone = [*cells[:1], training(full("budget.steps=7"), H200)]
    alone[1] = replace(alone[1], config=cells[0].config)
    useful = [cell.fit.spending.useful_flops for cell in alone]
    assert GridPlan(alone, [], NO_DISK).as_dict()["spread"] == max(useful) / min(useful) - 1

"""Schedule, parameter groups, and checkpoints that continue a run bit by bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from lion_sweep.config import Config, Lora, Recipe
from lion_sweep.errors import UserError
from lion_sweep.models.backbone import Backbone
from lion_sweep.training.optimisation import (
    CHECKPOINT,
    Checkpoint,
    check_finite,
    linear_schedule,
    optimizer,
)
from lion_sweep.training.settings import Optimisation

MakeModel = Callable[..., LlamaForCausalLM]
Compose = Callable[..., Config]


@pytest.fixture
def recipe(compose_cell: Compose) -> Recipe:
    return compose_cell("recipe.weight_decay=0.01").recipe


def settings(recipe: Recipe, *embedding_rate: None, rate: float = 1e-4) -> Optimisation:
    """The recipe's, with its embedding rate or another one."""
    (rows,) = embedding_rate or (recipe.embedding_rate,)
    return Optimisation.of(recipe, rate, rows)


@pytest.mark.parametrize(
    ("steps", "warmup", "expected"),
    [
        (5, 0.4, [1 / 2, 1, 3 / 4, 2 / 4, 1 / 4, 0]),
        (4, 0.0, [1, 3 / 4, 2 / 4, 1 / 4, 0]),
        (4, 1.0, [1 / 4, 2 / 4, 3 / 4, 1, 0]),
        (1, 0.04, [1, 0]),
    ],
)
def test_linear_schedule(steps: int, warmup: float, expected: list[float]) -> None:
    optimiser = torch.optim.SGD(
        [{"params": [torch.zeros(1)], "lr": 2.0}, {"params": [torch.zeros(1)], "lr": 6.0}]
    )
    schedule = linear_schedule(optimiser, steps, warmup)
    for factor in expected:
        rates = [group["lr"] for group in optimiser.param_groups]
        assert rates == pytest.approx([2 * factor, 6 * factor])
        optimiser.step()
        schedule.step()


def test_embedding_rows_take_a_rate_of_their_own(backbone: Backbone, recipe: Recipe) -> None:
    layers, rows = optimizer(backbone, settings(recipe)).param_groups
    model = backbone.language_model
    tables = [model.get_input_embeddings().weight, model.lm_head.weight]
    assert [id(parameter) for parameter in rows["params"]] == [id(table) for table in tables]
    assert len(layers["params"]) + 2 == len(list(model.parameters()))
    assert (layers["lr"], rows["lr"]) == (1e-4, recipe.embedding_rate)
    assert layers["betas"] == tuple(recipe.betas)
    assert layers["weight_decay"] == rows["weight_decay"] == 0.01


def test_a_shared_table_is_trained_once(make_model: MakeModel, recipe: Recipe) -> None:
    backbone = Backbone(make_model(tie_word_embeddings=True))
    _, rows = optimizer(backbone, settings(recipe)).param_groups
    assert len(rows["params"]) == 1


def test_embedding_rows_are_frozen_without_a_rate(backbone: Backbone, recipe: Recipe) -> None:
    (layers,) = optimizer(backbone, settings(recipe, None)).param_groups
    tables = 2 * 97 * 32
    everything = sum(parameter.numel() for parameter in backbone.parameters())
    assert sum(parameter.numel() for parameter in layers["params"]) == everything - tables
    trains = backbone.trainable().values()
    assert sum(parameter.numel() for parameter in trains) == everything - tables


def test_adapters_are_all_that_trains(backbone: Backbone, recipe: Recipe) -> None:
    lora = Lora(rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
    adapted = backbone.with_lora(lora)
    (group,) = optimizer(adapted, settings(recipe, None)).param_groups
    # 32 inputs and 32 outputs, rank 2, two layers
    assert sum(parameter.numel() for parameter in group["params"]) == 2 * 2 * (32 + 32)


class Run:
    """Six noisy steps of a tiny decoder; the noise comes from torch's own generator."""

    def __init__(self, make_model: MakeModel, recipe: Recipe, folder: Path) -> None:
        self.backbone = Backbone(make_model(num_hidden_layers=1))
        self.optimiser = optimizer(self.backbone, settings(recipe, rate=1e-2))
        self.schedule = linear_schedule(self.optimiser, 6, 0.3)
        self.checkpoint = Checkpoint(folder, self.backbone, self.optimiser, self.schedule)

    def steps(self, first: int, last: int) -> None:
        for number in range(first, last):
            ids = torch.arange(4)[None] + number
            logits = self.backbone.model(input_ids=ids).logits
            (logits * torch.randn(logits.shape)).mean().backward()
            self.optimiser.step()
            self.schedule.step()
            self.optimiser.zero_grad()

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.backbone.state_dict().items()}


def test_a_resumed_run_equals_an_uninterrupted_one(
    make_model: MakeModel, recipe: Recipe, tmp_path: Path
) -> None:
    whole = Run(make_model, recipe, tmp_path)
    torch.manual_seed(5)
    whole.steps(0, 6)
    expected = whole.weights()

    killed = Run(make_model, recipe, tmp_path)
    torch.manual_seed(5)
    killed.steps(0, 3)
    killed.checkpoint.save(3, {"first_loss": 0.25})
    killed.steps(3, 4)  # done after the checkpoint, so lost

    resumed = Run(make_model, recipe, tmp_path)
    torch.manual_seed(999)
    assert resumed.checkpoint.load() == (3, {"first_loss": 0.25})
    resumed.steps(3, 6)
    found = resumed.weights()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert resumed.schedule.get_last_lr() == whole.schedule.get_last_lr()


def test_without_a_checkpoint_a_run_starts_at_0(
    make_model: MakeModel, recipe: Recipe, tmp_path: Path
) -> None:
    run = Run(make_model, recipe, tmp_path)
    assert run.checkpoint.load() == (0, {})
    run.checkpoint.save(2, {})
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    assert run.checkpoint.load()[0] == 2


def test_a_broken_checkpoint_is_named(
    make_model: MakeModel, recipe: Recipe, tmp_path: Path
) -> None:
    run = Run(make_model, recipe, tmp_path)
    run.checkpoint.save(1, {})
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError) as caught:
        run.checkpoint.load()
    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops(loss: float) -> None:
    with pytest.raises(UserError, match=r"step 7: lower recipe\.learning_rate"):
        check_finite(loss, 7)
    check_finite(1e30, 7)

"""Schedule, parameter groups, and checkpoints that continue a run bit by bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from transformers import LlamaForCausalLM

from lion_sweep.config import Config, Lora
from lion_sweep.config.recipe import Recipe, Schedule
from lion_sweep.errors import UserError
from lion_sweep.models.backbone import Backbone
from lion_sweep.training.optimisation import (
    CHECKPOINT,
    Optimisation,
    Run,
    Steps,
    check_finite,
    optimizer,
    rate_schedule,
)

MakeModel = Callable[..., LlamaForCausalLM]
Compose = Callable[..., Config]


@pytest.fixture
def recipe(compose_cell: Compose) -> Recipe:
    return compose_cell("recipe.weight_decay=0.01").recipe


def settings(recipe: Recipe, *embedding_rate: None, rate: float = 1e-4) -> Optimisation:
    """The recipe's, with its embedding rate or another one."""
    (rows,) = embedding_rate or (recipe.embedding_rate,)
    return replace(Optimisation.of(recipe, recipe), learning_rate=rate, embedding_rate=rows)


@pytest.mark.parametrize(
    ("falls", "steps", "warmup", "expected"),
    [
        ("linear", 5, 0.4, [1 / 2, 1, 3 / 4, 2 / 4, 1 / 4, 0]),
        ("linear", 4, 0.0, [1, 3 / 4, 2 / 4, 1 / 4, 0]),
        ("linear", 4, 1.0, [1 / 4, 2 / 4, 3 / 4, 1, 0]),
        ("linear", 1, 0.04, [1, 0]),
        # (1 + cos(pi / 4)) / 2 is .85355.
        ("cosine", 5, 0.4, [1 / 2, 1, 0.8535533906, 1 / 2, 0.1464466094, 0]),
        ("cosine", 1, 0.04, [1, 0]),
    ],
)
def test_rate_schedule(falls: str, steps: int, warmup: float, expected: list[float]) -> None:
    optimiser = torch.optim.SGD(
        [{"params": [torch.zeros(1)], "lr": 2.0}, {"params": [torch.zeros(1)], "lr": 6.0}]
    )
    schedule = rate_schedule(optimiser, steps, warmup, Schedule[falls])
    for factor in expected:
        rates = [group["lr"] for group in optimiser.param_groups]
        assert rates == pytest.approx([2 * factor, 6 * factor])
        optimiser.step()
        schedule.step()


def test_mntp_falls_linearly_whatever_the_training_does(compose_cell: Compose) -> None:
    recipe = compose_cell("recipe.schedule=cosine").recipe
    assert Optimisation.of(recipe, recipe).schedule is Schedule.cosine
    assert Optimisation.of(recipe, recipe.adapt).schedule is Schedule.linear


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


class Tiny:
    """Six noisy steps of a tiny decoder; the noise comes from torch's own generator."""

    def __init__(self, make_model: MakeModel, recipe: Recipe, folder: Path) -> None:
        self.backbone = Backbone(make_model(num_hidden_layers=1))
        run = Run(Accelerator(cpu=True), folder, 3, lambda *_: None)
        chosen = replace(settings(recipe, rate=1e-2), warmup=0.3)
        self.steps = Steps(self.backbone, chosen, 6, 5, run)

    def take(self, first: int, last: int) -> None:
        for number in range(first, last):
            ids = torch.arange(4)[None] + number
            logits = self.backbone.model(input_ids=ids).logits
            loss = (logits * torch.randn(logits.shape)).mean()
            loss.backward()
            self.steps.clip_gradients()
            self.steps.take(number, loss.item())
            self.steps.end(number, {}, {"first_loss": 0.25})

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.backbone.state_dict().items()}


def test_a_resumed_run_equals_an_uninterrupted_one(
    make_model: MakeModel, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole = Tiny(make_model, recipe, tmp_path / "whole")
    whole.take(0, 6)
    expected = whole.weights()

    killed = Tiny(make_model, recipe, tmp_path)
    killed.take(0, 4)  # the last one is done after the checkpoint, so lost
    torch.manual_seed(999)
    resumed = Tiny(make_model, recipe, tmp_path)
    assert (resumed.steps.start, resumed.steps.facts) == (3, {"first_loss": 0.25})
    resumed.take(3, 6)
    found = resumed.weights()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert resumed.steps.schedule.get_last_lr() == whole.steps.schedule.get_last_lr()


def test_without_a_checkpoint_a_run_starts_at_0(
    make_model: MakeModel, recipe: Recipe, tmp_path: Path
) -> None:
    first = Tiny(make_model, recipe, tmp_path).steps
    assert (first.start, first.facts) == (0, {})
    first.save(2, {})
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    assert Tiny(make_model, recipe, tmp_path).steps.start == 2
    (tmp_path / CHECKPOINT).unlink()
    assert Tiny(make_model, recipe, tmp_path).steps.start == 0


def test_a_broken_checkpoint_is_named(
    make_model: MakeModel, recipe: Recipe, tmp_path: Path
) -> None:
    Tiny(make_model, recipe, tmp_path).steps.save(1, {})
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError) as caught:
        Tiny(make_model, recipe, tmp_path)
    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops(loss: float) -> None:
    with pytest.raises(UserError, match=r"step 7: lower recipe\.learning_rate"):
        check_finite(loss, 7)
    check_finite(1e30, 7)

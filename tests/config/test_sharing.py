"""Cells that are composed together are what each would be alone, and cost less."""

from typing import Any

import hydra
import pytest
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from lion_sweep import config as configuration
from lion_sweep.config import config_folder
from lion_sweep.config.composing import PRIMARY, compose, compose_cells
from lion_sweep.config.sharing import composed, shared


def test_cells_of_a_grid_are_composed_as_one_by_one() -> None:
    """Files are read once for all cells; no cell may see what another has made of them."""
    configuration.register()
    cells = [
        [f"model={model}", f"loss={loss}", f"ladder={ladder}", *budget]
        for model in ("1b", "8b")
        for loss in ("cl", "kd")
        for ladder in ("proxy", "full")
        for budget in (["budget=anchor"], ["budget=epochs", "seed=7"])
    ]
    folder = str(configuration.config_folder())
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        configs, references = compose_cells(cells)
        assert configs == [compose(cell) for cell in cells]
        assert [found is None for found in references] == [False, True] * 8
        assert compose_cells(cells[::-1])[0] == configs[::-1]


ONE_BY_ONE = [
    ["seed=3"],
    ["model=8b", "recipe.learning_rate=2e-5", "seed=4", "recipe=cut"],
    ["paradigm=dense", "recipe.lora.rank=4", "recipe.lora.targets=[q_proj,v_proj]"],
    ["recipe.lora=null"],
    ["budget.flops=1e12", "budget.flops=2e12"],
    ["data=beir", "data.path='a name, with: signs'", "paths.root='~/x y'", "site.memory=null"],
    ["+loss={more: {weight: 0.1}}", "loss=clkd"],
    ["recipe.betas=[0.5,0.9]", "recipe={warmup: 0.5, clip: 2}", "loss=clkd"],
    ["recipe.learning_rate=${budget.flops}", "loss.name=${model.name}"],
    ["+loss.terms.more=1", "seed=5"],
    ["~budget.flops", "seed=5"],
    ["seed=many"],
    ["no.such=1"],
    ["loss=none"],
    ["seed"],
    ["seed=1", "model@x=8b"],
    ["recipe.lora=null", "recipe.lora.rank=2"],
]


def test_sharing_changes_neither_configurations_nor_refusals() -> None:
    def told(words: list[str]) -> Any:
        try:
            return OmegaConf.to_container(composed(PRIMARY, words), resolve=False)
        except Exception as error:
            return type(error), str(error)

    configuration.register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        alone = [told(words) for words in ONE_BY_ONE]
        with shared():
            first = [told(words) for words in ONE_BY_ONE]
            assert [told(words) for words in ONE_BY_ONE[::-1]] == first[::-1]
    assert first == alone
    assert 9 <= sum(isinstance(one, dict) for one in alone) < len(ONE_BY_ONE) - 4


@pytest.mark.parametrize("times", [2, 20])
def test_cells_that_choose_the_same_options_are_merged_once(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    asked: list[list[str]] = []
    merge = hydra.compose

    def compose_and_tell(primary: str, overrides: list[str]) -> DictConfig:
        asked.append(overrides)
        return merge(primary, overrides=overrides)

    monkeypatch.setattr(hydra, "compose", compose_and_tell)
    configuration.register()
    cells = [[f"seed={n}", f"loss={loss}"] for n in range(times) for loss in ("cl", "kd")]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        found, _ = compose_cells(cells)
    assert asked == [["loss=cl"], ["loss=kd"]]
    assert [(config.seed, config.loss.name) for config in found] == [
        (n, loss) for n in range(times) for loss in ("cl", "kd")
    ]

"""Fixtures that several tests share: a tiny decoder, composed configurations."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hydra import compose, initialize_config_dir
from transformers import LlamaConfig, LlamaForCausalLM

from lion_sweep import config as configuration
from lion_sweep.config import Config
from lion_sweep.data import pydoc
from lion_sweep.data.collection import write
from lion_sweep.models.backbone import Backbone

MakeModel = Callable[..., LlamaForCausalLM]
Compose = Callable[..., Config]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Build a two-layer Llama with grouped queries; the same seed gives the same weights."""

    def make(seed: int = 0, **changes: object) -> LlamaForCausalLM:
        settings = {
            "vocab_size": 97,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": None,
            "is_causal": False,
        }
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()

    return make


@pytest.fixture(scope="session")
def small_beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pairs of the embedded collection, as a user's own BEIR folder."""
    pairs = pydoc.collect(["json", "logging", "email", "unittest", "asyncio"])[:200]
    folder = tmp_path_factory.mktemp("twin")
    write(folder, {"train": pairs[:160], "test": pairs[160:]})
    return folder


@pytest.fixture
def backbone(make_model: MakeModel) -> Backbone:
    """A tiny bidirectional decoder in evaluation mode."""
    return Backbone(make_model())


@pytest.fixture
def compose_cell() -> Iterator[Compose]:
    """A cell's configuration from overrides, as the command line would give it."""
    configuration.register()
    folder = str(configuration.config_folder())
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        yield lambda *overrides: configuration.resolve(compose("config", overrides=[*overrides]))


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    """One process on the CPU."""
    return Accelerator(cpu=True)

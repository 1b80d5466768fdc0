"""A tiny collection and decoders, for what runs whole trainings."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from training_run import Corpus, made_up, one_thread, save_backbone
from transformers import LlamaForCausalLM

MakeModel = Callable[..., LlamaForCausalLM]


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Eight groups."""
    return made_up()


@pytest.fixture(scope="session")
def collection(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in files."""
    return corpus.write(tmp_path_factory.mktemp("tiny") / "collection")


@pytest.fixture(scope="session")
def backbones(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Folders of decoders, by whether the head is the embedding matrix."""
    root = tmp_path_factory.mktemp("backbones")
    return {
        tied: save_backbone(
            make_model(3, tie_word_embeddings=tied, is_causal=True), root / f"tied-{tied}"
        )
        for tied in (False, True)
    }


@pytest.fixture
def single_thread() -> Iterator[None]:
    """Sums are small here."""
    with one_thread():
        yield

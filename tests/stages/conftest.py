"""What cells are made of that teach and mine: a corpus of a few texts in files, and a decoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_run import Corpus, made_up, save_backbone


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Eight queries; the passage of the same number is relevant to each."""
    return made_up()


@pytest.fixture(scope="session")
def inputs(
    once: Callable[..., Path], corpus: Corpus, make_model: Callable[..., Any]
) -> tuple[Path, Path]:
    """The corpus in files, and a decoder."""
    folder = once(
        "of-finished",
        lambda made: (
            corpus.write(made / "collection"),
            save_backbone(make_model(3, is_causal=True), made / "decoder"),
        ),
    )
    return folder / "collection", folder / "decoder"

"""Fixtures that several tests share: a tiny decoder, composed configurations, the tiny grid."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hydra import initialize_config_dir
from support import GRID, TINY, TWIN_BUDGET, Shell
from transformers import LlamaConfig, LlamaForCausalLM

from lion_sweep import config as configuration
from lion_sweep.cell.cell import Cell
from lion_sweep.config import Config
from lion_sweep.config.composing import compose
from lion_sweep.config.site import SiteName
from lion_sweep.data import pydoc
from lion_sweep.data.collection import write
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.site import settle
from lion_sweep.models.backbone import Backbone
from lion_sweep.stages.engine import locked
from lion_sweep.stages.of_cell import stages_of
from lion_sweep.stages.workshop import Workshop

# Modules of tests whose classes their configurations name; commands and jobs inherit it.
os.environ["LION_SWEEP_PACKAGES"] = "alone,boom,full,pause,taught_pairs"
MakeModel = Callable[..., LlamaForCausalLM]
Compose = Callable[..., Config]
Once = Callable[[str, Callable[[Path], object]], Path]
SLOWEST = ("launch", "system")  # folders
# Folders and files that take clusters, whole grids, several processes, compilers or Java.
SLOW = (
    "interop",
    "test_anserini",
    "test_benchmarks",
    "test_budget",
    "test_bm25_lucene",
    "test_bm25_oracle",
    "test_bm25_row",
    "test_compiled",
    "test_contract",
    "test_corrections",
    "test_disk",
    "test_doc_commands",
    "test_encode",
    "test_entropy_stage",
    "test_estimate",
    "test_gpu_rehearsal",
    "test_history",
    "test_hydra_ways",
    "test_identity_of_files",
    "test_identity_walk",
    "test_import",
    "test_interrupted_search",
    "test_laws",
    "test_lucene",
    "test_memory",
    "test_mining_by_lucene",
    "test_mntp_steps",
    "test_not_finite",
    "test_page",
    "test_page_cells",
    "test_page_data",
    "test_prepare",
    "test_remote",
    "test_report_fits",
    "test_seismic",
    "test_sharding",
    "test_sparse_head_compiles",
    "test_sparse_head_triton",
    "test_steps",
    "test_teacher",
    "test_trackio",
    "test_tracking",
    "test_work",
    "test_workers",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files begin first, lest one process is left with them at the end."""
    items.sort(key=lambda item: item.path.parent.name not in SLOWEST)
    for item in items:
        if item.path.parent.name in (*SLOWEST, *SLOW) or item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


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
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Have a folder made by one process of a test run, for all of them to read."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, sign = base / name, base / f"{name}.made"
        with locked(base / f"{name}.lock"):
            if not sign.exists():
                folder.mkdir()
                make(folder)
                sign.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def small_beir(once: Once) -> Path:
    """200 pairs of the embedded collection, as a user's own BEIR folder."""
    pairs = pydoc.collect(["json", "logging", "email", "unittest", "asyncio"])[:200]
    return once("beir", lambda folder: write(folder, {"train": pairs[:160], "test": pairs[160:]}))


@pytest.fixture(scope="session")
def laptop(small_beir: Path) -> Shell:
    """A shell where no controller answers; sums are split as in jobs of one core."""
    return Shell({"SLURM_CONF": "/dev/null"}, small_beir)


@pytest.fixture(scope="session")
def twin(once: Once, laptop: Shell) -> Path:
    """The output folder of the whole grid, made by the command the project is used by."""

    def make(root: Path) -> None:
        code, printed = laptop.run(*GRID, *TWIN_BUDGET, f"paths.root={root}")
        assert code == 0, printed
        assert "site: laptop" in printed
        assert "18 of 18 cells complete" in printed

    return once("grid", make)


@pytest.fixture
def backbone(make_model: MakeModel) -> Backbone:
    """A tiny bidirectional decoder in evaluation mode."""
    return Backbone(make_model())


@pytest.fixture(scope="session")
def small_root(once: Once) -> Path:
    """An output folder in which texts are imported and proxies built, for tests of identities."""
    return once("small", lambda _: None)


@pytest.fixture
def small_cell(compose_cell: Compose, small_beir: Path, small_root: Path) -> Callable[..., Cell]:
    """A cell of the tiny collection from overrides, settled for this machine; nothing runs."""

    def made(*words: str) -> Cell:
        own = {word.lstrip("+").split("=")[0] for word in words}
        defaults = [*TINY, f"data.path={small_beir}", f"paths.root={small_root}"]
        chosen = [word for word in defaults if word.split("=")[0] not in own]
        config = settle(compose_cell(*chosen, *words), SiteName.laptop)
        shop = Workshop(Path(config.paths.root), Progress("cell", None))
        return Cell(config, stages_of(config, shop))

    return made


@cache
def composed(*overrides: str) -> Config:
    """Composed once: a settled configuration never changes."""
    return compose(overrides)


@pytest.fixture
def compose_cell() -> Iterator[Compose]:
    """A cell's configuration from overrides, as the command line would give it."""
    configuration.register()
    folder = str(configuration.config_folder())
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        yield composed


@pytest.fixture(autouse=True)
def fresh_accelerate() -> None:
    """What an earlier test of this process computed in is the precision of no later one."""
    AcceleratorState._reset_state()


@pytest.fixture
def accelerator() -> Accelerator:
    """One process on the CPU."""
    return Accelerator(cpu=True)

"""A tiny cell trained by a task of ours, and what can be seen of it from outside.

All that is known here of how training is started and named stands in this file.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import commands
import numba
import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from plain_reference import Optimiser, Weights
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lion_sweep import config as configuration
from lion_sweep.cell import work
from lion_sweep.cell.tasks import TRAIN, Task
from lion_sweep.config.composing import compose
from lion_sweep.config.site import SiteName
from lion_sweep.machine.history import HISTORY, Record
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.site import settle
from lion_sweep.stages.engine import Team
from lion_sweep.stages.of_cell import stages_of
from lion_sweep.stages.workshop import Ranks, Workshop
from lion_sweep.training import adapt

VOCABULARY, PADDING, MASK = 97, 0, 1
CUT = {"query": 4, "passage": 6, "adapt": 8}  # tokens that training and MNTP read of a text
DEPTH = 2  # negatives read of a group


@dataclass(frozen=True)
class Corpus:
    """Texts as lists of token ids; groups of (query, passages with the positive first, scores)."""

    queries: list[list[int]]
    passages: list[list[int]]
    groups: list[tuple[int, list[int], list[float]]]

    def write(self, folder: Path) -> Path:
        """As a collection in BEIR format, with groups in PyLate's."""
        (folder / "qrels").mkdir(parents=True)

        def lines(name: str, records: list[dict[str, Any]]) -> None:
            (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))

        for name, kind, texts in (("queries", "q", self.queries), ("corpus", "d", self.passages)):
            words = [" ".join(f"w{token}" for token in text) for text in texts]
            lines(f"{name}.jsonl", [{"_id": f"{kind}{i}", "text": t} for i, t in enumerate(words)])
        lines(
            "groups.jsonl",
            [
                {"query_id": f"q{q}", "document_ids": [f"d{d}" for d in ds], "scores": scores}
                for q, ds, scores in self.groups
            ],
        )
        for split in ("train", "test"):
            judged = [f"q{query}\td{found[0]}\t1\n" for query, found, _ in self.groups]
            (folder / "qrels" / f"{split}.tsv").write_text("".join(judged))
        return folder


def _texts(rng: np.random.Generator, count: int, longest: int) -> list[list[int]]:
    return [
        rng.integers(2, VOCABULARY, length).tolist() for length in 1 + np.arange(count) % longest
    ]


def made_up() -> Corpus:
    """Texts longer than what is read; negatives that are others' positives, or nobody's read."""
    rng = np.random.default_rng(0)
    queries, passages = _texts(rng, 8, 6), _texts(rng, 14, 10)
    groups = []
    for query in range(8):
        others = rng.permutation([p for p in range(14) if p != query])[: DEPTH + 1]
        scores = (3 * rng.standard_normal(DEPTH + 2)).round(2).tolist()
        groups.append((query, [query, *others.tolist()], scores))
    return Corpus(queries, passages, groups)


def save_backbone(model: LlamaForCausalLM, folder: Path) -> Path:
    """The decoder with a tokenizer for which the word w7 is token 7."""
    entries = {"<pad>": PADDING, "<mask>": MASK} | {f"w{n}": n for n in range(2, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", mask_token="<mask>"
    ).save_pretrained(folder)
    return folder


@dataclass
class Seen:
    """What one process showed."""

    logged: list[dict[str, float]] = field(default_factory=list)  # lines of history.jsonl
    points: list[dict[str, float]] = field(default_factory=list)  # lines of points.jsonl
    adapting: list[Weights] = field(default_factory=list)  # after every step of MNTP
    training: list[Weights] = field(default_factory=list)  # after every step of training
    chunks: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # inputs, targets of MNTP


@dataclass
class Run:
    """A finished run: what training started and ended with, and what every rank showed."""

    start: Weights
    end: Weights
    adapted: dict[str, Any]  # facts of MNTP
    ranks: list[Seen]


@contextmanager
def watched(seen: Seen) -> Iterator[None]:
    """Note what is written down and saved as a checkpoint; chunks of MNTP, on every rank."""
    save, loss, add = torch.save, adapt.mntp_loss, Record.add

    def saved(state: Any, path: Any, **how: Any) -> None:
        if isinstance(state, dict) and "parameters" in state:
            into = seen.adapting if "adapt-" in str(path) else seen.training
            into.append({short(name): p.clone() for name, p in state["parameters"].items()})
        save(state, path, **how)

    def read(backbone: Any, input_BL: Tensor, target_BL: Tensor) -> Tensor:
        seen.chunks.append((input_BL, target_BL))
        return loss(backbone, input_BL, target_BL)

    def noted(record: Record, row: dict[str, Any]) -> None:
        add(record, row)
        if record.writes:
            into = seen.logged if record.path.name == HISTORY else seen.points
            into.append(dict(row))

    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(Record, "add", noted)
        planted.setattr(torch, "save", saved)
        planted.setattr(adapt, "mntp_loss", read)
        yield


def short(name: str) -> str:
    """layers.0.mlp.up_proj.weight, whatever is around it."""
    name = name.replace("base_model.model.", "").removeprefix("model.")
    return name.replace(".default.", ".").replace(".base_layer.", ".")


def freeze(root: Path, collection: Path, backbone: Path, words: list[str]) -> Path:
    """The folder of a task that trains a cell on the collection's groups, its values plain."""
    configuration.register()
    common = [
        "data=beir",
        "data.name=tiny",
        f"data.path={collection}",
        "data.groups=groups.jsonl",
        "teacher=given",
        f"model.backbone={backbone}",
        f"paths.root={root}",
        "site.devices=1",
        "tracking=none",
        "alarms=none",  # some of these cells have no term, and learn nothing
        "budget=steps",
        "recipe.precision=fp32",
        "recipe.checkpoint_every=1",
        f"recipe.negative_depth={DEPTH}",
        f"loss.negatives={DEPTH}",
        f"recipe.lengths.query={CUT['query']}",
        f"recipe.lengths.passage={CUT['passage']}",
        f"recipe.adapt.length={CUT['adapt']}",
    ]
    given = {word.split("=")[0] for word in words}
    kept = [word for word in common if word.split("=")[0] not in given]
    with initialize_config_dir(str(configuration.config_folder()), version_base="1.3"):
        config = settle(compose([*kept, *words]), SiteName.laptop)
    stages = stages_of(config, Workshop(root, Progress("tiny", None)))
    task = Task(TRAIN, stages.train.name, config)
    task.freeze()
    return task.folder


def shared_words(optimiser: Optimiser, rank: int, alpha: float, dropout: float) -> list[str]:
    """What MNTP and training read alike."""
    return [
        f"recipe.warmup={optimiser.warmup}",
        f"recipe.weight_decay={optimiser.weight_decay}",
        f"recipe.clip={optimiser.clip}",
        f"recipe.betas=[{optimiser.betas[0]},{optimiser.betas[1]}]",
        f"recipe.epsilon={optimiser.epsilon}",
        f"recipe.lora.rank={rank}",
        f"recipe.lora.alpha={alpha}",
        f"recipe.lora.dropout={dropout}",
    ]


def rates(section: str, optimiser: Optimiser) -> list[str]:
    """Learning rates of `recipe` (training) or of `recipe.adapt` (MNTP)."""
    rows = "null" if optimiser.rows_rate is None else optimiser.rows_rate
    return [f"{section}.learning_rate={optimiser.rate}", f"{section}.embedding_rate={rows}"]


def do(folder: Path, seen: Seen, team: Any = None) -> None:
    """Do the task, as a job or a command does."""
    with watched(seen):
        work.do(Task.thaw(folder), SiteName.laptop, team=team or Team())


def take_steps(
    root: Path, collection: Path, backbone: Path, words: list[str], ranks: int = 1
) -> Run:
    """Adapt and train in this process, or on several ranks."""
    folder = freeze(root, collection, backbone, words)
    if ranks == 1:
        seen = [Seen()]
        do(folder, seen[0])
    else:
        spread(as_rank, ranks, folder)
        seen = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
    (done,) = root.glob("stages/adapt-*/done.json")
    start, end = (_weights(root, backbone, stage) for stage in ("adapt", "train"))
    return Run(start, end, json.loads(done.read_text())["facts"], seen)


def spread(run: Callable[..., None], ranks: int, folder: Path) -> None:
    """Run on several ranks, forked off one process that has imported everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands.spread(run, ranks, ranks, port, folder)


def as_rank(rank: int, ranks: int, port: int, folder: Path) -> None:
    """Do the task as one of several ranks."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
    )
    seen = Seen()
    with one_thread():
        do(folder, seen, Ranks(cpu=True))
    torch.save(seen, folder / f"{rank}.pt")


@contextmanager
def one_thread() -> Iterator[None]:
    """Several would spin while they wait for each other, on a busy machine for minutes.

    Numba's count comes first: its kernels pass it on to torch.
    """
    counts = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    numba.set_num_threads(counts[0])
    torch.set_num_threads(counts[1])


def _weights(root: Path, backbone: Path, stage: str) -> Weights:
    """All weights as a stage left them, under plain names: the backbone's, then the stage's."""
    (folder,) = root.glob(f"stages/{stage}-*/weights")
    files = [backbone / "model.safetensors", *folder.glob("*.safetensors")]
    return {short(n): weight for file in files for n, weight in load_file(file).items()}


def same_change(before: Weights, found: Weights, wanted: Weights) -> None:
    """A step must have changed the same weights, each by as much, to the rounding of fp32."""
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        change, expected = (after.double() - before[name] for after in (found[name], weight))
        largest = float(expected.abs().max())
        torch.testing.assert_close(
            change, expected, rtol=1e-3, atol=1e-3 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )

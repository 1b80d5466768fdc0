"""Every key of the configuration: what it changes, its stages' names say, and nothing else.

A stage is known by its name. So a name must stand for one content: whatever key is changed, a cell
made anew has in the stages that kept their names what it had there before. That is tried for every
key of the schema, and a key that is missing here fails the test.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse

from lion_sweep.cell import run
from lion_sweep.cell.cell import Cell
from lion_sweep.config.section import Section
from lion_sweep.config.site import SiteName
from lion_sweep.files import read_json
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]

CELL = "the cell"  # its id changes, and no stage's name
NOTHING = "nothing"
# Three short cells between which every key can be read by something.
BASE = ["budget=steps", "budget.steps=3", "recipe.precision=fp32", "evaluation.permutations=99"]
SPARSE = ["paradigm=sparse", "loss=clkd", "teacher=bm25", *BASE]
DENSE = ["paradigm=dense", "loss=kd", "teacher=bm25", "recipe.lora.rank=4"]
DENSE += ["recipe.embedding_rate=null", *BASE]
FLOPS = ["paradigm=sparse", "loss=cl", "budget.flops=3e10", "budget.tolerance=null", *BASE[2:]]

# key: (another value, or overrides; the first stage that it changes), in the sparse cell.
WALK: dict[str, tuple[str | list[str], str]] = {
    "model.name": ("other", CELL),
    "model.full": ("some/where", NOTHING),
    "model.full_shape.hidden_size": ("64", NOTHING),
    "model.full_shape.intermediate_size": ("64", NOTHING),
    "model.full_shape.layers": ("1", NOTHING),
    "model.full_shape.heads": ("2", NOTHING),
    "model.full_shape.key_value_heads": ("2", NOTHING),
    "model.full_shape.tied": ("false", NOTHING),
    "model.full_shape.head_dim": ("8", NOTHING),
    "model.full_shape.vocabulary": ("99", NOTHING),
    "model.proxy.hidden_size": ("64", "backbone"),
    "model.proxy.intermediate_size": ("256", "backbone"),
    "model.proxy.layers": ("2", "backbone"),
    "model.proxy.heads": ("2", "backbone"),
    "model.proxy.key_value_heads": ("2", "backbone"),
    "model.proxy.tied": ("false", "backbone"),
    "model.epochs.cl": ("2", NOTHING),
    "model.epochs.kd": ("2", NOTHING),
    "model.epochs.clkd": ("2", NOTHING),
    "paradigm.name": ("sparse", NOTHING),  # another one is another paradigm: the dense cell
    "paradigm.encoder": (["paradigm.encoder.threshold=1.5"], "encode untrained passages twin"),
    "paradigm.temperature": ("2.0", "train"),
    "paradigm.teacher_scale": ("2.0", "train"),
    "paradigm.regulariser": (["paradigm.regulariser.query_weight=0.1"], "train"),
    "loss.name": ("other", CELL),
    "loss.batch_size": ("4", "train"),
    "loss.negatives": ("2", "train"),
    "loss.terms": (["loss.terms.contrastive.weight=0.9"], "train"),
    "data.name": ("other", CELL),
    "data.packages": ("[json]", NOTHING),
    "data.train_split": ("test", "backbone"),
    "data.test_split": ("train", "encode untrained queries twin"),
    "teacher.name": ("other", NOTHING),
    "teacher.encoder_weight": ("3.0", NOTHING),  # there is no encoder
    "teacher.bm25_weight": ("0.5", "teacher"),
    "teacher.length": ("16", NOTHING),
    "budget.kind": (["budget=epochs", "budget.epochs=1"], "train"),
    "budget.flops": ("1e12", NOTHING),
    "budget.epochs": ("9", NOTHING),
    "budget.steps": ("2", "train"),
    "budget.gpu_hours": ("3", NOTHING),
    "budget.tolerance": ("0.5", NOTHING),
    "budget.confirm_gpu_hours": ("3", NOTHING),
    "recipe.name": ("other", NOTHING),
    "recipe.lengths.query": ("9", "train"),
    "recipe.lengths.passage": ("11", "train"),
    "recipe.evaluation_query_length": ("8", "query tokens"),
    "recipe.evaluation_passage_length": ("32", "encode untrained passages twin"),
    "recipe.batch_size.cl": ("4", NOTHING),
    "recipe.batch_size.kd": ("4", NOTHING),
    "recipe.batch_size.clkd": ("4", NOTHING),  # the tiny cell says loss.batch_size
    "recipe.negatives.cl": ("2", NOTHING),
    "recipe.negatives.kd": ("2", NOTHING),
    "recipe.negatives.clkd": ("2", "train"),
    "recipe.negative_depth": ("20", "negatives"),
    "recipe.learning_rate": ("1e-3", "train"),
    "recipe.embedding_rate": ("1e-3", "train"),
    "recipe.warmup": ("0.9", "adapt"),
    "recipe.weight_decay": ("0.1", "adapt"),
    "recipe.clip": ("0.1", "adapt"),
    "recipe.betas": ("[0.5, 0.9]", "adapt"),
    "recipe.epsilon": ("1e-3", "adapt"),
    "recipe.precision": ("bf16", "adapt"),
    "recipe.lora": (["recipe.lora.rank=4", "recipe.embedding_rate=null"], "adapt"),
    "recipe.adapt.length": ("20", "adapt"),
    "recipe.adapt.steps": ("1", "adapt"),
    "recipe.adapt.batch_size": ("4", "adapt"),
    "recipe.adapt.chunk": ("8", "adapt"),
    "recipe.adapt.mask_probability": ("0.5", "adapt"),
    "recipe.adapt.learning_rate": ("1e-3", "adapt"),
    "recipe.adapt.embedding_rate": ("1e-3", "adapt"),
    "recipe.flops": ("1e12", NOTHING),
    "recipe.flops_tolerance": ("0.5", NOTHING),
    "recipe.dense.normalize": ("tokens", NOTHING),
    "recipe.dense.temperature": ("0.5", NOTHING),
    "recipe.dense.teacher_scale": ("1.0", NOTHING),
    "recipe.sparse.threshold": ("1.0", "encode untrained passages twin"),
    "recipe.sparse.temperature": ("0.5", "train"),
    "recipe.sparse.teacher_scale": ("1.0", "train"),
    "recipe.sparse.flops_query": ("0.1", "train"),
    "recipe.sparse.flops_passage": ("0.1", "train"),
    "recipe.sparse.flops_ramp": ("0.9", "train"),
    "evaluation.measures": ("[nDCG@5]", "score untrained twin"),
    "evaluation.sets": (["+evaluation.sets.more={path: ${data.path}}"], CELL),
    "evaluation.depth": ("20", "search untrained twin"),
    "evaluation.query_length": ("8", "query tokens"),
    "evaluation.passage_length": ("32", "encode untrained passages twin"),
    "evaluation.kept_terms": ("9", "encode untrained passages twin"),
    "evaluation.sparse_engine": ("seismic", "search untrained twin"),
    "evaluation.bm25_engine": ("lucene", "search bm25 twin"),
    "evaluation.seismic.n_postings": ("99", NOTHING),
    "evaluation.seismic.summary_energy": ("0.9", NOTHING),
    "evaluation.seismic.query_cut": ("9", NOTHING),
    "evaluation.seismic.heap_factor": ("0.9", NOTHING),
    "evaluation.dense_precision": ("float16", NOTHING),
    "evaluation.permutations": ("199", CELL),
    "ladder": ("proxy", NOTHING),  # the other one needs decoders that are not here
    "seed": ("7", "backbone"),
}
# Portions and places: no name changes, and no number beyond the rounding of sums.
HOW: dict[str, str | list[str]] = {
    "recipe.micro_batch_tokens": "64",
    "recipe.gradient_cache": "always",
    "recipe.checkpoint_every": "2",
    "evaluation.batch_tokens": "256",
    "site.device": "cpu",
    "site.gpus": "0",
    "site.cpus": "3",
    "site.memory": "5",
    "site.peak_tflops": "1",
    "site.memory_gib": "40",
    "site.shard": "never",
    "site.efficiency": "0.5",
    "site.price": "2",
    "site.time_limit": "9",
    "site.parallel": "2",
    "site.encode_jobs": "3",
    "site.shard_tokens": "2000",
    "site.attempts": "5",
    "site.retry": "failed",
    "site.resources.proxy": ["site.resources.proxy.default.memory=7"],
    "site.resources.full": ["site.resources.full.default.memory=7"],
    "site.stages": ["+site.stages.train.memory=9"],
    "site.escalate.memory": "2",
    "site.escalate.time": "3",
    "site.slurm.partition": "p",
    "site.slurm.account": "a",
    "site.slurm.qos": "q",
    "site.slurm.constraint": "c",
    "site.slurm.nodes": "2",
    "site.slurm.signal": "99",
    "site.slurm.sbatch": ["+site.slurm.sbatch.mail-type=FAIL"],
    "site.slurm.setup": "[true]",
    "tracking.kind": "none",
    "tracking.project": "other",
    "tracking.group": "mine",
    "paths.beir": "elsewhere",
    "plan.format": "json",
    "plan.calibrate": "true",
    "status.format": "json",
    "confirm": "true",
}
# Each is shown by the test that is named.
ELSEWHERE = {
    "model.backbone": "test_a_file_with_other_content_under_the_same_name",
    "data.kind": "tests/data/test_pydoc.py: the embedded collection has files of its own",
    "data.path": "test_a_file_with_other_content_under_the_same_name",
    "data.corpus": "test_a_file_with_other_content_under_the_same_name",
    "data.queries": "test_a_file_with_other_content_under_the_same_name",
    "data.qrels": "test_a_file_with_other_content_under_the_same_name",
    "data.groups": "test_a_file_with_other_content_under_the_same_name",
    "teacher.encoder": "test_a_file_with_other_content_under_the_same_name",
    "budget.anchor": "tests/plan: an anchor comes to budget.flops",
    "site.name": "settled before a cell is made",
    "site.devices": "tests/training: two and four ranks against one",
    "site.compile": "tests/models/test_compiled.py",
    "paths.root": "every run here has its own",
}
# In the dense cell, whose keys the sparse one does not read, and in that of a budget of FLOPs.
MORE: list[tuple[list[str], dict[str, tuple[str | list[str], str]]]] = [
    (
        DENSE,
        {
            "recipe.dense.normalize": ("tokens", "encode untrained passages twin"),
            "recipe.dense.temperature": ("0.5", "train"),
            "recipe.dense.teacher_scale": ("1.0", "train"),
            "evaluation.dense_precision": ("float16", "search untrained twin"),
            "evaluation.kept_terms": ("9", NOTHING),
            "recipe.sparse.threshold": ("1.0", NOTHING),
            "recipe.sparse.flops_ramp": ("0.9", NOTHING),
            "recipe.lora.rank": ("2", "adapt"),
            "recipe.lora.alpha": ("2", "adapt"),
            "recipe.lora.dropout": ("0.4", "adapt"),
            "recipe.lora.targets": ("[q_proj]", "adapt"),
        },
    ),
    (
        FLOPS,
        {
            "budget.flops": ("2e10", "train"),
            "recipe.flops": ("1e12", NOTHING),
            "teacher.bm25_weight": ("0.5", NOTHING),  # of a loss that reads no teacher
            "paradigm.teacher_scale": ("2.0", NOTHING),
            "evaluation.seismic.query_cut": ("9", NOTHING),
        },
    ),
]


def overriding(base: list[str], more: list[str]) -> list[str]:
    """Both, of a key the last word."""
    return list({word.lstrip("+").split("=")[0]: word for word in [*base, *more]}.values())


def words(key: str, value: str | list[str]) -> list[str]:
    """The overrides that change a key."""
    return value if isinstance(value, list) else [f"{key}={value}"]


def leaves(section: Section, path: str = "") -> Iterator[str]:
    """Every key of the schema."""
    for entry in fields(section):  # type: ignore[arg-type]
        key, value = f"{path}{entry.name}", getattr(section, entry.name)
        yield from leaves(value, f"{key}.") if isinstance(value, Section) else [key]


def test_no_key_is_forgotten(small_cell: SmallCell) -> None:
    known = [*WALK, *HOW, *ELSEWHERE]
    assert len(known) == len(set(known))
    assert set(leaves(small_cell(*SPARSE).config)) == set(known)


def changed(before: Cell, after: Cell) -> str:
    """The first stage whose name differs, what is read before what reads it."""
    for title, stage in after.stages.roles.items():
        known = before.stages.roles.get(title)
        if known is not None and known != stage:
            return title
    return NOTHING if before.id == after.id else CELL


@pytest.mark.parametrize("base", [SPARSE, DENSE, FLOPS], ids=["sparse", "dense", "flops"])
def test_what_each_key_changes(small_cell: SmallCell, base: list[str]) -> None:
    more: dict[str, Any] = dict((WALK, {})[base is not SPARSE])
    if base is SPARSE:
        more |= {key: (value, NOTHING) for key, value in HOW.items()}
    for of, entries in MORE:
        more |= entries if of is base else {}
    before = small_cell(*base)
    found = {
        key: changed(before, small_cell(*overriding(base, words(key, v))))
        for key, (v, _) in more.items()
    }
    assert found == {key: expected for key, (_, expected) in more.items()}


def done(cell: Cell) -> Cell:
    """Make a cell in this process."""
    progress = Progress("cell", None)
    shop = Workshop(
        Path(cell.config.paths.root), progress, Execution.of(cell.config, SiteName.laptop)
    )
    cell.freeze()
    cell.write_result(run.run(cell, shop))
    return cell


def contents(cell: Cell) -> dict[str, dict[str, Any]]:
    """What is in the folder of each stage, by its name."""
    root = Path(cell.config.paths.root) / "stages"
    return {stage.name: _content(root / stage.name) for stage in cell.stages.roles.values()}


def _content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npy":
            found[name] = np.load(path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                whole = {key: arrays[key] for key in arrays.files}
            if "indptr" in whole:
                entries = whole["data"], whole["indices"], whole["indptr"]
                whole = {"vectors": sparse.csr_matrix(entries, whole["shape"]).toarray()}
            found |= {
                f"{name} {key}": array for key, array in whole.items() if array.dtype.kind in "fi"
            }
        elif path.suffix == ".safetensors":
            found |= {f"{name} {key}": array for key, array in load_file(path).items()}
        elif path.name == "per_query.json":
            for measure, values in read_json(path).items():
                found[f"{name} {measure}"] = np.array(list(values.values()))
    found["loss"] = np.array(read_json(folder / "done.json")["facts"].get("loss", []))
    return found


def same(one: dict[str, Any], other: dict[str, Any], *, rounded: bool) -> bool:
    """Equal to the bit, or to the rounding of sums."""
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if rounded else {"rtol": 0.0, "atol": 0.0}
    return one.keys() == other.keys() and all(
        one[key].shape == other[key].shape and np.allclose(one[key], other[key], **tolerance)
        for key in one
    )


def runs() -> list[tuple[list[str], list[str], bool]]:
    """(base, overrides, whether portions change) of cells in which every key differs once.

    Keys that change the same stage first are tried together: whatever they do to the stages before
    it, and beside it, shows.
    """
    by_stage: dict[tuple[int, str], list[str]] = {}
    tried = [(SPARSE, WALK), *MORE]
    for number, (_, entries) in enumerate(tried):
        for key, (value, stage) in entries.items():
            by_stage.setdefault((number, stage), []).extend(words(key, value))
    found = [(tried[number][0], overrides, False) for (number, _), overrides in by_stage.items()]
    how = [word for key, value in HOW.items() for word in words(key, value)]
    return [*found, (SPARSE, how, True)]


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, Any]]:
    """What was found in each stage, over all cells of this file."""
    return {}


@pytest.mark.parametrize(
    ("base", "overrides", "rounded"), runs(), ids=lambda value: str(value)[:60]
)
def test_a_name_stands_for_one_content(
    small_cell: SmallCell,
    tmp_path: Path,
    known: dict[str, dict[str, Any]],
    base: list[str],
    overrides: list[str],
    rounded: bool,
) -> None:
    for one in (base, overriding(base, overrides)):
        if one == base and small_cell(*base).stages.train.name in known:
            continue
        root = tmp_path / str(len(one))
        for name, content in contents(done(small_cell(*one, f"paths.root={root}"))).items():
            loose = rounded and one != base
            assert name not in known or same(known[name], content, rounded=loose), name
            known.setdefault(name, content)


@pytest.fixture
def inputs(small_cell: SmallCell, small_beir: Path, tmp_path: Path) -> Path:
    """A collection with groups, a decoder and a teacher's encoder, all of them folders."""
    shutil.copytree(small_beir, tmp_path / "data")
    built = small_cell()
    for name in ("decoder", "teacher"):
        shutil.copytree(built.stages.blueprint.source, tmp_path / name)
    queries = [json.loads(line) for line in (small_beir / "queries.jsonl").open()]
    documents = [json.loads(line)["_id"] for line in (small_beir / "corpus.jsonl").open()]
    lines = [
        json.dumps(
            {
                "query_id": query["_id"],
                "document_ids": [documents[row], documents[-1 - row], documents[row + 1]],
                "scores": [3.0, 1.0, 0.5 * row],
            }
        )
        for row, query in enumerate(queries[:40])
    ]
    (tmp_path / "data" / "groups.jsonl").write_text("\n".join(lines))
    return tmp_path


def reworded(path: Path) -> None:
    """Other content of as many bytes, under the same name and time."""
    stat = path.stat()
    text = path.read_text(encoding="utf-8")
    assert "the" in text
    path.write_text(text.replace("the", "hte"), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def reversed_lines(path: Path) -> None:
    """The same lines, the other way round."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, *reversed(lines)]) + "\n", encoding="utf-8")


def other_scores(path: Path) -> None:
    """Groups whose last negative is worth more."""
    path.write_text(path.read_text().replace("3.0, 1.0", "1.0, 3.0"))


def other_weights(folder: Path) -> None:
    """A decoder of the same shape, drawn anew."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    generator = np.random.default_rng(0)
    for name, array in weights.items():
        noise = generator.normal(scale=0.05, size=array.shape).astype(array.dtype)
        weights[name] = array + noise
    save_file(weights, path, metadata={"format": "pt"})


def other_tokenizer(folder: Path) -> None:
    """A tokenizer that keeps capitals apart."""
    path = folder / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["normalizer"] = None
    path.write_text(json.dumps(settings))


FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "the corpus": ("data/corpus.jsonl", reworded, "adapt"),
    "the queries": ("data/queries.jsonl", reworded, "train"),
    "the order of judgements": ("data/qrels/train.tsv", reversed_lines, "negatives"),
    "the training groups": ("data/groups.jsonl", other_scores, "negatives"),
    "the decoder's weights": ("decoder", other_weights, "adapt"),
    "the decoder's tokenizer": ("decoder", other_tokenizer, "adapt"),
    "the teacher's weights": ("teacher", other_weights, "teacher"),
    "the teacher's tokenizer": ("teacher", other_tokenizer, "teacher"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_with_other_content_under_the_same_name(
    small_cell: SmallCell, inputs: Path, what: str
) -> None:
    """It makes another cell, whose numbers are those of a cell that never knew the old content."""
    name, change, first = FILES[what]
    mined = what == "the order of judgements"  # which tell no order to given groups
    overrides = [
        *SPARSE,
        f"data.path={inputs / 'data'}",
        f"data.groups={'null' if mined else 'groups.jsonl'}",
        f"model.backbone={inputs / 'decoder'}",
        f"teacher.encoder={inputs / 'teacher'}",
        "teacher.encoder_weight=2.0",
        "teacher.bm25_weight=1.0",
    ]
    before = done(small_cell(*overrides, f"paths.root={inputs / 'root'}"))
    change(inputs / name)
    after = small_cell(*overrides, f"paths.root={inputs / 'root'}")
    assert before.id != after.id and not after.complete
    roles = before.stages.roles
    differing = [t for t, stage in after.stages.roles.items() if roles.get(t) != stage]
    assert first in differing
    fresh = done(small_cell(*overrides, f"paths.root={inputs / 'fresh'}"))
    assert fresh.id == after.id
    again = contents(done(after))
    assert all(same(again[key], content, rounded=False) for key, content in contents(fresh).items())
    assert not same(
        contents(before)[roles["train"].name],
        again[after.stages.train.name],
        rounded=False,
    )

"""Every command that README and docs show: run small, or composed where something is not here."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import doc_commands
import pytest
from commands import Command
from doc_commands import ROOT, Mode, Shown
from hydra import initialize_config_dir
from support import TINY, results, teacher_encoder

from lion_sweep import config as configuration
from lion_sweep.config.composing import compose_cells, swept
from lion_sweep.data import pydoc
from lion_sweep.data.collection import write

SMALL = ["budget=steps", "budget.steps=2", "evaluation.depth=20", "evaluation.permutations=9"]
SMALL += ["alarms=none"]  # of which a healthy training hears none, in more than two steps
CELL = re.compile(r"\b([\w.]+-\w+-\w+)-[0-9a-f]{12}\b")
PATIENCE_SECONDS = 300
# All others leave with 0.
STATUS = {"lion_sweep.diff": {0, 1}, "lion_sweep.report": {0, 3}, "lion_sweep.status": {0, 3}}
# These count whatever the command says.
ALWAYS = ("budget=", "budget.steps=", "loss.batch_size=", "recipe.adapt.", "tracking=")
SHOWN = doc_commands.distinct()


def of(mode: Mode) -> list[object]:
    """Parameters of a test: the commands of a mode, named by where they stand."""
    found = [shown for shown in SHOWN if shown.mode[0] is mode]
    return [pytest.param(shown, id=f"{shown.page}:{shown.line}") for shown in found]


def run(place: Path, shown: Shown, *more: str) -> tuple[int, str]:
    """(exit status, what it printed) of a command in a reader's folder."""
    env = dict(word.split("=", 1) for word in shown.env) | {"SLURM_CONF": "/dev/null"}
    if shown.module:
        # Forked off a process that has imported the libraries.
        command = Command(shown.module, *shown.words[3:], *more, env=env, cwd=place)
        command.wait(PATIENCE_SECONDS)
        return command.wait(), command.communicate()[0]
    words = [sys.executable, *shown.words[1:]]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def tiny(shown: Shown, collection: Path) -> list[str]:
    """Words that make a command that reads or trains small; of the last of a key Hydra hears."""
    trains = shown.module == "lion_sweep" and not {"--help", "--cfg"} & set(shown.words)
    if not trains and shown.module not in ("lion_sweep.plan", "lion_sweep.evaluate"):
        return []
    said = [word.lstrip("+").split("=")[0] for word in shown.words]
    words = [*TINY, f"data.path={collection}", *SMALL]
    if "recipe=lion" in shown.words:
        words += ["loss.negatives=1", "evaluation.passage_length=32"]
    if shown.module == "lion_sweep.evaluate":
        words = ["evaluation.depth=20", "evaluation.permutations=9"]
    keys = {word: word.split("=")[0] for word in words}
    taken = {word for word, key in keys.items() for own in said if f"{own}.".startswith(f"{key}.")}
    return [word for word in words if word not in taken or word.startswith(ALWAYS)]


def trim(folder: Path, topics: int = 12, paragraphs: int = 6) -> None:
    """Leave a little of the tutorial's folder: readers have minutes, tests have seconds."""
    queries = (folder / "queries.jsonl").read_text().splitlines()[:topics]
    left = {json.loads(line)["_id"] for line in queries}
    (folder / "queries.jsonl").write_text("\n".join(queries) + "\n")
    corpus = (folder / "corpus.jsonl").read_text().splitlines()
    known = {f"{topic}-{place}" for topic in left for place in range(paragraphs)}
    kept = [line for line in corpus if json.loads(line)["_id"] in known]
    (folder / "corpus.jsonl").write_text("\n".join(kept) + "\n")
    for path in (folder / "qrels").iterdir():
        head, *judged = path.read_text().splitlines()
        kept = [line for line in judged if line.split("\t")[1] in known]
        path.write_text("\n".join([head, *kept]) + "\n")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands are given that name no collection: 60 pairs of the embedded one."""
    pairs = pydoc.collect(["json", "logging", "email"])[:60]
    folder = tmp_path_factory.mktemp("beir")
    write(folder, {"train": pairs[:40], "test": pairs[40:]})
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, collection: Path) -> Path:
    """A reader's folder: the files that pages show, what they speak of, and some finished cells."""
    made = tmp_path_factory.mktemp("reader")
    for name, text in doc_commands.files().items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "tests").symlink_to(ROOT / "tests")
    (made / "my_conf" / "recipe").mkdir()
    own = (ROOT / "conf" / "recipe" / "proxy.yaml").read_text().replace("name: proxy", "name: mine")
    (made / "my_conf" / "recipe" / "mine.yaml").write_text(own)
    code, printed = run(made, Shown("", 0, (), ("python", "make_folder.py")))
    assert code == 0, printed
    trim(made / "my_folder")
    shutil.copytree(collection, made / "other_folder")
    teacher_encoder(made / "my_encoder", ["the", "of", "a", "statement", "return"])
    grid = ("python", "-m", "lion_sweep", "-m", "paradigm=dense,sparse", "seed=42,1")
    words = [*TINY, f"data.path={collection}", *SMALL]
    code, printed = run(made, Shown("", 0, (), grid), *words)
    assert code == 0, printed
    (dense, *_) = ids(made)["1b-dense-cl"]
    export = ("python", "-m", "lion_sweep.export", dense, "my_llama")
    code, printed = run(made, Shown("", 0, (), export))
    assert code == 0, printed
    shutil.copytree(made / "my_llama", made / "merged_model")
    return made


def ids(place: Path) -> dict[str, list[str]]:
    """Finished cells by what people call them."""
    found: dict[str, list[str]] = {}
    for name, result in sorted(results(place / "outputs").items()):
        if result["data"] == "twin":
            found.setdefault("-".join(result["axes"].values()), []).append(name)
    return found


def of_here(shown: Shown, place: Path) -> Shown:
    """The command with cells that are there in place of those that it names, and with the smallest
    of the sizes: the others take the same code and more time.
    """
    finished = ids(place)
    text = tuple(re.sub(r"^model=(1b,|3b|8b).*", "model=1b", word) for word in shown.words)
    names = dict.fromkeys(match[0] for word in text for match in CELL.finditer(word))
    counts: dict[str, int] = {}
    for name in names:
        label = CELL.fullmatch(name)[1]  # type: ignore[index]
        mine = finished[label][counts.setdefault(label, 0)]
        counts[label] += 1
        text = tuple(word.replace(name, mine) for word in text)
    if shown.module in ("lion_sweep.logs", "lion_sweep.cancel"):
        text = tuple(re.sub(r"^8b-sparse-cl$", finished["1b-sparse-cl"][0], word) for word in text)
    return Shown(shown.page, shown.line, shown.env, text)


@pytest.mark.parametrize("shown", of(Mode.run))
def test_it_runs(shown: Shown, place: Path, collection: Path) -> None:
    code, printed = run(place, of_here(shown, place), *tiny(shown, collection))
    assert code in STATUS.get(shown.module, {0}), f"{shown.text}\n{printed}"
    assert "Traceback" not in printed


@contextmanager
def options() -> Iterator[None]:
    """Hydra with the options that there are."""
    configuration.register()
    folder = str(configuration.config_folder())
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        yield


@pytest.mark.parametrize("shown", of(Mode.compose))
def test_its_cells_can_be_composed(shown: Shown) -> None:
    words = [word for word in shown.words[3:] if word != "-m"]
    sweeps = [word.partition("=")[2] for word in words if re.fullmatch(r"[\w.]+=[\w.,-]+", word)]
    with options():
        cells = swept(words)
        # What the file of a grid has more is Hydra's to compose: tests/config/test_hydra_ways.py.
        assert len(cells) == prod(len(values.split(",")) for values in sweeps)
        compose_cells([cells[0], cells[-1]])


@pytest.mark.parametrize("shown", of(Mode.rehearse))
def test_its_target_is_there(shown: Shown) -> None:
    python = [] if any(word.startswith("PYTHON=") for word in shown.words) else ["PYTHON=python3"]
    command = ["make", "-n", *python, *shown.words[1:]]  # which it would look for
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_is_tried_or_says_why_not() -> None:
    modes = {mode: of(mode) for mode in Mode}
    assert sum(map(len, modes.values())) == len(SHOWN) > 60
    for shown in SHOWN:
        mode, reason = shown.mode
        assert (mode is Mode.run) == (reason == "")
    for pattern in [*doc_commands.NEEDS, *doc_commands.LISTED]:
        assert any(re.search(pattern, shown.text) for shown in SHOWN), f"{pattern} is of none"
    assert len(modes[Mode.listed]) <= 7

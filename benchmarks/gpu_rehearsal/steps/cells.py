"""Stand-in cells end to end by the project's own command, in fp32 and bf16, on the embedded
collection; scores beside those of the CPU. One cell is killed in training and goes on: its weights
are those of the cell that was left alone, to the bit.

On a GPU commands of the grid run while the cell is killed, as none of them is timed.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.gpu_rehearsal.target import Case, Figure, Target

MEASURE = "nDCG@10"
ERROR_LINES = 6
COMMON = (
    "loss=cl",
    "teacher=bm25",
    "tracking=none",
    "budget=steps",
    "budget.tolerance=null",
    "recipe.checkpoint_every=1",  # soon enough for a kill
    "evaluation.permutations=99",
)
TINY = (
    "data.packages=[json,logging]",
    "loss.batch_size=8",
    "recipe.adapt.steps=2",
    "recipe.adapt.batch_size=2",
    "recipe.adapt.chunk=16",
)


def cases(target: Target) -> list[Case]:
    """One, as what the killed cell is compared with is a cell of the grid."""
    return [Case("cells", lambda: _measure(target), 6)]


def _measure(target: Target) -> Iterator[Figure]:
    own = "gpu" if target.device.cuda else "laptop"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not target.device.cuda:  # its kernels are then compiled once, not by each command
            _kill_and_go_on(folder / "killed", target, own)
        grids = {
            kind: _Command(folder / kind, _grid(target), own, kind) for kind in ("fp32", "bf16")
        }
        if target.device.cuda:
            grids["cpu"] = _Command(folder / "cpu", _grid(target), "laptop", "fp32")
        try:
            if target.device.cuda:
                _kill_and_go_on(folder / "killed", target, own)
            for command in grids.values():
                command.wait()
        finally:
            for command in grids.values():
                command.process.kill()  # does nothing to one that has ended
        yield from _weights(folder / "bf16", folder / "killed")
        yield from _scores({kind: _by_cell(command.root) for kind, command in grids.items()})


def _grid(target: Target) -> list[str]:
    models = target.pick("1b,3b,8b", "1b")
    return ["-m", f"model={models}", "paradigm=sparse,dense", *_small(target)]


def _small(target: Target) -> list[str]:
    return [f"budget.steps={target.pick(20, 10)}", *COMMON, *target.pick((), TINY)]


class _Command:
    """The project's command, started on a site, with what it prints in a file beside its folder."""

    def __init__(self, root: Path, words: list[str], site: str, precision: str) -> None:
        self.root, self.printed = root, root.with_suffix(".log")
        words = [*words, f"site={site}", f"recipe.precision={precision}", f"paths.root={root}"]
        with self.printed.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lion_sweep", *words], stdout=file, stderr=file
            )

    def wait(self) -> None:
        """Until it has ended well; raises `RuntimeError` with its last lines otherwise."""
        if self.process.wait():
            raise RuntimeError(f"{self.root.name}: {self.last_lines()}")

    def last_lines(self) -> str:
        """What it printed last."""
        return "\n".join(self.printed.read_text().strip().splitlines()[-ERROR_LINES:])


def _kill_and_go_on(root: Path, target: Target, site: str) -> None:
    cell = ["model=1b", "paradigm=sparse", *_small(target)]
    _kill_in_training(_Command(root, cell, site, "bf16"))
    _Command(root, cell, site, "bf16").wait()


def _kill_in_training(command: _Command) -> None:
    while not list(command.root.glob("stages/train-*.partial/checkpoint.pt")):
        if command.process.poll() is not None:
            raise RuntimeError(f"it ended before it could be killed: {command.last_lines()}")
        time.sleep(0.002)
    command.process.kill()
    command.process.wait()
    if list(command.root.glob("stages/train-*/done.json")):
        raise RuntimeError("training was over before the cell could be killed")


def _weights(whole: Path, killed: Path) -> Iterator[Figure]:
    """How many numbers differ, of adaptation and of training."""
    for stage, what in (("adapt", "adapted weights that differ"), ("train", "weights that differ")):
        (folder,) = killed.glob(f"stages/{stage}-*/weights")
        files = sorted(folder.rglob("*.safetensors"))
        if not files:
            raise RuntimeError(f"no weights in {folder}")
        yield Figure(
            f"killed and resumed, {what}", sum(_differing(file, killed, whole) for file in files)
        )


def _differing(file: Path, killed: Path, whole: Path) -> int:
    """Stages have the same name wherever they are."""
    found, expected = load_file(file), load_file(whole / file.relative_to(killed))
    return sum(int((found[name] != value).sum()) for name, value in expected.items())


def _scores(grids: dict[str, dict[str, float]]) -> Iterator[Figure]:
    """Every cell's score, and by how much it is at most away from that of fp32 on the CPU."""
    for kind, scores in grids.items():
        for cell, score in scores.items():
            yield Figure(f"{cell}, {kind}, {MEASURE}", score)
    expected = grids.get("cpu", grids["fp32"])
    for kind in ("fp32", "bf16"):
        apart = [abs(score - expected[cell]) for cell, score in grids[kind].items()]
        yield Figure(f"{MEASURE}, {kind}, most away from the CPU's fp32", max(apart))


def _by_cell(root: Path) -> dict[str, float]:
    """Scores of a grid."""
    results = [json.loads(path.read_text()) for path in sorted(root.glob("cells/*/result.json"))]
    return {
        f"{result['axes']['model']} {result['axes']['paradigm']}": result["scores"]["pydoc"][
            MEASURE
        ]
        for result in results
    }

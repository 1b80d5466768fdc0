"""Whatever a shell has set, whoever reads along and whoever interrupts: commands go on or end well.

Numbers are the configuration's alone.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ALWAYS, Command, run
from support import Shell, by_axes, wait_for

import lion_sweep
from lion_sweep.config import config_folder
from lion_sweep.machine import environment

CELL = ["paradigm=dense", "budget=steps", "budget.steps=3", "site=laptop"]
STRANGE = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "8",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DYNAMO_BACKEND": "EAGER",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "LOCAL_RANK": "1",
    "RANK": "1",
    "WORLD_SIZE": "2",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
}
SAID = "lion_sweep: interrupted: what is finished is kept, and the same command goes on from it."
TAKEN_OUT = sorted(set(STRANGE) - {"MPLBACKEND"})


@pytest.fixture(scope="module")
def cell(laptop: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a cell of three steps."""
    root = tmp_path_factory.mktemp("cell")
    code, printed = laptop.run(*CELL, f"paths.root={root}")
    assert code == 0, printed
    return root


def weights(root: Path) -> dict[str, bytes]:
    """What was trained below a folder of outputs, by the names of its files."""
    found = root.glob("stages/train-*/**/*.safetensors")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_no_variable_changes_a_number(laptop: Shell, cell: Path, tmp_path: Path) -> None:
    strange = Shell({**laptop.environment, **STRANGE}, laptop.collection)
    code, printed = strange.run(*CELL, f"paths.root={tmp_path}")
    assert code == 0, printed
    assert printed.count(", ".join(TAKEN_OUT)) == 1
    assert weights(tmp_path) == weights(cell) != {}
    one, other = by_axes(cell)["1b-dense-cl"], by_axes(tmp_path)["1b-dense-cl"]
    assert other["id"] == one["id"] and other["scores"] == one["scores"]
    home = {"HOME": str(tmp_path.parent)}
    words = f'paths.root="~/{tmp_path.name}"'  # as Hydra's words are quoted
    reported = run("lion_sweep.report", words, env=STRANGE | home)
    assert reported.returncode == 0, reported.stderr
    assert list(tmp_path.glob("reports/scaling/figures/*.png"))


def test_what_is_taken_out_and_what_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {"ACCELERATED": "1", "RANKS": "2", "SLURM_PROCID": "0", "NUMBA_CACHE_DIR": "mine"}
    monkeypatch.setattr(os, "environ", {**STRANGE, **kept})
    environment.settle()
    assert os.environ == {**kept, "MPLBACKEND": "agg"}
    assert capsys.readouterr().err.strip().endswith(f"cells are: {', '.join(TAKEN_OUT)}")
    environment.settle()
    assert capsys.readouterr().err == ""


def test_kernels_are_kept_where_this_user_may_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path / "home")})
    environment.settle()
    assert not set(environment.OF_THE_HOME) & set(os.environ)  # the home's will do
    os.environ["HOME"] = "/proc/nothing"
    environment.settle()
    own = tmp_path / f"lion_sweep-{os.getuid()}"
    assert {os.environ[name] for name in environment.OF_THE_HOME} == {str(own)}
    del os.environ["NUMBA_CACHE_DIR"]
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)  # somebody else could have put kernels there
    monkeypatch.setattr(environment.tempfile, "mkdtemp", lambda prefix: f"{prefix}new")
    environment.settle()
    assert os.environ["NUMBA_CACHE_DIR"] == "lion_sweep-new"


def test_a_package_and_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """Folders that kernels are kept in are files here, which even root cannot write into."""
    installed = tmp_path / "installed"
    shutil.copytree(
        Path(lion_sweep.__file__).parent,
        installed / "lion_sweep",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copytree(config_folder(), installed / "lion_sweep" / "conf")
    for folder in [path for path in installed.rglob("*") if path.is_dir()]:
        (folder / "__pycache__").touch()
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    env |= {**ALWAYS, "HOME": "/proc/nothing", "TMPDIR": str(tmp_path)}
    env |= {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"LION_SWEEP_TRACEBACK": "1"}  # which shows where it runs
    done = subprocess.run(
        [sys.executable, "-m", "lion_sweep.evaluate"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert str(installed / "lion_sweep" / "evaluate.py") in done.stderr
    assert done.stderr.splitlines()[-1].startswith("lion_sweep: checkpoint= is missing")


def test_whoever_imports_the_package_keeps_an_environment_as_it_is() -> None:
    asked = "import lion_sweep, os; print(os.environ['RANK'])"
    told = [sys.executable, "-c", asked]
    done = subprocess.run(told, env=os.environ | {"RANK": "3"}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("lion_sweep", ["--help"]),
        ("lion_sweep", ["--cfg", "job"]),
        ("lion_sweep.report", ["--root", "ROOT"]),
        ("lion_sweep.status", ["--root", "ROOT"]),
        ("lion_sweep.evaluate", ["checkpoint=CELL", "paths.root=ROOT"]),
        ("lion_sweep.plan", [*CELL, "paths.root=ROOT"]),
        ("lion_sweep", [*CELL, "paths.root=ROOT"]),
    ],
)
def test_whoever_reads_one_line_of_it_hears_no_more(
    laptop: Shell, cell: Path, module: str, words: list[str]
) -> None:
    """As with `| head -1`, when the reader has left before anything is written."""
    reads, writes = os.pipe()
    os.close(reads)
    (own,) = cell.glob("cells/*")
    words = [word.replace("ROOT", str(cell)).replace("CELL", own.name) for word in words]
    if "paths.root" in words[-1]:
        words = laptop.words(*words)
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ALWAYS, **laptop.environment},
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("kept", ["cells/*/log.txt", "stages/train-*.partial"])
def test_an_interruption_is_said_in_a_line(laptop: Shell, tmp_path: Path, kept: str) -> None:
    words = laptop.words("-m", "seed=1,2", "paradigm=dense", "budget=steps", "budget.steps=20000")
    given = Command(
        "lion_sweep", *words, f"paths.root={tmp_path}", env=laptop.environment, apart=True
    )
    wait_for(lambda: list(tmp_path.glob(kept)) or given.poll(), kept)
    os.kill(given.pid, signal.SIGINT)
    printed, said = given.communicate()
    assert given.wait() == 130
    assert said.strip() == SAID
    assert "FAILED" not in printed and "Traceback" not in printed
    rows = [row for row in laptop.status(tmp_path)[1] if row["kind"] == "cell"]
    assert sorted((row["state"], row["attempts"]) for row in rows) == [
        ("new", 0), ("new", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("module", ["lion_sweep", "lion_sweep.check", "lion_sweep.status"])
def test_so_is_one_while_libraries_are_imported(module: str, tmp_path: Path) -> None:
    """Even where what is imported makes another error of it."""
    slow = "try:\n os.kill(os.getpid(), 2)\n time.sleep(60)\nexcept BaseException:\n 1 / 0"
    (tmp_path / "hydra.py").write_text(f"import os, time\n{slow}\n")
    package = str(Path(lion_sweep.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, **ALWAYS, "PYTHONPATH": package},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 130 and done.stdout == ""
    assert done.stderr.strip() == SAID


@pytest.mark.parametrize("module", ["status", "logs", "cancel", "evaluate", "report", "plan"])
def test_commands_have_help_and_name_the_nearest_option(module: str, tmp_path: Path) -> None:
    shown = run(f"lion_sweep.{module}", "--help")
    assert shown.returncode == 0 and shown.stderr == ""
    assert ("usage:" in shown.stdout) == (module != "plan")
    wrong, right = {
        "status": ("--wach", "--watch"),
        "report": ("--colums=seed", "--columns"),
        "plan": ("--mutirun", "--multirun"),
    }.get(module, ("--rot=x", "--root"))
    refused = run(f"lion_sweep.{module}", wrong, cwd=tmp_path)
    assert refused.returncode == 2 and refused.stdout == ""
    said = f"lion_sweep: {wrong.partition('=')[0]} is no option: say {right}.\n"
    assert refused.stderr == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "lion_sweep: checkpoint= is missing: say checkpoint=FOLDER"),
        (["checkpoint=x", "data.name=a/b"], "lion_sweep: data.name is 'a/b', and files"),
        (
            ["checkpoint=x", "--format", "json"],
            "lion_sweep: --format is no option: say --help for those.",
        ),
    ],
)
def test_what_evaluate_refuses_at_once(tmp_path: Path, words: list[str], said: str) -> None:
    refused = run("lion_sweep.evaluate", *words, f"paths.root={tmp_path}")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith(said) and refused.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())

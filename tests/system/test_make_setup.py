"""`make setup` on machines that differ: which Python, which torch, and who installs it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FAKE = '#!/bin/sh\necho "$0 $*" >> "$(dirname "$0")/said"\n'
CPU_BUILD = "torch==2.13.0+cpu"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout, and in bin/ all that there is besides the usual tools."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("sh", "echo", "rm", "touch", "mkdir", "dirname", "cp", "uname", "make"):
        found = shutil.which(name)
        assert found, name
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def has(machine: Path, name: str, does: str) -> None:
    """Put a program there that writes down how it was called."""
    path = machine / "bin" / name
    path.write_text(FAKE + does)
    path.chmod(0o755)


def python(machine: Path, name: str, *, cpu_build: bool = False, works: bool = True) -> None:
    """A Python whose environments know that build of torch, or not; a shim may not work at all."""
    refused = "" if cpu_build else f'case "$*" in *{CPU_BUILD}*) exit 1;; esac\n'
    made = 'case "$*" in *venv*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac\n'
    has(machine, name, refused + made if works else "exit 127\n")


def setup(machine: Path, *words: str) -> tuple[int, str, list[str]]:
    """(exit status, what was printed, calls of programs)."""
    done = subprocess.run(
        ["make", "-s", "setup", *words],
        cwd=machine,
        env={"PATH": str(machine / "bin"), "HOME": os.environ.get("HOME", "/")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = [machine / "bin" / "said", machine / ".venv" / "bin" / "said"]
    calls = [line for path in said if path.exists() for line in path.read_text().splitlines()]
    return done.returncode, done.stdout, calls


def installed(calls: list[str]) -> list[str]:
    """Which torch was asked for, one after the other."""
    return [call.rsplit(" ", 1)[-1] for call in calls if "torch==" in call]


def test_the_newest_python_that_works_makes_the_environment(machine: Path) -> None:
    python(machine, "python3.13", works=False)
    python(machine, "python3.12", cpu_build=True)
    python(machine, "python3.11", cpu_build=True)
    status, said, calls = setup(machine)
    assert (status, said) == (0, "")
    assert [call.split("/")[-1] for call in calls if " -m venv " in call] == [
        "python3.12 -m venv --clear .venv"
    ]
    assert installed(calls) == [CPU_BUILD]
    assert (machine / ".venv" / "done").exists()


def test_the_plain_torch_is_taken_with_a_word_where_there_is_no_cpu_build(machine: Path) -> None:
    python(machine, "python3")  # of an age that the others' names do not say
    status, said, calls = setup(machine)
    assert status == 0 and installed(calls) == [CPU_BUILD, "torch==2.13.0"]
    assert said.startswith("torch with CUDA is taken, about 3 GB to download. For its CPU build")
    assert said.count("\n") == 1 and "PIP_EXTRA_INDEX_URL" in said


def test_cuda_is_asked_for_by_name(machine: Path) -> None:
    python(machine, "python3.11", cpu_build=True)
    status, said, calls = setup(machine, "CUDA=1")
    assert status == 0 and installed(calls) == ["torch==2.13.0"]
    assert said == "torch with CUDA is taken, about 3 GB to download.\n"


def test_uv_installs_where_it_is_and_finds_things(machine: Path) -> None:
    """It knows where CPU builds lie, and brings a Python where there is none."""
    python(machine, "own")
    make = 'case "$1" in venv) mkdir -p .venv/bin; cp bin/own .venv/bin/python;; esac\n'
    has(machine, "uv", make)
    status, said, calls = setup(machine)
    assert (status, said) == (0, "")
    asked = [call.split("/bin/uv ")[-1] for call in calls if "/bin/uv " in call]
    assert asked[0] == "venv --quiet --clear --seed --python 3.13 .venv"
    assert asked[2].endswith("--torch-backend cpu --constraint requirements.lock torch==2.13.0")
    assert [call for call in calls if " -m pip " in call and CPU_BUILD not in call] == []


def test_pip_installs_where_uv_finds_nothing(machine: Path) -> None:
    python(machine, "python3.13", cpu_build=True)
    make = "mkdir -p .venv/bin; cp bin/python3.13 .venv/bin/python"
    has(machine, "uv", f'case "$1" in venv) {make};; *) exit 1;; esac\n')
    status, said, calls = setup(machine)
    assert (status, said) == (0, "") and installed(calls) == [CPU_BUILD]
    assert any("--editable .[dev,lucene]" in call and "-m pip" in call for call in calls)


@pytest.mark.parametrize(
    ("words", "missing"),
    [([], "Python 3.11 to 3.13"), (["PYTHON=python3.12"], "python3.12")],
)
def test_a_machine_without_a_python_is_told_so(
    machine: Path, words: list[str], missing: str
) -> None:
    status, said, calls = setup(machine, *words)
    assert status == 2 and calls == []
    expected = f"{missing} is not on this machine: install it, or uv, which brings its own"
    assert said.splitlines()[0] == expected

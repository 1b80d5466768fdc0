"""Commands of the package, each in a process forked off one that has imported their libraries.

Importing those takes seconds, and the tests run two hundred commands. What is forked has imported
nothing of the package, and has an environment, a folder, output and signals of its own: it is
`python -m MODULE WORDS` but for the time that libraries take.
"""

import atexit
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import NoReturn
from unittest.mock import patch

FORKS = multiprocessing.get_context("forkserver")
LIBRARIES = [
    "accelerate",
    "datasets",
    "hydra",
    "numba",
    "pandas",
    "peft",
    "ranx",
    "scipy.sparse",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.llama.modeling_llama",
    "wordllama",
]
# Threads of several tests at once would wait for each other; no test needs the network.
ALWAYS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
HERE = str(Path(__file__).parent)
PATIENCE_SECONDS = 600


def serve() -> None:
    """Start the process that others are forked off, unless it is there."""
    FORKS.set_forkserver_preload(LIBRARIES)
    with patch.dict(os.environ, ALWAYS):  # libraries read them as they are imported
        multiprocessing.forkserver.ensure_running()


def spread(work: Callable[..., None], ranks: int, *args: object) -> None:
    """Have ranks 0, 1, ... do `work(rank, *args)`, each in a process of its own."""
    from torch.multiprocessing import start_processes

    serve()
    start_processes(work, args, nprocs=ranks, start_method="forkserver")


def run(
    module: str, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "CompletedProcess[str]":
    """`python -m MODULE WORDS`, to its end."""
    command = Command(module, *words, env=env, cwd=cwd, apart=True)
    out, err = command.communicate()
    return CompletedProcess([module, *words], command.wait(), out, err)


class Command:
    """A started command, with what tests use of `subprocess.Popen`; it leads its own session."""

    def __init__(
        self,
        module: str,
        *words: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        apart: bool = False,
    ) -> None:
        """`env` is added to this process's own; `apart` keeps stderr out of what it printed."""
        serve()
        self._folder = tempfile.TemporaryDirectory()
        out, err = (Path(self._folder.name) / name for name in ("out", "err" if apart else "out"))
        environment = {**os.environ, **ALWAYS, **(env or {})}
        given = (module, words, environment, str(cwd or Path.cwd()), str(out), str(err))
        self._out, self._err = out, err
        self._process = FORKS.Process(target=_become, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As `subprocess` has it: negative where a signal ended it, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def kill(self) -> None:
        """With SIGKILL."""
        self._process.kill()

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """The exit status."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired(str(self._process), timeout, self._out.read_bytes())
        return self.returncode

    def communicate(self, timeout: float = PATIENCE_SECONDS) -> tuple[str, str]:
        """What the finished command printed: stdout (with stderr, unless apart), stderr."""
        self.wait(timeout)
        return self._out.read_text(), self._err.read_text()


def _become(
    module: str, words: tuple[str, ...], env: dict[str, str], cwd: str, out: str, err: str
) -> NoReturn:
    """Turn this process into `python -m MODULE WORDS`."""
    os.setsid()
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server lets it be
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    told = env.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [cwd, *filter(None, told), *(path for path in sys.path if path not in (HERE, ""))]
    sys.argv, sys.orig_argv = [module, *words], [sys.executable, "-m", module, *words]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

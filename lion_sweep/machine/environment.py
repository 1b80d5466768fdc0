"""What the environment must not decide: settled before any library reads it.

Libraries take settings from variables that somebody has set for another program. Those that would
change a number, or have this process wait for ranks that are not there, are taken out; a job tells
its ranks who they are after this. Kernels need a folder to be kept in, and figures no window. And
somebody may have enough of it while libraries are still being imported.
"""

import os
import signal
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

INTERRUPTED = 130  # exit status, as shells have it: 128 and the signal's number

# accelerate takes steps together, rounds and shards as these say; TF32 drops 13 bits of a product.
FOREIGN = (
    "ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "FORK_LAUNCHED",
    "TORCH_ALLOW_TF32_", "NVIDIA_TF32_",
    # Who this rank is, by torchrun and MPI.
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip
# What libraries write on their way, below the user's folder unless told otherwise.
OF_THE_HOME = ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "IR_DATASETS_HOME", "WANDB_CACHE_DIR")


def is_command(words: list[str]) -> bool:
    """Whether a process that was started by these words is `python -m lion_sweep`, or `.status`."""
    modules = (module for flag, module in pairwise(words) if flag == "-m")
    return any(module.partition(".")[0] == "lion_sweep" for module in modules)


def settle() -> None:
    """Take out what is not for this package, and say so; give kernels and figures a place."""
    found = [name for name in sorted(os.environ) if _is_foreign(name)]
    for name in found:
        del os.environ[name]
    if found:
        said = "not read, as configuration alone decides what cells are:"
        print(f"lion_sweep: {said} {', '.join(found)}", file=sys.stderr, flush=True)
    os.environ["MPLBACKEND"] = "agg"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111, as Path's own raises where there is none
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    if not (_writable(home) and _writable(cache)):
        own = _own_folder()
        for name in OF_THE_HOME:
            os.environ.setdefault(name, own)


def say_interrupted() -> None:
    """In a line, to whoever has interrupted a command."""
    said = "interrupted: what is finished is kept, and the same command goes on from it."
    print(f"\nlion_sweep: {said}", file=sys.stderr, flush=True)


def leave(*_: object) -> NoReturn:
    """Answer Ctrl-C at once: libraries that are being imported may make other errors of it."""
    say_interrupted()
    os._exit(INTERRUPTED)


def answer(handler: Any, instead: Any) -> None:
    """Have Ctrl-C answered by `handler`, unless it is answered by something but `instead`."""
    if signal.getsignal(signal.SIGINT) is instead:
        signal.signal(signal.SIGINT, handler)


def _is_foreign(name: str) -> bool:
    return any(name.startswith(own) if own.endswith("_") else name == own for own in FOREIGN)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _own_folder() -> str:
    """The same one in every process of this user, which nobody else can put kernels into."""
    folder = Path(tempfile.gettempdir()) / f"lion_sweep-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        held = folder.lstat()
        if held.st_uid == os.getuid() and not held.st_mode & 0o077 and not folder.is_symlink():
            return str(folder)
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="lion_sweep-")

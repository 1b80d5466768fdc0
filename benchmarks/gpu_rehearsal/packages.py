"""What the rehearsal imports, itself or through others, and where it comes from on a bare machine.

Such a machine has Python 3.12, torch 2.11 for CUDA 13, triton 3.6 and transformers 5.17, and no
network. `BROUGHT` are distributions that it has; `CARRIED` travel as wheels, 31 MB in all, in the
versions of requirements.lock:

    python -m pip download --no-deps --only-binary=:all: --python-version 3.12 \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 -d .whl NAME==VERSION
    python -m pip wheel --no-deps -w .whl antlr4-python3-runtime==4.9.3    # which has no wheel

There: `pip install --no-index --no-deps --target /tmp/site .whl/*.whl`, and PYTHONPATH=/tmp/site.
A test runs the rehearsal with nothing but these.
"""

import importlib.util
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

BROUGHT = """\
accelerate anyio attrs certifi charset-normalizer click cloudpickle contourpy cycler filelock
fonttools fsspec h11 hf-xet httpcore httpx huggingface-hub idna iniconfig jinja2 joblib kiwisolver
llvmlite lxml markdown-it-py markupsafe matplotlib mdurl mpmath networkx numba numpy packaging
pandas peft pillow pip pluggy psutil pyarrow pygments pyparsing pytest python-dateutil pyyaml regex
requests rich safetensors scikit-learn scipy seaborn setuptools shellingham sympy tabulate
threadpoolctl tokenizers torch tqdm transformers triton typer typing-extensions urllib3
"""
CARRIED = """\
annotated-types antlr4-python3-runtime cbor2 cramjam datasets dill fastparquet hydra-core
ir-datasets lz4 multiprocess omegaconf orjson pydantic pydantic-core pystemmer ranx submitit toml
typing-inspection wordllama xxhash
"""
# Versions there, which the bounds of pyproject.toml have to allow.
PYTHON = "3.12.3"
THERE = {
    "accelerate": "1.15.0",
    "numpy": "2.5.2",
    "tokenizers": "0.23.2",
    "torch": "2.11.0",
    "transformers": "5.17.0",
}
# Modules that every step imports.
EVERY = ("numpy", "torch", "transformers", "peft", "accelerate", "psutil", "omegaconf", "hydra")
SHOWN = ("torch", "triton", "transformers", "accelerate", "peft", "numpy", "numba")


def missing(modules: Iterable[str]) -> list[str]:
    """Those of the modules that cannot be found."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def versions() -> dict[str, str]:
    """Of Python and of what figures depend on."""
    found = {"python": platform.python_version()}
    for name in SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

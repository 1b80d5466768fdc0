"""The sparse head's Triton kernels: on CUDA, or in Triton's interpreter.

They are tested in a process of their own, as Triton asks once, when it is imported, whether to
interpret, and no other test should find it interpreting.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lion_sweep.models import sparse_head

CASES = Path(__file__).with_name("sparse_head_triton_cases.py")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed",
)


def test_kernels(tmp_path: Path) -> None:
    interpreter = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            str(CASES),
            f"--basetemp={tmp_path}",
            "-p",
            "no:cacheprovider",
        ],
        env=os.environ | interpreter,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_cuda_has_these_kernels() -> None:
    kernels = sparse_head.kernels_of(torch.device("cuda", 0))
    assert kernels.__name__ == "lion_sweep.models.sparse_head_triton"

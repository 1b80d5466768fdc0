"""What one test leaves in its process is no later one's: here accelerate's precision."""

import pytest
from accelerate import Accelerator


@pytest.mark.parametrize("precision", ["bf16", "no", "bf16"])
def test_a_test_finds_no_precision_of_an_earlier_one(precision: str) -> None:
    assert Accelerator(cpu=True, mixed_precision=precision).mixed_precision == precision

"""Which tokenizers share a token cache, and what planning from a warm one needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import UserError
from lion_sweep.machine.digests import Digests
from lion_sweep.models.proxy import train_tokenizer


def saved(folder: Path, text: str) -> str:
    """A folder with a tokenizer trained on `text`."""
    train_tokenizer([text]).save_pretrained(folder)
    return str(folder)


def key(source: str, offline: bool = False) -> object:
    """What a tokenizer is known by."""
    return Pretrained.tokenizer(source, Digests(Path(source) / "digests"), offline=offline).identity


def test_equal_tokenizers_have_one_key_and_others_another(tmp_path: Path) -> None:
    one = saved(tmp_path / "one", "lions roar where lions roam")
    same = saved(tmp_path / "same", "lions roar where lions roam")
    other = saved(tmp_path / "other", "whales sing where whales swim")
    assert key(one) == key(same) != key(other)


def test_a_tokenizer_that_is_not_here_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        key("nobody/has-this-one", offline=True)


def test_the_key_needs_no_tokenizer(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one", "lions roar")
    code = (
        "import sys; from pathlib import Path; from lion_sweep.data.pretrained import Pretrained; "
        "from lion_sweep.machine.digests import Digests; "
        f"Pretrained.tokenizer({folder!r}, Digests(Path({str(tmp_path)!r}))); "
        "print('transformers.tokenization_utils_base' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_tokens_without_a_row_in_the_embeddings_are_refused() -> None:
    found = Tokens(np.array([1, 7, 3], dtype=np.int32), np.array([0, 2, 3]))
    found.check_within(8, "mine")
    with pytest.raises(UserError, match=r"mine: its tokenizer makes token 7, .* only 7 rows"):
        found.check_within(7, "mine")
    Tokens(np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int64)).check_within(7, "mine")

"""Which tokenizers share a token cache, and what planning from a warm one needs."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import listed
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from lion_sweep.data import tokens
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.tokens import Frame, Tokens
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


TEXTS = ["", "lions", "lions roar where lions roam and whales sing where whales swim " * 2]


@pytest.mark.parametrize(
    ("template", "ends"),
    [("$A", 0), ("<pad> $A", 0), ("$A <mask>", 1), ("<pad> $A <pad> <mask>", 2)],
)
def test_a_cut_text_is_what_its_tokenizer_makes_at_that_length(
    tmp_path: Path, template: str, ends: int
) -> None:
    """Of a cache that is longer, cut itself or not; so are all texts one after the other."""
    tokenizer = train_tokenizer(["lions roar where lions roam"])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<pad>", 0), ("<mask>", 1)]
    )
    for length in (16, 200):
        folder = tmp_path / str(length)
        folder.mkdir()
        total = tokens.write(folder, listed(*TEXTS), tokenizer, length)
        found = tokens.read(folder)
        assert found.ends == ends and total == len(found.ids_T)
        for cut in (5, 7, 16):
            own = tokenizer(TEXTS, truncation=True, max_length=cut)["input_ids"]
            expected = [ids or [tokenizer.pad_token_id] for ids in own]
            assert [found.text(row, cut).tolist() for row in range(3)] == expected
            assert found.joined(cut).tolist() == [one for ids in expected for one in ids]
            assert found.lengths(cut).tolist() == [len(ids) for ids in expected]
            assert found.subset([2, 0]).text(0, cut).tolist() == expected[2]


BOS, EOS, PAD = 0, 1, 2


def reader(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of decoders: <s> and </s> around a text, or one of them, or neither."""
    words = {word: number for number, word in enumerate(["<s>", "</s>", "<p>", "?", *"abcdefgq:"])}
    tokenizer = Tokenizer(models.WordLevel(words, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    around = [("<s>", BOS), ("</s>", EOS)]
    tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=around)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<p>"
    )


A, B, C, D, Q, COLON = 4, 5, 6, 7, 11, 12
FORMS: dict[str, tuple[str, Frame, list[int], list[int]]] = {
    # template, frame, what becomes of "a b c d" at 16 tokens, and at 5
    "BOS": ("<s> $A", Frame(), [BOS, A, B, C, D], [BOS, A, B, C, D]),
    "EOS is appended": (
        "<s> $A",
        Frame(eos=True),
        [BOS, A, B, C, D, EOS],
        [BOS, A, B, C, EOS],
    ),
    "and not twice": (
        "<s> $A </s>",
        Frame(eos=True),
        [BOS, A, B, C, D, EOS],
        [BOS, A, B, C, EOS],
    ),
    "no special tokens": ("<s> $A </s>", Frame(special=False), [A, B, C, D], [A, B, C, D]),
    "EOS alone": (
        "<s> $A </s>",
        Frame(special=False, eos=True),
        [A, B, C, D, EOS],
        [A, B, C, D, EOS],
    ),
    "with a prompt": (
        "<s> $A",
        Frame("q : ", eos=True),
        [BOS, Q, COLON, A, B, C, D, EOS],
        [BOS, Q, COLON, A, EOS],
    ),
}
TWICE = {
    "BOS": ([BOS, A, B, C, D, A, B, C, D], [BOS, A, B, A, B]),
    "EOS is appended": ([BOS, A, B, C, D, A, B, C, D, EOS], [BOS, A, A, EOS]),
    "no special tokens": ([A, B, C, D, A, B, C, D], [A, B, A, B]),
    "with a prompt": (
        [BOS, Q, COLON, A, B, C, D, Q, COLON, A, B, C, D, EOS],
        [BOS, Q, Q, EOS],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_stands_around_a_text(tmp_path: Path, name: str) -> None:
    """From a cache of its own length and from a longer one; once, and given twice."""
    template, frame, whole, cut = FORMS[name]
    tokenizer, written = reader(template), ["a b c d", "", "b"]
    tokens.write(tmp_path, listed(*written), tokenizer, 16, frame)
    for found in (tokens.read(tmp_path), tokens.of(written, tokenizer, 16, frame)):
        assert found.text(0, 16).tolist() == whole
        assert (
            found.text(0, 5).tolist()
            == cut
            == tokens.of(written, tokenizer, 5, frame).text(0, 5).tolist()
        )
        for echo in (False, True):
            twice = replace(found, echo=echo)
            for length in (5, 6, 16):
                made = [twice.text(row, length) for row in range(3)]
                assert [len(text) for text in made] == twice.lengths(length).tolist()
                assert max(map(len, made)) <= length
                assert twice.joined(length).tolist() == np.concatenate(made).tolist()
                assert twice.subset([2, 0]).text(1, length).tolist() == made[0].tolist()
        if name in TWICE:
            twice = tokens.read(tmp_path, echo=True)
            assert (twice.text(0, 16).tolist(), twice.text(0, 5).tolist()) == TWICE[name]


def test_without_an_end_token_none_can_be_put(tmp_path: Path) -> None:
    tokenizer = reader("$A")
    tokenizer.eos_token = None
    with pytest.raises(UserError, match=r"no end-of-sequence token to put .*append_eos=false"):
        tokens.write(tmp_path, listed(*TEXTS), tokenizer, 8, Frame(eos=True))


def test_texts_begin_as_the_decoder_says() -> None:
    found = tokens.of(["a b"], reader("<s> $A"), 8)
    found.check_begin(BOS, "mine")
    with pytest.raises(UserError, match=r"mine: .* begins texts with the tokens \[0\].*=7, by"):
        found.check_begin(7, "mine")
    tokens.of(["a b"], reader("$A"), 8).check_begin(7, "mine")


def test_a_tokenizer_that_keeps_the_end_of_a_text_is_refused(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["lions roar"])
    tokenizer.truncation_side = "left"
    with pytest.raises(UserError, match=r'on the left, .* set "truncation_side": "right"'):
        tokens.write(tmp_path, listed(*TEXTS), tokenizer, 8)


class Slow(PreTrainedTokenizer):
    """One in plain Python: words by their length, each text ended by token 9."""

    vocab_size = 10

    def get_vocab(self) -> dict[str, int]:
        return {str(token): token for token in range(10)}

    def _tokenize(self, text: str, **_: object) -> list[str]:
        return [str(len(word)) for word in text.split()]

    def _convert_token_to_id(self, token: str) -> int:
        return int(token)

    def _convert_id_to_token(self, index: int) -> str:
        return str(index)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return [*token_ids_0, 9]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return 1


@pytest.mark.parametrize("slow", [True, False])
def test_tokens_are_those_of_the_tokenizer_with_the_prompt(tmp_path: Path, slow: bool) -> None:
    """In batches of two and a last one of one; without token types, masks and lengths."""
    tokenizer = Slow() if slow else train_tokenizer(TEXTS)
    written = [*TEXTS, "whales", "", "roam lions roam"]
    done = []
    expected = tokenizer(["q: " + text for text in written], truncation=True, max_length=6)
    assert slow or tokenizer.is_fast
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tokens, "AT_ONCE", 2)
        total = tokens.write(
            tmp_path, listed(*written), tokenizer, 6, Frame("q: "), lambda *told: done.append(told)
        )
    found = tokens.read(tmp_path)
    assert [found.text(row, 6).tolist() for row in range(len(written))] == expected["input_ids"]
    assert total == sum(map(len, expected["input_ids"])) == len(found.ids_T)
    assert done == [(2, 6), (4, 6), (6, 6)]


KILLED = """
import os, signal, sys
from pathlib import Path
from support import listed
from lion_sweep.data import tokens
from lion_sweep.models.proxy import train_tokenizer

def kill(done, total):
    if done > 40:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    tokens.AT_ONCE = 8
    texts = [f"lions roar {number} times" for number in range(100)]
    tokens.write(Path(sys.argv[1]), listed(*texts), train_tokenizer(texts), 8, tokens.PLAIN, kill)
"""


def test_a_killed_cache_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    again, whole = tmp_path / "again", tmp_path / "whole"
    again.mkdir()
    whole.mkdir()
    (tmp_path / "killed.py").write_text(KILLED)
    words = [sys.executable, tmp_path / "killed.py", again]
    died = subprocess.run(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert died.returncode == -signal.SIGKILL
    with (again / "ids.npy").open("ab") as file:  # killed after tokens and before their counts
        file.write(b"tokens")
    texts = [f"lions roar {number} times" for number in range(100)]
    tokenizer, done = train_tokenizer(texts), []
    for folder in (again, again, whole):
        tokens.write(
            folder, listed(*texts), tokenizer, 8, tokens.PLAIN, lambda *n: done.append(n[0])
        )
    assert done == [100, 100]
    files = ("ids.npy", "count.npy", "around.npy")
    assert [(again / name).read_bytes() for name in files] == [
        (whole / name).read_bytes() for name in files
    ]
    assert len(tokens.read(again)) == 100

"""What weights of other origin are meant for: what a text becomes before them, and a vector after.

Our own say so in a file beside them (lion_sweep.json). Of others it is the options of a paradigm:
the one that the user names, or that is known of adapters that many have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.config import Attention, Config, TextForm
from lion_sweep.config.paradigm import TokensOf
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.stages.weights import MEANT_FOR

Lengths = tuple[int, int]  # tokens of a query and of a passage

# Classes that the study's adapters name in their files, and what they were trained for.
STUDY_CLASSES = {"LlamaBiForMNTP": "sparse", "LlamaBiModel": "dense"}
# Adapters whose files do not tell, by their ids: paradigm, and the lengths they were trained with.
# RepLLaMA's code cuts a text 3 tokens before 32 and 196, then puts one at either end.
KNOWN: dict[str, tuple[str, Lengths]] = {
    "castorini/repllama-v1-7b-lora-passage": ("repllama", (31, 195)),
}


@dataclass(frozen=True)
class Meant:
    """How to read texts with some weights."""

    paradigm: str
    encoder: Mapping[str, Any]
    attention: Attention
    text: TextForm
    tokens: TokensOf
    lengths: Lengths | None  # where they say so

    @classmethod
    def of(cls, name: str, config: Config, paradigm: str | None) -> "Meant":
        """`paradigm` is what the user says, if anything, `config` the options that it has.

        Raises `UserError` where nobody says the paradigm.
        """
        path = Path(name).expanduser() / MEANT_FOR
        if path.is_file():
            return cls._told(read_json(path))
        known, lengths = KNOWN.get(name, (None, None))
        told = known or paradigm
        if told is None:
            raise UserError(
                f"{name} does not say what its vectors are: add paradigm=sparse or paradigm=dense."
            )
        chosen = config.paradigm
        form = chosen.attention, chosen.text, chosen.tokens
        return cls(told, chosen.encoder, *form, lengths)

    @classmethod
    def _told(cls, told: Mapping[str, Any]) -> "Meant":
        lengths = (told["query_length"], told["passage_length"]) if "query_length" in told else None
        attention = Attention[told.get("attention", Attention.bidirectional.name)]
        text, tokens = TextForm(**told.get("text", {})), TokensOf(**told.get("tokens", {}))
        return cls(told["paradigm"], told["encoder"], attention, text, tokens, lengths)

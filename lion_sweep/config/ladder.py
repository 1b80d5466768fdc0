"""What 1b, 3b and 8b stand for, and what has to be said wherever their numbers are shown."""

from dataclasses import dataclass
from enum import StrEnum

LadderName = StrEnum("LadderName", ["proxy", "full", "cut"])


@dataclass(frozen=True)
class Caveat:
    """Of models that are not what their sizes are named after."""

    word: str  # as titles begin
    what: str  # they are, in full
    models: str  # they are called in a sentence
    one: str  # of them is, on its card

    @property
    def title(self) -> str:
        """What stands before the titles of figures."""
        return f"{self.word} ladder"

    @property
    def short(self) -> str:
        """For the names of dashboards."""
        return f"{self.word}: {self.models}"

    @property
    def label(self) -> str:
        """What stands above tables."""
        return f"{self.word} LADDER: {self._said('These')}"

    @property
    def warning(self) -> str:
        """What a command says of its cells."""
        return f"{self.title}: {self._said('Their')}"

    def _said(self, whose: str) -> str:
        return f"{self.what}. {whose} numbers say nothing about models of the real sizes."

    @property
    def limit(self) -> str:
        """Among what results do not say."""
        return f"Nothing about models of the real sizes: these are {self.models} ({self.word})."

    @property
    def verdict(self) -> str:
        """What a verdict is of."""
        return f"of {self.models}"

    @property
    def card(self) -> str:
        """What stands on a model's card."""
        return f"**{self.word}: {self.one}; says nothing of models of the real sizes.**"


CAVEATS = {
    "proxy": Caveat(
        "PROXY",
        "shrunken stand-ins trained on a laptop budget",
        "stand-ins",
        "a shrunken stand-in",
    ),
    "cut": Caveat(
        "CUT",
        "SmolLM2-135M cut after 6, 12 and 30 layers, where cells name no other cut; not a family "
        "of pretrained models",
        "cuts of one pretrained model",
        "a pretrained model cut after some of its layers",
    ),
}
"""By ladder; one that is not here has the models that its sizes are named after."""

LABELS = {name: caveat.label for name, caveat in CAVEATS.items()} | {
    "full": "FULL LADDER: models of the real sizes."
}

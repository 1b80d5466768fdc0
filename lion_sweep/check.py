"""`python -m lion_sweep.check data=... [checkpoint=...]`: read everything, and train nothing.

What the same overrides would have a grid read is read to its end: texts, judgements, training
groups, tokenizer, weights, teacher; with checkpoint= (and base=) that too. What was found is said,
and at the end everything that is wrong, not only the first of it. Leaves with 0 where nothing is.
"""

import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from lion_sweep import command
from lion_sweep.config import Config, TextForm, changed
from lion_sweep.config.data import Data, DataKind, EvaluationSet
from lion_sweep.config.site import SiteName
from lion_sweep.data import forms, given
from lion_sweep.data.collection import Collection
from lion_sweep.data.places import Hub, place
from lion_sweep.data.texts import Texts
from lion_sweep.data.tokens import of as tokens_of
from lion_sweep.errors import PLAIN
from lion_sweep.interop import checkpoints
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.site import check_output, settle
from lion_sweep.models.backbone import Backbone
from lion_sweep.stages.contract import PASSAGES, QUERIES, frame_of
from lion_sweep.stages.of_cell import CellStages, stages_of
from lion_sweep.stages.texts import collection, evaluation_sets, tokenizer_of
from lion_sweep.stages.validation import validate
from lion_sweep.stages.workshop import Workshop

OWN = ("checkpoint", "base")
NOTHING_WRONG, WRONG = 0, 2  # exit status
HALF = torch.bfloat16  # is enough to be looked at
UNCUT = 1 << 20  # tokens
SAMPLE, SHOWN, LONG = 1000, 20, 90  # texts looked at, faults told of a file, characters told
Found = TypeVar("Found")
Read = Callable[[str, str], Any]  # of a line, and where it stands


def main(words: list[str]) -> int:
    """The exit status."""
    made = command.parser("check", __doc__)
    made.add_argument("words", nargs="*", metavar="KEY=VALUE", help="of the grid, and see above")
    asked = command.parse(made, words)
    own = {key: value for key, _, value in (w.partition("=") for w in asked.words) if key in OWN}
    overrides = [word for word in asked.words if word.partition("=")[0] not in OWN]
    config = command.composed([f"paths.root={asked.root}", *overrides])
    check_output(Path(config.paths.root))
    checked = Check(settle(config, SiteName.laptop))
    checked.tried(validate, config)
    checked.collections()
    checked.tried(checked.decoder)
    if not checked.faults and (stages := checked.tried(stages_of, checked.config, checked.shop)):
        checked.models(stages)
    if "checkpoint" in own:
        said = [word.partition("=")[2] for word in overrides if word.startswith("paradigm=")]
        checked.tried(checked.checkpoint, own["checkpoint"], own.get("base"), *said[-1:])
    if not checked.faults:
        print("nothing is wrong")
        return NOTHING_WRONG
    print("\n".join([f"wrong ({len(checked.faults)}):", *checked.faults]))
    return WRONG


class Check:
    """What was wrong until now, while looking goes on."""

    def __init__(self, config: Config) -> None:
        self.config, self.faults = config, list[str]()
        how = Execution.of(config, SiteName.laptop)
        self.shop = Workshop(Path(config.paths.root), Progress("check", None), how)

    def tried(self, what: Callable[..., Found], *of: Any) -> Found | None:
        """What it returns; None where it is refused, which is kept."""
        try:
            return what(*of)
        except PLAIN as error:
            if str(error) not in self.faults:
                self.faults.append(str(error))
            return None

    def collections(self) -> None:
        """What cells train on and are scored on."""
        data = self.config.data
        if data.kind is DataKind.pydoc:
            alone = changed(self.config, {"evaluation.sets": {}})
            for source, _ in (self.tried(evaluation_sets, alone, self.shop) or {}).values():
                describe(source.read(self.shop))
        elif data.path:
            splits = dict.fromkeys([data.train_split, data.test_split])
            self._collection(data.name, data, data.path, tuple(splits))
            if data.groups:
                self.tried(self._lines, data.path, data.groups, _group)
        for name, chosen in self.config.evaluation.sets.items():
            self._collection(name, chosen, chosen.path, (chosen.split,))

    def _collection(
        self, name: str, layout: Data | EvaluationSet, path: str, splits: tuple[str, ...]
    ) -> None:
        """Its files line by line, then all of it as cells read it."""
        queries = [layout.queries.format(split=split) for split in splits]
        for file in dict.fromkeys([layout.corpus, *queries]):
            self.tried(self._lines, path, file, _text)
        for split in splits:
            self.tried(self._lines, path, layout.qrels.format(split=split), _judgement)
        source = self.tried(collection, self.shop, name, layout, path, splits)
        if source and (found := self.tried(source.read, self.shop)):
            describe(found)

    def _lines(self, path: str, name: str, read: Read) -> None:
        """Every line of a file of JSON for itself; of columns, the first fault is told later."""
        where, before = place(path), len(self.faults)
        if isinstance(where, Hub) or where.form(name) != "jsonl":
            return
        for at, line in where.lines(name):
            self.tried(read, line, at)
        told = before + SHOWN
        if more := len(self.faults[told:]):
            self.faults[told:] = [f"{where.where(name)}: {more:,} more lines like these."]

    def models(self, stages: CellStages) -> None:
        """Training groups that were given, tokens and the teacher."""
        config, decoder = self.config, stages.blueprint
        if config.data.groups and (done := self.tried(self.shop.run, stages.groups)):
            print(f"training groups: {done.facts['pairs']:,}")
        if tokenizer := self.tried(tokenizer_of, decoder.tokenizer, self.shop):
            for name, (source, _) in stages.sets.items():
                texts = source.read(self.shop)
                query_length, passage_length = config.evaluation.lengths_of(name)
                text = config.paradigm.text
                queries = _tokens(tokenizer, texts.queries, query_length, text, QUERIES)
                passages = _tokens(tokenizer, texts.documents, passage_length, text, PASSAGES)
                print(f"tokens of {name}, queries: {queries}\n  passages: {passages}")
        for weighted in stages.teacher.scorers if stages.teacher else ():
            if weights := self.tried(weighted.scorer.load):
                print(f"teacher: {weights}, whole")

    def decoder(self) -> None:
        """Its weights, whole; stand-ins and packages are made or unpacked when a cell runs."""
        source = self.config.decoder
        if not source or source.startswith("package:"):
            return
        folder, sees = Path(source).expanduser(), self.config.paradigm.attention
        backbone = Backbone.load(folder if folder.is_dir() else source, HALF, attention=sees)
        count = sum(parameter.numel() for parameter in backbone.parameters())
        print(f"decoder: {source}, {count:,} parameters")
        adapt = self.config.recipe.adapt
        if self.config.paradigm.made_by.over_vocabulary or adapt.steps or adapt.centre:
            _ = backbone.head_VD  # raises where nobody may read it

    def checkpoint(self, name: str, base: str | None, paradigm: str | None = None) -> None:
        """Its weights, whole; `paradigm` is what the user says it is, if anything."""
        found = checkpoints.find(name, base, self.config, paradigm)
        found.make(torch.float32)
        print(f"checkpoint: {found.name}, {found.kind}, {found.paradigm}")


def _text(line: str, at: str) -> forms.Text:
    return forms.text_of(forms.record_of(line, at), at)


def _judgement(line: str, at: str) -> forms.Judgement:
    return forms.judgement_of(forms.record_of(line, at), at)


def _group(line: str, at: str) -> list[given.Group]:
    return list(given.groups_in(forms.record_of(line, at), at))


def describe(found: Collection) -> None:
    """Print what a collection holds: sizes, scripts, lengths, oddities, and a sample."""
    judged = [f"{len(one.asked):,} judged {split} queries" for split, one in found.judged.items()]
    counts = [f"{len(found.documents):,} passages", f"{len(found.queries):,} queries", *judged]
    print(f"{found.name}: {', '.join(counts)}, checksum {found.checksum}")
    for what, texts in (("passages", found.documents), ("queries", found.queries)):
        sample = _sample(texts)
        lengths = _spread([len(text.split()) for text in sample])
        print(f"  {what}: {lengths} words; {_scripts(sample)}; such as {sample[0][:LONG]!r}")
    for line in found.told():
        print(line)


def _sample(texts: Texts) -> list[str]:
    """Some of the texts, always the same."""
    rows = random.Random(0).sample(range(len(texts)), min(SAMPLE, len(texts)))
    return texts.take(rows)


def _spread(numbers: Sequence[int]) -> str:
    median, most, last = np.quantile(numbers, (0.5, 0.95, 1))
    return f"{median:.0f} (median), {most:.0f} (95 %), {last:.0f} (longest)"


def _scripts(texts: Iterable[str]) -> str:
    """Shares of the scripts of all letters, by the first word of Unicode's names."""
    letters = Counter(letter for text in texts for letter in text if letter.isalpha())
    names: Counter[str] = Counter()
    for letter, count in letters.items():
        names[unicodedata.name(letter, "UNNAMED").split()[0].capitalize()] += count
    total = names.total() or 1
    return (
        ", ".join(f"{name} {count / total:.1%}" for name, count in names.most_common(4))
        or "no letters"
    )


def _tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, length: int, text: TextForm, what: str
) -> str:
    made = tokens_of(_sample(texts), tokenizer, UNCUT, frame_of(text, what), echo=text.echo)
    counts = made.lengths(UNCUT).tolist()
    cut = np.mean([count > length for count in counts])
    return f"{_spread(counts)}; {cut:.1%} are cut at {length}"


if __name__ == "__main__":
    command.quiet()
    command.run(main)

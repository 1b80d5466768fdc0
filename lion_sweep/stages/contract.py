"""What a text becomes for the weights that read it: as tokens, and whether that can be had.

A cell's form (`paradigm.text`), or a checkpoint's, is kept by what trains, scores or exports it.
"""

from collections.abc import Mapping

from lion_sweep.config import Config, TextForm
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.tokens import PROBE, Frame, appended, special_around
from lion_sweep.errors import UserError
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.stages.base import Stage
from lion_sweep.stages.texts import ImportTexts, Tokenise, tokenizer_of
from lion_sweep.stages.workshop import Workshop

PLAIN = TextForm()
KEYS = {QUERIES: "query_prompt", PASSAGES: "passage_prompt"}


def frame_of(text: TextForm, what: str) -> Frame:
    """What stands around `queries` or `passages`."""
    return Frame(text.prompt(what), text.special_tokens, text.append_eos)


def tokenise(
    texts: ImportTexts,
    tokenizer: Pretrained | Stage,
    length: int,
    text: TextForm,
    what: str,
    title: str,
) -> Tokenise:
    """The cache of texts that are `queries` or `passages`, in their form."""
    frame = frame_of(text, what)
    return Tokenise(texts, tokenizer, length, frame.prompt, frame.special, frame.eos, title=title)


def lengths_of(config: Config, *, training: bool) -> dict[str, dict[str, int]]:
    """What `queries` and `passages` are cut at, by the keys that say so."""
    evaluation = config.evaluation
    found: dict[str, dict[str, int]] = {QUERIES: {}, PASSAGES: {}}
    for name in (config.data.name, *evaluation.sets):
        key = f"evaluation.sets.{name}" if name in evaluation.sets else "evaluation"
        query, passage = evaluation.lengths_of(name)
        found[QUERIES][f"{key}.query_length"] = query
        found[PASSAGES][f"{key}.passage_length"] = passage
    if training:
        found[QUERIES]["recipe.lengths.query"] = config.recipe.lengths.query
        found[PASSAGES]["recipe.lengths.passage"] = config.recipe.lengths.passage
    return found


def check_form(
    text: TextForm,
    tokenizer: Pretrained | Stage,
    shop: Workshop,
    lengths: Mapping[str, Mapping[str, int]],
) -> None:
    """Refuse a form that the tokenizer has not, or that leaves no room for a text.

    `lengths` are those that `queries` and `passages` are cut at, by their keys. A tokenizer that is
    still to be made is asked when it is there. Raises `UserError`.
    """
    if text == PLAIN or (isinstance(tokenizer, Stage) and not shop.find(tokenizer)):
        return
    reads = tokenizer_of(tokenizer, shop)
    for what, cuts in lengths.items():
        prompt, key = text.prompt(what), f"paradigm.text.{KEYS[what]}"
        frame = frame_of(text, what)
        before, after = special_around(PROBE, reads, frame) or (0, 0)
        after += len(appended(reads, frame))
        if text.echo and max(before, after) > 1:
            raise UserError(
                f"paradigm.text.echo=true, and {reads.name_or_path} puts {before} tokens before a "
                f"text and {after} after it, of which echo takes one each: set "
                "paradigm.text.special_tokens=false."
            )
        taken = len(reads(prompt, add_special_tokens=False)["input_ids"])
        copies = 2 if text.echo else 1
        needed = before + after + copies * (taken + 1)
        short = [f"{name}={length}" for name, length in cuts.items() if length < needed]
        if short:
            told = f"{key}={prompt!r} is {taken} tokens"
            told += f", {before + after} stand around a text" if before + after else ""
            told += ", and paradigm.text.echo=true gives both twice" if text.echo else ""
            raise UserError(
                f"{told}: {', '.join(short)} leaves no room for a text itself. Take {needed} or "
                "more, or a shorter prompt."
            )

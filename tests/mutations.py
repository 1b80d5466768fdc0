"""Ways in which a file comes to be another than it was, for hypothesis to draw from."""

import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# LION_SWEEP_EXAMPLES=100000 tries as many damaged files of each kind, in some minutes.
EXAMPLES = int(os.environ.get("LION_SWEEP_EXAMPLES", "150"))
tried = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ODD = (
    None, True, 0, -1, 1.5, 10**12, 10**400, float("nan"), float("inf"), "", " ", "x y", "\ud83d",
    "a\tb", "\u2028", "\ufeff", "d0", "q0", [], {}, ["d0"], [None], {"a": ["d0"]}, "0.5", "1e999",
)  # fmt: skip
PIECES = (
    b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\r", b"\n", b"\r\n", b"\t", b" ", b"\xff", b"\xc3", b'"',
    b"{", b"}", b"[", b"\\ud800", b"NaN", b"-", b",", b":", b"9" * 5000, b"[" * 3000, b"score",
)  # fmt: skip

Change = Callable[[bytes], bytes]


def place_in(share: float, raw: bytes) -> int:
    """A place that is there whatever is left of the file."""
    return int(share * len(raw))


def put(at: float, piece: bytes, over: int) -> Change:
    """A piece put in, in place of so many bytes."""
    return lambda raw: raw[: place_in(at, raw)] + piece + raw[place_in(at, raw) + over :]


def line_changed(which: float, change: Callable[[list[bytes], int], None]) -> Change:
    """`change` is given the lines, with their ends, and the number of one."""

    def changed(raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        if lines:
            change(lines, int(which * len(lines)))
        return b"".join(lines)

    return changed


def glued(lines: list[bytes], number: int) -> None:
    lines[number] = lines[number].rstrip(b"\n")


def repeated(lines: list[bytes], number: int) -> None:
    lines.insert(0, lines[number])


def value_changed(key: int, value: Any, other: int | None) -> Callable[[list[bytes], int], None]:
    """A field that is `value`, or (`other`) changes places with another one."""

    def changed(lines: list[bytes], number: int) -> None:
        try:
            row = json.loads(lines[number])
            keys = list(row)
            if other is None:
                row[keys[key % len(keys)]] = value
            else:
                one, two = keys[key % len(keys)], keys[other % len(keys)]
                row[one], row[two] = row[two], row[one]
            # Escaped, as halves of characters can only stand that way.
            lines[number] = json.dumps(row).encode() + b"\n"
        except (ValueError, TypeError, AttributeError, ZeroDivisionError, RecursionError):
            fields = lines[number].rstrip(b"\n").split(b"\t")
            one, two = key % len(fields), (other or 0) % len(fields)
            fields[one], fields[two] = fields[two], fields[one]
            lines[number] = b"\t".join(fields) + b"\n"

    return changed


share = st.floats(0, 1, exclude_max=True)
small = st.integers(0, 7)
change = st.one_of(
    st.builds(put, share, st.binary(max_size=2), st.integers(0, 3)),  # bytes flipped, or gone
    st.builds(put, share, st.just(b""), st.integers(0, 400)),  # cut
    st.builds(put, share, st.sampled_from(PIECES), st.integers(0, 1)),
    st.builds(line_changed, share, st.sampled_from([glued, repeated])),
    st.builds(
        line_changed, share, st.builds(value_changed, small, st.sampled_from(ODD), st.none())
    ),
    st.builds(line_changed, share, st.builds(value_changed, small, st.none(), small)),
)
changes = st.lists(change, min_size=1, max_size=3)


def damaged(raw: bytes, steps: list[Change]) -> bytes:
    for step in steps:
        raw = step(raw)
    return raw

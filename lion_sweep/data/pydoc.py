"""The embedded collection: real text and real relevance, derived from the Python that runs it.

A docstring's first sentence is a query; the rest of the same docstring is its relevant passage.
Nothing is shipped and nothing is downloaded: the standard library's own sources are read with
`ast`. The result depends on the Python version, so its checksum travels with every score.
"""

import ast
import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from lion_sweep.errors import UserError

# Folders that hold tests or generated tables rather than documentation.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
MIN_QUERY_WORDS, MAX_QUERY_WORDS = 5, 40
MIN_PASSAGE_WORDS, MAX_PASSAGE_WORDS = 15, 200
# Passages whose word sets overlap more than this (Jaccard) are the same passage with other names.
NEAR_DUPLICATE = 0.8
TEST_SHARE, DEV_SHARE = 0.11, 0.05

# Raised when the same sources give other pairs.
RULES = 1

Pair = tuple[str, str]


def package_root(package: str) -> Path:
    """Folder of a package's sources; `stdlib` names the standard library."""
    if package == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"data.packages names {package!r}, which is not an installed Python package: "
            "install it, or remove it from the list."
        )
    return Path(spec.submodule_search_locations[0])


def docstrings(root: Path) -> Iterator[str]:
    """Every docstring below `root`, in the order of file path and then position."""
    for path in sorted(root.rglob("*.py")):
        if SKIPPED_FOLDERS & set(path.relative_to(root).parts[:-1]):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        except (SyntaxError, ValueError, RecursionError):
            continue  # templates and fixtures that are not Python by intention
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield text


def split_docstring(text: str) -> Pair | None:
    """(first sentence, the rest), white space folded; None where either part is too short."""
    paragraphs = re.split(r"\n\s*\n", text.strip(), maxsplit=1)
    first = " ".join(paragraphs[0].split())
    rest = " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""
    sentence = re.match(r"(.+?[.!?])\s+(?=[A-Z0-9'\"`*(<>])", first)
    if sentence:
        first, rest = sentence.group(1), f"{first[sentence.end() :]} {rest}".strip()
    if not MIN_QUERY_WORDS <= len(first.split()) <= MAX_QUERY_WORDS:
        return None
    words = rest.split()
    if len(words) < MIN_PASSAGE_WORDS:
        return None
    return first, " ".join(words[:MAX_PASSAGE_WORDS])


def drop_near_duplicates(pairs: list[Pair]) -> list[Pair]:
    """Keep the first of every group of pairs with the same query, or nearly the same passage."""
    first: dict[str, Pair] = {}
    for query, passage in pairs:
        first.setdefault(query.lower(), (query, passage))
    unique = list(first.values())
    vocabulary: dict[str, int] = {}
    rows, columns = [], []
    for row, (_, passage) in enumerate(unique):
        for word in sorted(set(re.findall(r"\w+", passage.lower()))):
            rows.append(row)
            columns.append(vocabulary.setdefault(word, len(vocabulary)))
    words_NV = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, columns)),
        shape=(len(unique), len(vocabulary)),
    )
    size_N = np.asarray(words_NV.sum(axis=1)).ravel()
    overlap = (words_NV @ words_NV.T).tocoo()
    union = size_N[overlap.row] + size_N[overlap.col] - overlap.data
    near = (overlap.data > NEAR_DUPLICATE * union) & (overlap.col < overlap.row)
    dropped: set[int] = set()
    for row, earlier in sorted(zip(overlap.row[near], overlap.col[near], strict=True)):
        if earlier not in dropped:
            dropped.add(row)
    return [pair for row, pair in enumerate(unique) if row not in dropped]


def split_of(query: str) -> str:
    """train, dev or test, from a hash of the query: adding a docstring never moves another one."""
    fraction = int.from_bytes(hashlib.sha256(query.lower().encode()).digest()[:8], "big") / 2**64
    if fraction < TEST_SHARE:
        return "test"
    return "dev" if fraction < TEST_SHARE + DEV_SHARE else "train"


def collect(packages: list[str]) -> list[Pair]:
    """All (query, passage) pairs of `packages`, duplicates dropped, in a fixed order."""
    pairs = [
        pair
        for package in packages
        for text in docstrings(package_root(package))
        if (pair := split_docstring(text)) is not None
    ]
    return drop_near_duplicates(pairs)

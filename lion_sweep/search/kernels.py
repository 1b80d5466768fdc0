"""Numba's part of exact search over posting lists.

The accumulators of a block stay in a core's cache; queries are shared among threads. A score is
the sum of products in the order of the query's terms, so that it depends on the pair of query and
document alone. Lists whose documents cannot get among the first k without another one are left out
where that is cheaper (MaxScore: Turtle and Flood, 1995, with each block's own maxima); what may
still get there is scored anew in whole, so that no bit changes.

Shapes: D documents of a block, U terms in it, P postings, Q queries, T terms of all queries or of
one, K hits and C candidates per query, M pairs.
"""

import numpy as np
from numba import njit, prange

_LINE = 64  # accumulators looked at together: most lines hold no candidate, and are skipped
_LOOKUP = 8  # postings walked in the time that a document is looked up in a list
_TOGETHER = 32  # queries of a thread in turn, which share its accumulators


@njit(cache=True)
def _first(sorted_M, value, low, high):  # type: ignore[no-untyped-def]
    """The first place from `low` on that does not come before `value`."""
    while low < high:
        middle = (low + high) >> 1
        if sorted_M[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _list(block, term):  # type: ignore[no-untyped-def]
    """(start, end, largest weight) of a term's list."""
    term_U, start_U, most_U = block[:3]
    place = _first(term_U, term, 0, len(term_U))
    if place < len(term_U) and term_U[place] == term:
        return np.int64(start_U[place]), np.int64(start_U[place + 1]), most_U[place]
    return np.int64(0), np.int64(0), most_U.dtype.type(0)


@njit(cache=True)
def _score(block, lists_T2, weight_T, document):  # type: ignore[no-untyped-def]
    weight_P, document_P = block[3:]
    score = weight_P.dtype.type(0)
    for place in range(len(weight_T)):
        start, end = lists_T2[place]
        found = _first(document_P, document, start, end)
        if found < end and document_P[found] == document:
            score += weight_T[place] * weight_P[found]
    return score


@njit(cache=True)
def _keep(key, keys_C, kept_2):  # type: ignore[no-untyped-def]
    keys_C[kept_2[1]] = key
    kept_2[1] += np.uint64(1)
    if kept_2[1] == len(keys_C):
        k = len(keys_C) // 2
        best_K = np.partition(keys_C, k)[k:]
        keys_C[:k], keys_C[k:] = best_K, 0
        kept_2[0], kept_2[1] = best_K[0], k


@njit(cache=True)
def _search(block, rank_D, term_T, weight_T, keys_C, kept_2, scratch):  # type: ignore[no-untyped-def]
    """Search a block for one query. `scores` are zeros, more than D, before and after."""
    weight_P, document_P = block[3:]
    scores, found_D2 = scratch
    terms, spare, bits = len(term_T), len(scores) - 1, scores.view(np.uint32)
    lists_T2 = np.empty((terms, 2), dtype=np.int64)
    most_T = np.empty(terms, dtype=np.float64)
    for place in range(terms):
        lists_T2[place, 0], lists_T2[place, 1], most = _list(block, term_T[place])
        most_T[place] = np.float64(weight_T[place]) * most
    bits[spare] = kept_2[0] >> np.uint64(32)
    least = np.float64(scores[spare])
    # Sums in another order, and in float32, differ by less.
    slack = 1 + (terms + 8) * 2.0**-23
    walked_T, rest, left_out, walked = np.ones(terms, dtype=np.bool_), 0.0, 0, 0
    for place in np.argsort(most_T):
        length = lists_T2[place, 1] - lists_T2[place, 0]
        if walked == 0 and (rest + most_T[place]) * slack < least:
            rest += most_T[place]
            walked_T[place] = False
            left_out += length
        else:
            walked += length
    partial = left_out > 0
    if partial and _LOOKUP * terms * walked > left_out:  # looking up would take longer
        walked_T[:], walked, partial = True, walked + left_out, False
    for place in range(terms):
        if walked_T[place]:
            weight = weight_T[place]
            for posting in range(lists_T2[place, 0], lists_T2[place, 1]):
                scores[document_P[posting]] += weight * weight_P[posting]
    if partial:
        scores[spare] = least / slack - rest
    needed = np.uint32(max(bits[spare], 1))
    found = 0
    if walked > len(scores) // 4:
        lines_L = bits[:spare].reshape(-1, _LINE)
        for line in range(len(lines_L)):
            above = 0
            for place in range(_LINE):
                above += lines_L[line, place] >= needed
            if above > 0:
                for place in range(_LINE):
                    if lines_L[line, place] >= needed:
                        found_D2[found, 0] = line * _LINE + place
                        found_D2[found, 1] = lines_L[line, place]
                        found += 1
            for place in range(_LINE):
                lines_L[line, place] = 0
    else:
        for place in range(terms):
            if walked_T[place]:
                for posting in range(lists_T2[place, 0], lists_T2[place, 1]):
                    document = document_P[posting]
                    if bits[document] >= needed:
                        found_D2[found, 0], found_D2[found, 1] = document, bits[document]
                        found += 1
                    bits[document] = 0
    for place in range(found):
        document, own = found_D2[place]
        if partial:
            scores[spare] = _score(block, lists_T2, weight_T, document)
            own = bits[spare]
        if own >= kept_2[0] >> np.uint64(32):
            key = np.uint64(own) << np.uint64(32)
            key |= np.uint64(0xFFFFFFFF) - np.uint64(rank_D[document])
            if key > kept_2[0]:
                _keep(key, keys_C, kept_2)
    bits[spare] = 0


@njit(cache=True, parallel=True)
def search(block, rank_D, start_Q, term_T, weight_T, keys_QC, kept_Q2):  # type: ignore[no-untyped-def]
    """Search a block for all queries, adding to the keys of what was found before.

    Of C = 2 K places the first hold keys, the others 0; `kept_Q2` are the key that a new one has to
    exceed, and how many there are. A key holds the 32 bits of a score, then the complement of the
    document's rank by id: a larger key comes first under the rule of ties, and 0 is none. Bits of
    float32 that are not negative, and of uint32, compare as their values do.
    """
    queries = len(keys_QC)
    size = (len(rank_D) + _LINE - 1) // _LINE * _LINE + 1
    for chunk in prange((queries + _TOGETHER - 1) // _TOGETHER):
        scratch = np.zeros(size, dtype=weight_T.dtype), np.empty((size, 2), dtype=np.uint32)
        for query in range(chunk * _TOGETHER, min((chunk + 1) * _TOGETHER, queries)):
            own = slice(start_Q[query], start_Q[query + 1])
            _search(
                block, rank_D, term_T[own], weight_T[own], keys_QC[query], kept_Q2[query], scratch
            )


@njit(cache=True)
def pairs(block, start_Q, term_T, weight_T, query_M, document_M, score_M):  # type: ignore[no-untyped-def]
    """Fill in the scores of pairs of a query and a document of the block."""
    for pair in range(len(query_M)):
        query = query_M[pair]
        own = slice(start_Q[query], start_Q[query + 1])
        lists_T2 = np.empty((own.stop - own.start, 2), dtype=np.int64)
        for place in range(len(lists_T2)):
            lists_T2[place, 0], lists_T2[place, 1], _ = _list(block, term_T[own.start + place])
        score_M[pair] = _score(block, lists_T2, weight_T[own], document_M[pair])

"""Ids of prefix blocks and sessions, renumbered without a dictionary: a trace has millions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from array import array

    from numpy.typing import NDArray

_CHUNK = 1 << 18  # ids looked at together
_PART = 1 << 18  # ids sorted together, about
_ROWS = 1 << 14  # rows of ids moved together
_MARK = -2  # what is below it is minus two minus the position where an id came first


def numbered(ids: array[int]) -> NDArray[np.int32]:
    """int32 (n,): 0, 1.. in order of first appearance for each distinct id from 0; -1 stays.

    `ids` (of type `i` or `q`) is overwritten and its memory is the result's. Beside it this takes some
    20 MB, where a dictionary of eight million ids takes 900.

    >>> from array import array
    >>> numbered(array("q", [7, 2**60, 7, -1, 3])).tolist()
    [0, 1, 0, -1, 2]
    """
    n = len(ids)
    if n == 0:
        return np.empty(0, dtype=np.int32)
    own: NDArray[Any] = renumbered(np.frombuffer(ids, dtype=f"i{ids.itemsize}"))
    if own.dtype == np.int32:
        return own
    narrow = own.view(np.int32)
    for start in range(0, n, _CHUNK):
        stop = min(start + _CHUNK, n)
        narrow[start:stop] = own[start:stop]
    del own, narrow
    del ids[(n + 1) // 2 :]
    return np.frombuffer(ids, dtype=np.int32)[:n]


def renumbered(ids: NDArray[Any]) -> NDArray[Any]:
    """The same for an array of int32 or int64, which is overwritten and returned."""
    if ids.size:
        _mark_first(ids)
        _number(ids)
    return ids


def _mark_first(ids: NDArray[Any]) -> None:
    """Each id from 0 gives way to the mark of the position where it came first.

    Ids are sorted part by part, by their lowest bits. What is marked is negative and belongs to no part.
    """
    parts = 1
    while parts * _PART < ids.size:
        parts *= 2
    mask = np.iinfo(ids.dtype).min | (parts - 1)
    for part in range(parts):
        where = _positions(ids, mask, part)
        where = where[np.argsort(ids[where], kind="stable")]
        heads = _heads(ids[where])
        first = where[heads]  # stable: the earliest of equal ids leads
        ids[where] = _MARK - first[np.cumsum(heads, dtype=np.int32) - 1]


def _heads(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it."""
    heads = np.ones(ordered.size, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=heads[1:])
    return heads


def _positions(ids: NDArray[Any], mask: int, part: int) -> NDArray[np.int32]:
    """Where the ids of a part are, ascending; int32, since block 0 of a trace may be in every row."""
    starts = range(0, ids.size, _CHUNK)
    found = [
        np.flatnonzero(ids[k : k + _CHUNK] & mask == part).astype(np.int32) + np.int32(k) for k in starts
    ]
    return np.concatenate(found)


def _number(ids: NDArray[Any]) -> None:
    """Marks give way to numbers, from the front: what came first elsewhere has its number already."""
    count = 0
    for start in range(0, ids.size, _CHUNK):
        piece = ids[start : start + _CHUNK]
        first = _MARK - piece
        new = first == np.arange(start, start + piece.size, dtype=ids.dtype)
        news = int(np.count_nonzero(new))
        piece[new] = np.arange(count, count + news)
        count += news
        again = (first >= 0) & ~new
        piece[again] = ids[first[again]]


def gathered(
    ids: NDArray[np.int32], begins: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int32]:
    """The rows of ids in another order; row k is `ids[begins[k]:begins[k + 1]]`.

    >>> gathered(np.array([1, 2, 3]), np.array([0, 2, 3]), np.array([1, 0])).tolist()
    [3, 1, 2]
    """
    result = np.empty_like(ids)
    end = 0
    for start in range(0, order.size, _ROWS):
        rows = order[start : start + _ROWS]
        counts = begins[rows + 1] - begins[rows]
        offsets = np.cumsum(counts) - counts
        where = np.repeat(begins[rows] - offsets, counts) + np.arange(counts.sum())
        result[end : end + where.size] = ids[where]
        end += where.size
    return result

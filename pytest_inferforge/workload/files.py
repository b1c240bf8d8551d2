"""Files that workloads are made from, each read once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.workload import corpus, traces
from pytest_inferforge.workload.content import FileRef

if TYPE_CHECKING:
    from pytest_inferforge.workload.corpus import Corpus
    from pytest_inferforge.workload.traces import TraceTable


def corpus_ref(path: Path) -> FileRef:
    """A file of prompts, checked.

    Raises:
        UsageError: not readable; the row is named.
    """
    return FileRef(path=str(path), digest=_corpus(str(path), path.stat().st_mtime_ns).digest)


def trace_ref(path: Path, format: str | None) -> FileRef:  # noqa: A002 (the field's own word)
    """A trace, checked.

    Raises:
        UsageError: not readable; the row is named.
    """
    return FileRef(path=str(path), digest=_trace(str(path), path.stat().st_mtime_ns, format).digest)


def corpus_of(ref: FileRef) -> Corpus:
    """What a file of prompts holds."""
    return _corpus(ref.path, Path(ref.path).stat().st_mtime_ns)


def trace_of(ref: FileRef, format: str | None) -> TraceTable:  # noqa: A002
    """What a trace holds."""
    return _trace(ref.path, Path(ref.path).stat().st_mtime_ns, format)


@functools.lru_cache(maxsize=16)
def _corpus(path: str, mtime_ns: int) -> Corpus:  # noqa: ARG001 (part of what is remembered)
    return corpus.read(Path(path))


@functools.lru_cache(maxsize=4)
def _trace(path: str, mtime_ns: int, format: str | None) -> TraceTable:  # noqa: A002, ARG001
    return traces.read(Path(path), format=format)

"""Everything this package raises on purpose, as one tree.

    InferforgeError
    ├── UsageError       the user asked for something that cannot be; raised before anything boots
    ├── EngineError      a server did not boot or died; carries the end of its log
    ├── MeasuringError   a run could not be measured; infrastructure, not a regression
    └── BaselineError    a stored file is missing, broken or foreign

A verdict is not an exception: see `pytest_inferforge.records`.
"""

from __future__ import annotations


class InferforgeError(Exception):
    """What happened, what was seen, and what to do, in that order and form everywhere."""

    def __init__(self, what: str, *, seen: str | None = None, do: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.seen = seen
        self.do = do

    def __str__(self) -> str:
        lines = [self.what]
        if self.seen:
            lines.append(_field("seen:", self.seen))
        if self.do:
            lines.append(_field("do:", self.do))
        return "\n".join(lines)


class UsageError(InferforgeError):
    """Asked for something that does not exist or cannot be judged."""


class EngineError(InferforgeError):
    """A server did not become ready, or ended while it was needed.

    `log_tail` is the end of its log (may be empty), `log_path` the whole of it.
    """

    def __init__(
        self,
        what: str,
        *,
        seen: str | None = None,
        do: str | None = None,
        log_tail: str = "",
        log_path: str | None = None,
    ) -> None:
        super().__init__(what, seen=seen, do=do)
        self.log_tail = log_tail
        self.log_path = log_path

    def __str__(self) -> str:
        text = super().__str__()
        if not self.log_tail:
            return text
        return f"{text}\n--- end of the server's log ---\n{self.log_tail.rstrip()}"


class MeasuringError(InferforgeError):
    """A run could not be measured; the suite's infrastructure is at fault, not the server's speed."""


class BaselineError(InferforgeError):
    """A stored session is missing, broken, or not ours."""


def _field(label: str, text: str) -> str:
    first, *rest = text.splitlines()
    return "\n".join([f"  {label:<5} {first}", *(f"        {line}" for line in rest)])

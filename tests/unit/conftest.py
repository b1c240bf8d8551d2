"""Literal requests, as short as the tests that need them."""

from collections.abc import Callable

import pytest

from pytest_inferforge.records import RequestRecord, RequestStatus


@pytest.fixture(scope="session")
def make_request() -> Callable[..., RequestRecord]:
    """A request from what matters to a test: when it was due, sent, and when its chunks came.

    `fails` gives it a reason, `cut_s` cuts it then; both leave the chunks that came before.
    """

    def make(
        index: int = 0,
        *,
        due_s: float | None = 0.0,
        send_s: float | None = None,
        chunks: tuple[float, ...] = (),
        tokens: int | None = None,
        fails: str | None = None,
        cut_s: float | None = None,
        **fields: object,
    ) -> RequestRecord:
        status = RequestStatus.FAILED if fails else RequestStatus.OK
        status = RequestStatus.CANCELLED if cut_s is not None else status
        counted = len(chunks) if tokens is None else tokens
        given = {
            "id": f"t-{index}",
            "send_s": due_s if send_s is None else send_s,
            "first_event_s": chunks[0] if chunks else None,
            "first_token_s": chunks[0] if chunks else None,
            "first_visible_s": chunks[0] if chunks else None,
            "last_token_s": chunks[-1] if chunks else None,
            "end_s": cut_s if cut_s is not None else (chunks[-1] if chunks else None),
            "prompt_tokens_asked": 8,
            "output_tokens_asked": counted or 1,
            "prompt_tokens": 8,
            "output_tokens": counted or None,
            "output_tokens_exact": True,
        }
        return RequestRecord(
            index=index, status=status, reason=fails, due_s=due_s, chunk_s=tuple(chunks), **(given | fields)
        )

    return make

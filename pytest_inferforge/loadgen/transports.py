"""Which code carries the requests: our own wire, or httpx where a proxy or HTTP/2 is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_inferforge.loadgen.pool import Pool, resolve, tls_context

if TYPE_CHECKING:
    from pytest_inferforge.loadgen.dispatch import Sender
    from pytest_inferforge.loadgen.plan import Plan


def make_sender(plan: Plan) -> Sender:
    """The transport that the plan asks for, not connected yet.

    Raises:
        OSError: the host's name is not known.
    """
    if plan.transport == "httpx":
        from pytest_inferforge.loadgen.httpx_transport import HttpxSender

        return HttpxSender(plan)
    parts = urlsplit(plan.url)
    tls = tls_context(plan.ca_file, verify=plan.verify_tls) if parts.scheme == "https" else None
    host = parts.hostname or ""
    address = resolve(host, parts.port or (443 if tls else 80))
    return Pool(address=address, host=host, tls=tls, survives_stream=plan.survives_stream)

"""Which code carries the requests: our own wire, or httpx where a proxy or HTTP/2 is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed forgot it

from pytest_inferforge import tls
from pytest_inferforge.loadgen.pool import Pool, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    context = tls.context(plan.ca_file, verify=plan.verify_tls) if parts.scheme == "https" else None
    host = parts.hostname or ""
    address = resolve(host, parts.port or (443 if context else 80))
    return Pool(address=address, host=host, tls=context, survives_stream=plan.survives_stream)


def unused_proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """What is to be said of a proxy in the environment that our own wire leaves aside; None: there is none.

    Source: `urllib.request.getproxies_environment`, whose rules httpx follows: a lower-case name goes before
    an upper-case one, also when it is empty.

    >>> unused_proxy("http://10.0.0.7:8000", {"ALL_PROXY": "http://proxy:3128"})
    'ALL_PROXY is set and not used: transport="httpx" would use it'
    """
    parts = urlsplit(url)
    for variable in (f"{parts.scheme}_proxy", "all_proxy"):
        name = _spelled(variable, environ)
        if environ.get(name):
            excepted = environ.get(_spelled("no_proxy", environ), "")
            if proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": excepted}):
                return None
            return f'{name} is set and not used: transport="httpx" would use it'
    return None


def _spelled(variable: str, environ: Mapping[str, str]) -> str:
    """The spelling of a variable that counts: lower case where that is set."""
    return variable if variable in environ else variable.upper()

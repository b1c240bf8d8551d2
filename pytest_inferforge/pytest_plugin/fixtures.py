"""The fixtures. What they do is in `adapter` and `session`, imported when a test asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_inferforge.errors import InferforgeError

if TYPE_CHECKING:
    import httpx

    from pytest_inferforge.pytest_plugin.adapter import Adapter
    from pytest_inferforge.pytest_plugin.qualities import Quality, VariantQualities
    from pytest_inferforge.pytest_plugin.variants import VariantRuns
    from pytest_inferforge.run import Run
    from pytest_inferforge.servers.server import Server


class InferServer:
    """The server of this test. After `restart` the same object stands for the new boot.

    `url` has no /v1; `model` is the id for requests; `log` is the path of its log (None behind a URL).
    """

    def __init__(self, adapter: Adapter, item: pytest.Item, server: Server) -> None:
        self._adapter = adapter
        self._item = item
        self._server = server

    def __repr__(self) -> str:
        return repr(self._server)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def model(self) -> str:
        return self._server.model

    @property
    def log(self) -> Any:
        return self._server.log

    @property
    def pid(self) -> int | None:
        return self._server.pid

    @property
    def engine(self) -> str:
        return self._server.engine

    @property
    def version(self) -> str | None:
        return self._server.version

    @property
    def ready_s(self) -> float | None:
        """From the start of its process to its first good answer, in seconds."""
        return self._server.ready_s

    @property
    def first_token_s(self) -> float | None:
        """From the start of its process to its first token, in seconds."""
        return self._server.first_token_s

    def client(self, *, timeout_s: float = 60.0) -> httpx.Client:
        """An httpx client with base URL and API key; close it."""
        return self._server.client(timeout_s=timeout_s)

    def async_client(self, *, timeout_s: float = 60.0) -> httpx.AsyncClient:
        """The same for asyncio."""
        return self._server.async_client(timeout_s=timeout_s)

    def metrics(self) -> dict[str, float]:
        """One scrape of the engine's Prometheus metrics, by sample name."""
        return self._server.metrics()

    def restart(self) -> None:
        """Stop it and boot it again; a server behind a URL cannot."""
        self._server = self._adapter.restart(self._item)


class InferLoad:
    """Drives load by hand: `infer_load(arrivals=...)`, in async tests `await infer_load.go(arrivals=...)`.

    Takes the arguments of `infer_workload`; those of the test's own markers are its defaults. The run is
    measured on the boot that is up, judged by the test's SLOs, and compared with a baseline only when it is
    given a `name`.
    """

    def __init__(self, adapter: Adapter, item: pytest.Item) -> None:
        self._adapter = adapter
        self._item = item

    def __call__(self, *, name: str | None = None, **arguments: Any) -> Run:
        __tracebackhide__ = True
        try:
            return self._adapter.load(self._item, arguments, name)
        except InferforgeError as error:  # shown at the caller's line, not in the depths of this package
            raise error.with_traceback(None) from None

    async def go(self, *, name: str | None = None, **arguments: Any) -> Run:
        """The same without blocking the event loop."""
        import asyncio

        __tracebackhide__ = True
        try:
            return await asyncio.to_thread(self._adapter.load, self._item, arguments, name, quiet=True)
        except InferforgeError as error:
            raise error.with_traceback(None) from None


def _adapter(request: pytest.FixtureRequest) -> Adapter:
    from pytest_inferforge.pytest_plugin import adapter_of

    return adapter_of(request.config)


@pytest.fixture
def infer_server(request: pytest.FixtureRequest) -> InferServer:
    """The server of this test: `.url`, `.model`, `.log`, `.client()`, `.metrics()`, `.restart()`."""
    adapter = _adapter(request)
    return InferServer(adapter, request.node, adapter.server(request.node))


@pytest.fixture
def infer_load(request: pytest.FixtureRequest) -> InferLoad:
    """Drive load by hand: `run = infer_load(arrivals="constant 2 req/s", requests=50, ...)`."""
    adapter = _adapter(request)
    adapter.server(request.node)  # a boot that fails is a set-up error
    return InferLoad(adapter, request.node)


@pytest.fixture
def infer_run(request: pytest.FixtureRequest) -> Run | VariantRuns:
    """The declared workload, measured: `infer_run.metrics["ttft_s.p99"]`, `.requests`, `.boots`, `.slos`.

    With `infer_variants` a mapping of such runs, by the variants' names, and `.comparisons`.
    """
    return _adapter(request).run(request.node)


@pytest.fixture
def infer_quality(request: pytest.FixtureRequest) -> Quality | VariantQualities:
    """The declared tasks, evaluated after the load: `infer_quality["gsm8k"]` is its mean score, 0 to 1.

    With `infer_variants` a mapping of such results, by the variants' names, and `.results` that pair them.
    """
    return _adapter(request).quality(request.node)

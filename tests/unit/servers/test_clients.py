"""The clients of a server: who is trusted, and which way they go."""

import pytest

from pytest_inferforge import engines
from pytest_inferforge.errors import UsageError
from pytest_inferforge.servers.server import Server
from pytest_inferforge.servers.spec import ServerSpec


def server(**fields):
    spec = ServerSpec(engine="url", url="https://server", **fields)
    return Server(spec, engines.engine("url"), url=spec.url, number=1, clock=lambda: 0.0)


def test_a_file_of_certificates_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="certificates to trust cannot be read"):
        server(ca_file="nowhere.pem").client()


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_refused_where_proxies_are(proxy, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    with pytest.raises(UsageError, match="proxy that the environment names"):
        server(proxies=True).client()
    server(proxies=False).client().close()

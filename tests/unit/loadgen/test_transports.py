import pytest

from pytest_inferforge.loadgen.transports import unused_proxy

PROXY = "http://user:password@proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "environ", "name"),
    [
        ("http://server:8000", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("https://server", {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("https://server", {"all_proxy": PROXY}, "all_proxy"),
        ("http://server", {"HTTP_PROXY": PROXY, "http_proxy": PROXY, "ALL_PROXY": PROXY}, "http_proxy"),
        ("http://server", {"HTTP_PROXY": PROXY, "NO_PROXY": "other, 10.0.0.7"}, "HTTP_PROXY"),
        ("http://127.0.0.1:1", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
    ],
)
def test_a_proxy_that_would_apply_is_named_without_its_password(url, environ, name):
    said = unused_proxy(url, environ)
    assert said == f'{name} is set and not used: transport="httpx" would use it'


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("http://server:8000", {}),
        ("http://server:8000", {"HTTPS_PROXY": PROXY, "TRAVIS_APT_PROXY": PROXY}),
        ("https://server", {"HTTPS_PROXY": ""}),
        ("https://server", {"HTTPS_PROXY": PROXY, "https_proxy": ""}),  # switched off
        ("https://server", {"HTTPS_PROXY": PROXY, "NO_PROXY": "other,server"}),
        ("https://a.server:443", {"HTTPS_PROXY": PROXY, "no_proxy": ".server"}),
        ("http://10.0.0.7:8000", {"ALL_PROXY": PROXY, "no_proxy": "10.0.0.7"}),
        ("http://server", {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}),
    ],
)
def test_nothing_is_said_where_none_would_apply(url, environ):
    assert unused_proxy(url, environ) is None

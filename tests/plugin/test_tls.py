"""A server behind https, from the command line."""

from pathlib import Path

import pytest

TEST = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 2", requests=20, prompt_tokens=16, output_tokens=4)
    @pytest.mark.infer_slo("ttft p50 < 5 s")
    def test_chat(infer_run, infer_server):
        assert infer_run.metrics["error_ratio"] == 0
        with infer_server.client() as client:
            assert client.get("/health").status_code == 200
"""


@pytest.fixture
def url(timetable, certificate):
    return timetable(**certificate.served)


@pytest.mark.parametrize("transport", ["wire", "httpx"])
@pytest.mark.parametrize("trust", ["authority", "everybody"])
def test_a_server_with_a_certificate_of_its_own_is_measured(trust, transport, suite, url, certificate):
    suite.write("test_a.py", TEST)
    option = f"--infer-tls-ca={certificate.authority}" if trust == "authority" else "--infer-tls-insecure"
    done = suite.run(f"--infer-url={url}", option, f"--infer-workload=transport={transport}")
    assert done.outcomes == {"test_a.py::test_chat": "passed"}, done.output
    if transport == "wire":  # httpx opens no connection ahead: all were made while it warmed up
        network = next(line for line in done.output.splitlines() if "in no service latency" in line)
        assert all(word in network for word in ("connect", "TLS", "round trip"))


def test_the_authority_may_be_named_from_where_pytest_was_started(suite, url, certificate):
    suite.write("test_a.py", TEST)
    suite.write("ca.pem", Path(certificate.authority).read_text())
    done = suite.run(f"--infer-url={url}", "--infer-tls-ca=ca.pem")
    assert done.outcomes == {"test_a.py::test_chat": "passed"}, done.output


def test_a_certificate_that_nobody_vouches_for_is_an_error_at_once_that_says_what_to_do(suite, url):
    suite.write("test_a.py", TEST)
    done = suite.run(f"--infer-url={url}")
    assert done.outcomes == {"test_a.py::test_chat": "error"}
    said = done.failures["test_a.py::test_chat"]
    assert f"the certificate of {url} is not trusted" in said
    assert "seen: GET /health -> certificate verify failed: " in said
    assert "--infer-tls-ca=FILE" in said
    assert "--infer-tls-insecure" in said


def test_a_file_of_certificates_that_is_not_there_is_an_error_that_names_it(suite, url):
    suite.write("test_a.py", TEST)
    done = suite.run(f"--infer-url={url}", "--infer-tls-ca=nowhere.pem")
    assert done.exit_code != 0
    assert "nowhere.pem: [Errno 2]" in done.output
    assert "name a file of certificates in PEM form" in done.output

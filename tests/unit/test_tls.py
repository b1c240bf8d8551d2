import ssl

import pytest

from pytest_inferforge import tls
from pytest_inferforge.errors import UsageError


def test_without_a_file_this_system_is_trusted():
    made = tls.context(None, verify=True)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_file_is_trusted_instead(certificate):
    made = tls.context(certificate.authority, verify=True)
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert len(made.get_ca_certs()) == 1


def test_whoever_wants_no_check_gets_none():
    made = tls.context(None, verify=False)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize("content", [None, "", "no certificate"], ids=["absent", "empty", "text"])
def test_a_file_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError) as error:
        tls.context(str(path), verify=True)
    assert str(path) in error.value.seen
    assert error.value.do == "name a file of certificates in PEM form"


def test_distrust_is_found_behind_other_errors():
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"
    wrapped = OSError("all attempts failed")
    wrapped.__cause__ = refused
    assert tls.distrust(wrapped) == "self-signed certificate"
    assert tls.distrust(ConnectionRefusedError(111, "no")) is None

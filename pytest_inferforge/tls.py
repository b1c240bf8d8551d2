"""Whose certificates are trusted: the same for the load as for every other request to a server."""

from __future__ import annotations

import ssl

from pytest_inferforge.errors import UsageError


def context(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    """Trust in the authorities of a file, or (None) in those of this system; `verify` False: in everybody.

    Raises:
        UsageError: the file cannot be read, or is none of certificates.
    """
    try:
        made = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UsageError(
            "the certificates to trust cannot be read",
            seen=f"{ca_file}: {error}",
            do="name a file of certificates in PEM form",
        ) from error
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def distrust(error: BaseException) -> str | None:
    """Why the server's certificate was refused, if that is what is behind an error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message
        seen = seen.__cause__ or seen.__context__
    return None

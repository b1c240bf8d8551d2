"""A store in a bucket of S3, Google Cloud or Azure, through obstore.

Credentials, region and endpoint come from the environment alone (`AWS_*`, `GOOGLE_*`, `AZURE_*`), as obstore
and the providers' own programs know them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_inferforge.errors import BaselineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import TypeVar

    T = TypeVar("T")

SCHEMES = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}  # -> what its variables begin with
# A store that is out of reach is known as such within half a minute: two attempts after the first.
_CLIENT = {"allow_http": True, "connect_timeout": "5s", "timeout": "15s"}
_RETRY = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=12),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}


def is_url(location: str) -> bool:
    """Whether a location is meant as a bucket's, right or wrong.

    >>> is_url("s3://bucket/prefix"), is_url(".inferforge")
    (True, False)
    """
    return "://" in location


def check_url(location: str) -> None:
    """Refuse a URL that can be no store's, before anything connects.

    Raises:
        UsageError: another scheme, no bucket, or credentials in it; those are not repeated.
    """
    url = urlsplit(location)
    known = ", ".join(f"{scheme}://BUCKET/PREFIX" for scheme in SCHEMES)
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise UsageError(
            "a store's URL holds the bucket and a prefix, nothing else",
            seen=f"{url.scheme}://... with credentials, a query or a fragment",
            do=f"write {known}; credentials are taken from the environment"
            f" ({SCHEMES.get(url.scheme, 'AWS')}_...)",
        )
    if url.scheme not in SCHEMES or not url.netloc:
        do = f"write {known}, or a folder"
        raise UsageError("this is no place for a store", seen=location, do=do)


class ObjectFiles:
    """Files in a bucket, below a prefix. A file is created on the condition that there is none."""

    def __init__(self, location: str) -> None:
        """Raises UsageError: a URL that is none, a bucket that cannot be named so, or no obstore here."""
        check_url(location)
        self._location = location.rstrip("/")
        self._scheme = urlsplit(location).scheme
        self._obstore = _obstore()
        try:
            self._bucket: Any = self._obstore.store.from_url(
                self._location, client_options=_CLIENT, retry_config=_RETRY
            )
        except (self._errors.BaseError, ValueError) as error:
            do = f"look at the URL and at the {self._variables} variables of the environment"
            raise UsageError("this store cannot be used", seen=_first(error), do=do) from error

    def keys(self, folder: str) -> tuple[str, ...]:
        found = self._ask(f"{folder}/", lambda: self._obstore.list(self._bucket, prefix=folder).collect())
        keys = (str(meta["path"]) for meta in found)
        return tuple(sorted(k for k in keys if not any(part.startswith(".") for part in k.split("/"))))

    def read(self, key: str) -> bytes:
        try:
            return self._ask(key, lambda: bytes(self._obstore.get(self._bucket, key).bytes()))
        except FileNotFoundError as error:
            do = "load the baseline again: it was removed meanwhile"
            raise BaselineError(f"{self.where(key)} is gone", seen=_first(error), do=do) from error

    def write_new(self, key: str, content: bytes) -> None:
        def put() -> None:
            self._obstore.put(self._bucket, key, content, mode="create", use_multipart=False)

        try:
            self._ask(key, put)
        except self._errors.AlreadyExistsError as error:
            # An attempt whose answer was lost may have written it: then what is there is ours.
            if self.read(key) != content:
                raise FileExistsError(self.where(key)) from error

    def remove(self, key: str) -> None:
        self._ask(key, lambda: self._obstore.delete(self._bucket, key))

    def where(self, key: str) -> str:
        return f"{self._location}/{key}"

    @property
    def _errors(self) -> Any:
        return self._obstore.exceptions

    @property
    def _variables(self) -> str:
        return f"{SCHEMES[self._scheme]}_..."

    def _ask(self, key: str, work: Callable[[], T]) -> T:
        """What is about one file (it is there, it is not) passes; the rest becomes an error of ours."""
        try:
            return work()
        except (self._errors.AlreadyExistsError, FileNotFoundError):
            raise
        except (self._errors.BaseError, OSError, ValueError) as error:
            raise BaselineError(
                f"the store does not do what it is asked: {self.where(key)}",
                seen=_first(error),
                do="look at the bucket's name, at the network, and at region, endpoint and credentials in the"
                f" {self._variables} variables of the environment; what is stored was left as it is",
            ) from error


def _obstore() -> ModuleType:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise UsageError(
            "a store in a bucket needs the package obstore",
            seen=str(error),
            do="pip install 'pytest-inferforge[store]'",
        ) from error
    return obstore


def _first(error: BaseException) -> str:
    """What a person can use of it: obstore's errors go on with their source for pages."""
    return str(error).partition("\n\nDebug source")[0].strip()

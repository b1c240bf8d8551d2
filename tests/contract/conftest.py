"""What both tests of the wires read."""

from pathlib import Path

import pytest

WIRES = Path(__file__).with_name("wires")


def events_of(path: Path) -> list[bytes]:
    """The events of a transcript, with the blank line that ends each; one that breaks off lacks the last."""
    data = path.read_bytes()
    whole = data.endswith(b"\n")
    blocks = data.removesuffix(b"\n").split(b"\n\n")
    return [block + b"\n\n" for block in blocks[:-1]] + [blocks[-1] + (b"\n\n" if whole else b"")]


@pytest.fixture(scope="session")
def transcript():
    """The events of a stream, or the only body of a reply that is none."""

    def read(name: str) -> tuple[list[bytes], bool]:
        path = WIRES / f"{name}.sse"
        if path.exists():
            return events_of(path), True
        return [(WIRES / f"{name}.json").read_bytes()], False

    return read


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stream" in metafunc.fixturenames:
        paths = sorted(WIRES.glob("*.sse"))
        metafunc.parametrize("stream", [b"".join(events_of(p)) for p in paths], ids=[p.stem for p in paths])

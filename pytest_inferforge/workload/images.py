"""Generated images: no two requests get the same one, and making one takes a millisecond.

Source: PNG specification (ISO/IEC 15948), chunks IHDR, PLTE, IDAT, IEND; filter type 0.
"""

from __future__ import annotations

import base64
import random
import struct
import zlib

_SQUARE = 16  # pixels


def png(width: int, height: int, seed: str) -> bytes:
    """A PNG of coloured squares, drawn from `seed`."""
    rng = random.Random(seed)  # noqa: S311 (no secret)
    across = -(-width // _SQUARE)
    rows = []
    for top in range(0, height, _SQUARE):
        squares = rng.randbytes(across)
        line = b"\0" + b"".join(squares[k : k + 1] * _SQUARE for k in range(across))[:width]
        rows.append(line * min(_SQUARE, height - top))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, palette
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", rng.randbytes(3 * 256)),
            _chunk(b"IDAT", zlib.compress(b"".join(rows), 1)),
            _chunk(b"IEND", b""),
        )
    )


def data_url(width: int, height: int, seed: str) -> str:
    """The same as a `data:` URL, as chat messages carry it."""
    return "data:image/png;base64," + base64.b64encode(png(width, height, seed)).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

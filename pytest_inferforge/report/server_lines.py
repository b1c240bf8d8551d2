"""What a server, its GPUs and its machine did meanwhile, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.metrics import metric
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from pytest_inferforge.run import Run

_SERVER = (
    ("queue", "queue_s"), ("prefill", "prefill_s"), ("decode", "decode_s"), ("running", "requests_running"),
    ("waiting", "requests_waiting"), ("waiting at most", "requests_waiting.max"),
    ("KV cache", "kv_cache_use_ratio"), ("at most", "kv_cache_use_ratio.max"),
    ("prefix hits", "prefix_hit_ratio"), ("preemptions", "preemptions"),
    ("drafts accepted", "spec_accepted_ratio"), ("tokens a draft", "spec_tokens_per_draft"),
)  # fmt: skip
_MACHINE = (
    ("CPU", "server_cpu_cores"), ("memory", "server_memory_bytes"), ("others' CPU", "foreign_cpu_cores"),
    ("stolen", "host_steal_ratio"), ("GPU", "gpu_use_ratio"), ("VRAM", "peak_vram_bytes"),
    ("power", "gpu_power_w"), ("clock", "gpu_clock_hz"), ("energy a token", "energy_j_per_output_tok"),
)  # fmt: skip


def server_lines(run: Run) -> list[str]:
    """Lines for what was measured; what was not is left out."""
    told = [(_ready(run), ""), (_values(run, _SERVER), "server (means): "), (_says(run), "")]
    told.append((_values(run, _MACHINE), "its machine: "))
    return [f"{before}{text}" for text, before in told if text]


def _values(run: Run, names: tuple[tuple[str, str], ...]) -> str:
    found = run.metrics
    shown = []
    for label, name in names:
        if name in found and (found[name] or not name.endswith(".max")):
            shown.append(f"{label} {format_value(found[name], metric(name).quantity.unit)}")
    return ", ".join(shown)


def _ready(run: Run) -> str:
    found = run.metrics
    if "ready_s" not in found:
        return ""
    first = found.get("boot_first_token_s")
    more = "" if first is None else f", its first token after {format_value(first, 's')}"
    return f"boot: ready after {format_value(found['ready_s'], 's')}{more}"


def _says(run: Run) -> str:
    """The server's own time to first token beside ours, of the same requests where it tells of each.

    What lies between the two is the server's HTTP part, and the wire.
    """
    table = run.requests
    theirs = table.times["server_ttft_s"]
    ours = table.times["first_token_s"] - table.times["send_s"]
    both = ~np.isnan(theirs) & ~np.isnan(ours)
    if both.any():
        pair = [format_value(float(np.median(column[both])), "s") for column in (theirs, ours)]
        return f"TTFT p50: server says {pair[0]}, client saw {pair[1]} ({int(both.sum())} requests)"
    found = run.metrics
    if "server_ttft_s" in found and "ttft_service_s.mean" in found:
        said, seen = (format_value(found[name], "s") for name in ("server_ttft_s", "ttft_service_s.mean"))
        return f"TTFT mean: server says {said}, client saw {seen}"
    return ""

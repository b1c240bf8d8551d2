"""What the end of a server's log says about why it did not boot, in words of what to do about it."""

from __future__ import annotations

import re

_ARGUMENTS = (  # argparse, click, clap, and parsers of their own
    r"unrecognized arguments|[Nn]o such option|un(expected|known) (argument|flag)"
    r"|invalid choice|error: (invalid )?argument"
)
# Sources: messages of PyTorch (torch.OutOfMemoryError), vLLM 0.32 (worker start, cpu_worker.py), SGLang 0.5,
# llama.cpp (ggml), huggingface_hub (errors), the loader (ld.so).
_SIGNS: tuple[tuple[str, str], ...] = (
    (
        r"CUDA out of memory|OutOfMemoryError|failed to allocate|cudaErrorMemoryAllocation|Not enough memory",
        "it ran out of memory: lower memory_fraction, max_model_len or max_num_seqs, or free the device",
    ),
    (
        r"Free memory on device .* is less than desired|Available memory on node",
        "another program holds the device's memory, or memory_fraction asks for more than there is",
    ),
    (
        r"No available memory for the cache blocks|larger than the maximum number of tokens that can be",
        "its cache holds not one request: lower max_model_len, or raise memory_fraction or kv_cache_bytes",
    ),
    (
        r"GatedRepoError|401 Client Error|access to .* is restricted|Repository Not Found",
        "the hub refuses the model: check its name, and hand on a token with --infer-env=HF_TOKEN",
    ),
    (
        r"LocalEntryNotFoundError|outgoing traffic has been disabled|OfflineModeIsEnabled",
        "the model is not here and the hub may not be asked: fetch it first, or unset HF_HUB_OFFLINE",
    ),
    (r"No space left on device", "a disk is full: free it, or move --infer-store and the model's cache"),
    (
        r"Address already in use|address already in use",
        "its port was taken: drop --infer-port, or end what uses it",
    ),
    (
        _ARGUMENTS,
        "it does not know an argument: compare --infer-arg and the settings with its --help",
    ),
    (
        r"error while loading shared libraries|cannot open shared object",
        "a library is missing on this machine",
    ),
)
_ERROR = re.compile(r"(?:^|[\s\].])([A-Z]\w*(?:Error|Exception): \S.*)")
_LONGEST = 300
_MEMORY_KILLS = (-9, 137)  # 137: what a container's runtime ends with then


def first_error(log: str) -> str | None:
    """The first line that names an error; what follows it is mostly its echo.

    >>> first_error("loading\\nWorker: RuntimeError: no kernel\\nEngine: EngineDeadError: see above")
    'RuntimeError: no kernel'
    """
    for line in log.splitlines():
        if "WARN" not in line and (found := _ERROR.search(line)):  # warnings quote errors that may come
            return found[1].strip()[:_LONGEST]
    return None


def hint(log_tail: str, exit_code: int | None) -> str | None:
    """What to do, None where the log shows no sign that is known. `exit_code`: negative for a signal."""
    for pattern, do in _SIGNS:
        if re.search(pattern, log_tail):
            return do
    if exit_code in _MEMORY_KILLS:
        return "SIGKILL, and nobody here sent it: the kernel ends so what takes too much memory (see dmesg)"
    return None

"""Telemetry of a real server: the embedded llama.cpp, against what the client counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pytest_inferforge.exposition import EXPOSITIONS
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot
from pytest_inferforge.telemetry import prometheus
from pytest_inferforge.telemetry.nvml import open_gpus
from pytest_inferforge.telemetry.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from pytest_inferforge.servers.server import Server

pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed (extra llamacpp)")
pytest.importorskip("gguf", reason="the embedded model cannot be made without gguf (extra llamacpp)")

LLAMA = EXPOSITIONS["llama.cpp"]
REQUESTS, TOKENS = 24, 160


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = boot(
        ServerSpec(engine="llama.cpp", settings=(("prefix_caching", True),)),
        run_dir=tmp_path_factory.mktemp("run"),
    )
    yield running
    running.stop()


def answer(client: httpx.Client, prompt: str) -> None:
    body = {"prompt": prompt, "max_tokens": TOKENS, "ignore_eos": True}
    client.post("/v1/completions", json=body).raise_for_status()


def test_a_load_is_seen_from_the_servers_side(server: Server) -> None:
    with server.client(timeout_s=60) as client, ThreadPoolExecutor(8) as pool:
        answer(client, " the cat" * 30)  # warms up, and is in no count
        with Sampler(
            fetch=lambda: client.get(LLAMA.path).raise_for_status().text,
            exposition=LLAMA,
            pids=lambda: server.pids,
            gpus=open_gpus(),
            interval_s=0.05,
        ) as telemetry:
            telemetry.mark("load")
            list(pool.map(lambda k: answer(client, f" a{k}" + " the cat" * 30), range(REQUESTS)))
        found = telemetry.result(output_tokens=REQUESTS * TOKENS, requests=REQUESTS)
    assert not [note for note in found.notes if "scrapes" in note or "counters" in note], found.notes
    assert found.invalid_reasons == ()
    assert not found.restarted
    metrics = found.metrics
    assert 0.0 < metrics["prefill_s"] < 5.0
    assert 0.0 < metrics["decode_s"] < 20.0
    assert 0.0 < metrics["requests_running"] <= metrics["requests_running.max"] <= 4.0  # it has four slots
    assert 0.0 < metrics["requests_waiting.max"] <= 4.0  # of eight that were sent at once
    assert 0.0 <= metrics["prefix_hit_ratio"] <= 1.0
    assert 0.0 < metrics["server_cpu_cores"] < 64.0
    assert 10e6 < metrics["server_memory_bytes"] < 10e9
    assert "kv_cache_use_ratio" not in metrics  # it publishes none
    assert "spec_accepted_ratio" not in metrics  # nothing was drafted
    assert not any(
        name.startswith(("gpu_", "energy_", "peak_vram")) for name in metrics
    )  # it runs on the CPU


def test_its_counters_are_what_the_client_counts(server: Server) -> None:
    def scrape(client: httpx.Client) -> prometheus.Scrape:
        text = client.get(LLAMA.path).raise_for_status().text
        return prometheus.Scrape(time_s=0.0, samples=prometheus.parse(text, LLAMA))

    with server.client(timeout_s=60) as client:
        before = scrape(client)
        for _ in range(3):
            answer(client, " the dog" * 50)
        after = scrape(client)
    assert prometheus.generated(before, after, LLAMA) == 3 * TOKENS
    found = prometheus.between(before, after, LLAMA, requests=3)
    assert 0.5 < found["prefix_hit_ratio"] < 0.7  # the second and the third prompt are in the cache
    assert prometheus.restarted(after, before, LLAMA)

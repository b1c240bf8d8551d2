"""Which part may import which: the arrows of the design, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "pytest_inferforge"

# part -> the parts of ours it may import
ARROWS = {
    "errors": set(),
    "words": set(),
    "options": set(),
    "dialects": set(),
    "exposition": set(),
    "outcomes": set(),
    "records": {"outcomes"},
    "units": {"errors"},
    "quantities": set(),
    "metrics": {"errors", "quantities"},
    "codec": {"errors", "records"},
    "table": {"records"},
    "measures": {"metrics", "stats", "table"},
    "floor": {"dialects", "loadgen", "measures", "options", "testing", "words", "workload"},
    "run": {"errors", "floor", "measures", "metrics", "records", "table", "workload"},
    "validity": {"measures", "options", "table", "units"},
    "policy": {"outcomes", "records"},
    "forge_tiny": {"words"},
    "stats": set(),
    "quality": {"dialects", "errors", "outcomes", "processes", "tls", "words"},
    "slo": {"errors", "measures", "metrics", "options", "records", "stats", "table", "units"},
    "gate": {"metrics", "options", "outcomes", "records", "stats", "units"},
    "calibration": {"gate", "measures", "metrics", "options", "records", "stats", "table", "units"},
    "processes": {"errors", "remains"},
    "redaction": set(),
    "remains": set(),
    "asking": {"dialects"},
    "tls": {"errors"},
    "_guardian": set(),
    "workload": {"errors", "options", "units", "words"},
    "loadgen": {"dialects", "errors", "processes", "table", "tls", "workload"},
    "engines": {"dialects", "errors", "forge_tiny", "processes", "redaction"},
    "servers": {
        "asking", "dialects", "engines", "errors", "exposition", "processes", "redaction", "telemetry", "tls",
    },
    "telemetry": {"exposition", "units"},
    "baselines": {"codec", "errors", "records"},
    "report": {
        "baselines", "calibration", "gate", "metrics", "outcomes", "quality", "records", "run", "units",
    },
    "testing": {"errors", "loadgen", "processes"},
    "pytest_plugin": {
        "asking", "baselines", "dialects", "engines", "errors", "floor", "gate", "loadgen",
        "measures", "metrics", "options", "outcomes", "policy", "quality", "records", "redaction", "remains",
        "report", "run",
        "servers", "slo", "table", "telemetry", "units", "validity", "workload",
    },
    "cli": {
        "baselines", "calibration", "codec", "engines", "errors", "gate", "metrics", "options", "outcomes",
        "policy",
        "processes", "pytest_plugin", "records", "report", "servers", "table", "telemetry", "testing",
        "units",
    },
    "__init__": {"errors", "run", "workload"},
}  # fmt: skip

# third party -> the parts that own it
OWNERS = {
    "scipy": {"stats"},
    "pytest": {"pytest_plugin", "testing"},
    "_pytest": {"pytest_plugin"},
    "httptools": {"loadgen", "testing"},
    "uvloop": {"loadgen", "testing"},
    "h2": {"loadgen"},
    "httpx": {"loadgen", "servers", "engines", "pytest_plugin", "quality", "testing"},
    "psutil": {"processes", "remains", "servers", "telemetry"},
    "ray": {"loadgen"},
    "tabulate": {"report"},
    "prometheus_client": {"servers", "telemetry"},
    "pynvml": {"telemetry"},
    "xllamacpp": {"engines"},
    "gguf": {"engines"},
    "huggingface_hub": {"engines"},
    "subprocess": {"processes", "remains", "_guardian", "baselines"},  # baselines: git alone
    "obstore": {"baselines"},
    "lm_eval": {"quality"},
    "datasets": {"quality"},
}
SOCKETS = {"loadgen", "testing", "servers"}  # servers: a free port


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """(dotted name, at run time) of every import, those in functions and under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "pytest_inferforge":
                yield from (f"pytest_inferforge.{alias.name}" for alias in node.names)
            else:
                yield node.module


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    part = part_of(path)
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "pytest_inferforge" and rest:
            target = rest.partition(".")[0]
            if target != part and target in ARROWS:
                assert target in ARROWS[part], f"{path.name} imports {target}"
        if top in OWNERS:
            assert part in OWNERS[top], f"{path.name} imports {top}"
        if top == "socket":
            assert part in SOCKETS, f"{path.name} imports socket"


def test_every_part_has_its_arrows():
    assert {part_of(p) for p in FILES} == set(ARROWS)


def test_no_arrow_is_left_over():
    used = {part: set() for part in ARROWS}
    for path in FILES:
        for name in imports(path):
            if name.startswith("pytest_inferforge."):
                used[part_of(path)].add(name.split(".")[1])
    unused = {part: ARROWS[part] - used[part] for part in ARROWS if ARROWS[part] - used[part]}
    assert unused == {}


def test_the_parts_that_meet_only_in_the_plugin_do_not_know_each_other():
    islands = ("loadgen", "servers", "engines")
    for one in islands:
        for other in islands:
            if (one, other) != ("servers", "engines") and one != other:
                assert other not in ARROWS[one]


def test_no_module_is_long():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}

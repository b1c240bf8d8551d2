"""What README.md and docs/ show works: suites run, settings are read, links lead somewhere."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_inferforge.pytest_plugin import cmdline, settings
from pytest_inferforge.testing.suite import Suite

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "example_suites").rglob("*.md")),
]
RUN_ELSEWHERE = {"quantization"}  # by tests/engines/test_quality_gate.py
EXAMPLES = sorted(
    path for path in (ROOT / "example_suites").iterdir() if path.is_dir() and path.name not in RUN_ELSEWHERE
)
BACKENDS = {"custom_engine": "house"}  # of examples that bring a server of their own
NOT_RUN = "<!-- not run -->"
# Other programs of the machine may hold the client up: that is not what these tests are about.
_CALM = '[limits]\nschedule_lag = "1 s"\n'


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    content: str
    run: bool

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language):
    """Every fenced block in that language, with the comment before it heeded."""
    found = []
    for page in PAGES:
        lines = page.read_text().splitlines()
        start = None
        for i, line in enumerate(lines):
            if start is None and line.startswith("```"):
                start = i
            elif start is not None and line == "```":
                before = next((before for before in reversed(lines[:start]) if before.strip()), "")
                if lines[start] == f"```{language}":
                    content = "\n".join(lines[start + 1 : i]) + "\n"
                    run = before.strip() != NOT_RUN
                    found.append(Block(page, start + 1, language, content, run))
                start = None
        assert start is None, f"{page} has a block without an end"
    return found


def suites():
    return [block for block in blocks("python") if block.run]


def files(page):
    """Name -> content of the data files that a page shows; each is named in the text above it."""
    found = {}
    for block in blocks("jsonl"):
        if block.page == page:
            before = "\n".join(page.read_text().splitlines()[: block.line])
            found[re.findall(r"[\w-]+\.jsonl", before)[-1]] = block.content
    return found


def test_there_is_something_to_check():
    assert len(suites()) >= 3
    assert blocks("toml")
    assert sum(not block.run for block in blocks("python")) <= 3


@pytest.mark.parametrize("block", suites(), ids=str)
def test_python_blocks_run_as_suites(block, tmp_path):
    suite = Suite(tmp_path)
    suite.write("inferforge.toml", _CALM)
    suite.write("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    suite.write("test_block.py", block.content)
    for name, content in files(block.page).items():
        suite.write(name, content)
    done = suite.run("--infer-quick", "--infer-backend=llama.cpp", "--strict-markers")
    assert done.exit_code == 0, done.output
    assert "Warning" not in done.output


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_example_suites_run_where_they_are_copied_to(folder, tmp_path):
    shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    suite = Suite(tmp_path)
    suite.write("inferforge.toml", _CALM)
    suite.write("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    backend = BACKENDS.get(folder.name, "llama.cpp")
    done = suite.run("--infer-quick", f"--infer-backend={backend}", "--strict-markers")
    assert done.exit_code == 0, done.output
    assert set(done.outcomes.values()) == {"passed"}


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_blocks_are_read(block, tmp_path):
    name = "pyproject.toml" if "[tool.inferforge" in block.content else "inferforge.toml"
    (tmp_path / name).write_text(block.content)
    settings.read(nothing_said(), tmp_path, tmp_path, {})


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_blocks_are_json(block):
    json.loads(block.content)


@pytest.mark.parametrize("block", blocks("jsonl"), ids=str)
def test_lines_of_data_files_are_json(block):
    assert [json.loads(line) for line in block.content.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name} links to {target}"


def anchors(page):
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def nothing_said():
    """The options of a command line without any of ours."""
    parser = pytest.Parser(_ispytest=True)
    cmdline.add_options(parser)
    return vars(parser.parse_known_args([]))

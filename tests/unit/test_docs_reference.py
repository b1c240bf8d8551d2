"""docs/reference.md against the code that it describes."""

import argparse
import json
import re
from pathlib import Path

import pytest

import pytest_inferforge
from pytest_inferforge import cli, floor, policy, run, table, units
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.engines import llamacpp
from pytest_inferforge.engines.protocol import VOCABULARY
from pytest_inferforge.options import JudgeOptions, LoadOptions, QualityOptions
from pytest_inferforge.outcomes import Outcomes, QualityKind, QualityResult, QualityVerdict
from pytest_inferforge.pytest_plugin import cmdline, quality_words, server_words, settings
from pytest_inferforge.pytest_plugin.fixtures import InferServer
from pytest_inferforge.pytest_plugin.qualities import Quality
from pytest_inferforge.quality.evaluation import Evaluation
from pytest_inferforge.quality.packs import PACKS, forms_of
from pytest_inferforge.records import ComparisonVerdict, SloResult, SloVerdict
from pytest_inferforge.report import document
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.workload import arrivals, content, lengths
from pytest_inferforge.workload.arguments import ARGUMENTS, CLASS_ARGUMENTS

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "reference.md").read_text()


def section(title):
    """The text from a heading to the next one of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    rest = TEXT[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def first_cells(text):
    """The words in backticks in the first column of every table."""
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


class Options:
    """Takes the place of pytest's parser."""

    def __init__(self):
        self.added = {}

    def getgroup(self, *_):
        return self

    def addoption(self, name, **fields):
        self.added[name] = fields


@pytest.fixture(scope="module")
def options():
    found = Options()
    cmdline.add_options(found)
    return found.added


def test_every_option_is_in_the_table_and_no_other(options):
    written = [cell.partition("=")[0] for cell in first_cells(section("Command line"))]
    assert written == list(options)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: p.name)
def test_no_page_names_an_option_that_does_not_exist(options, page):
    assert set(re.findall(r"--infer-[a-z-]*[a-z]", page.read_text())) <= set(options)


def test_values_of_options_are_those_of_the_command_line(options):
    for name, fields in options.items():
        value = "|".join(fields["choices"]) if "choices" in fields else fields.get("metavar")
        written = f"`{name}={value}`" if value else f"`{name}`"
        assert f"| {written} |" in section("Command line").replace("\\|", "|")


def test_workload_arguments():
    written = first_cells(section("infer_workload").partition("Arrivals:")[0])
    assert set(written) == {*ARGUMENTS, "pin"}
    of_a_class = written[: written.index("extra_body") + 1]
    assert {*of_a_class, "share"} == {*CLASS_ARGUMENTS}


def forms(title):
    """(text, type) of each row of the table behind that line which has both, as Python writes them."""
    rows = section("infer_workload").partition(f"{title}:\n")[2].strip().partition("\n\n")[0]
    found = re.findall(r"^\| `(.+?)` \| `(.+?)` \|", rows.replace("\\|", "\0"), re.MULTILINE)
    return [(text.replace("\0", "|"), made) for text, made in found]


def typed(made):
    """A type of ours from its constructor's text."""
    return eval(made, {name: getattr(pytest_inferforge, name) for name in pytest_inferforge.__all__})


@pytest.mark.parametrize(("text", "made"), forms("Arrivals"))
def test_arrivals_mean_their_types(text, made):
    assert arrivals.parse(json.loads(text)) == typed(made)


@pytest.mark.parametrize(("text", "made"), forms("Lengths"))
def test_lengths_mean_their_types(text, made, tmp_path):
    (tmp_path / "lengths.txt").write_text("64\n80\n512\n")
    assert lengths.parse(json.loads(text), "turns", folder=tmp_path) == typed(made)


def test_every_kind_is_in_the_tables():
    assert {made.partition("(")[0] for _, made in forms("Arrivals")} == {
        kind.__name__ for kind in arrivals.Arrivals.__args__
    }
    assert {made.partition("(")[0] for _, made in forms("Lengths")} == {
        kind.__name__ for kind in lengths.Lengths.__args__
    }


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (content.parse_prefixes, "4 x 512 tokens, 80 %"),
        (content.parse_images, "2 x 512x512"),
        (content.parse_pause, "exponential 2 s"),
    ],
)
def test_contents_mean_their_types(read, text):
    kind = type(read(text)).__name__
    made = re.search(rf"`({kind}\(.*?\))`", section("infer_workload"))[1]
    assert f'"{text}"' in section("infer_workload")
    assert read(text) == typed(made)


def test_workload_defaults():
    cells = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section("infer_workload"), re.MULTILINE))
    known = LoadOptions()
    assert cells["timeout"] == f"{known.request_timeout_s:g} s"
    assert cells["stall_timeout"] == f"{known.stall_timeout_s:g} s"
    assert cells["drain_timeout"] == f"{known.drain_timeout_s:g} s"
    assert cells["seed"] == str(known.seed)


def test_arguments_of_quality_and_their_defaults():
    text = section("infer_quality")
    assert tuple(first_cells(text)) == (*quality_words.ARGUMENTS, "pin")
    cells = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))
    known = QualityOptions()
    shown = {name: cells[name] for name in ("not_worse_than", "concurrency", "timeout", "retries", "seed")}
    assert shown == {
        "not_worse_than": f"{100 * JudgeOptions().quality_margin:g} pt",
        "concurrency": str(known.concurrency),
        "timeout": f"{known.timeout_s:g} s",
        "retries": str(known.retries),
        "seed": str(known.seed),
    }
    assert all(f"`{split}`" in text for split in quality_words.SPLITS)
    said = next(line for line in cmdline.MARKERS if line.startswith("infer_quality"))
    assert set(re.findall(r"(\w+)=", said)) == {*quality_words.ARGUMENTS, "pin"}


def test_the_page_on_quality_has_the_same_arguments_and_all_packs():
    page = (DOCS / "quality.md").read_text()
    arguments = page.partition("## Arguments")[2].partition("\n## ")[0]
    assert set(first_cells(arguments)) == set(quality_words.ARGUMENTS)
    packs = page.partition("| pack | what it asks |")[2].partition("\n\n")[0]
    assert first_cells(packs) == [*PACKS]
    assert [name for name in PACKS if "choice" not in forms_of(name)] == ["forge_instructions"]


def test_what_the_quality_fixture_offers():
    rows = section("Quality").partition("| `Quality` |")[2].partition("\n\n")[0]
    names = re.findall(r"`\.(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE)))
    assert set(names) == {*Quality.__dataclass_fields__, "outcomes", "seconds"}
    told = {name: re.search(rf"^\| `\.{name}` \| (.*) \|$", rows, re.MULTILINE)[1] for name in names[:2]}
    for name, kind in (("outcomes", Outcomes), ("evaluation", Evaluation)):
        fields = {*kind.__dataclass_fields__} | ({"value"} if kind is Outcomes else set())
        assert set(re.findall(r"`([a-z_]+)`", told[name])) == fields


def test_settings():
    text = section("Engines and their settings").partition("**`url`**")[0]
    neutral, _, rest = text.partition("**`llama.cpp`**")
    assert tuple(re.findall(r"`(\w+)`", neutral)) == VOCABULARY
    assert tuple(first_cells(rest)) == llamacpp.SETTINGS


def test_words_of_a_server():
    written = first_cells(section("infer_server"))
    assert set(written) == {*server_words.WORDS, "server", "pin"}
    said = next(line for line in cmdline.MARKERS if line.startswith("infer_server"))
    assert set(re.findall(r"(\w+)=", said)) - {"SETTING"} <= set(written)


def test_the_command_takes_the_options_that_it_says():
    added = []
    cmdline.add_boot_options(lambda name, **_: added.append(name))
    options = [cell.partition("=")[0] for cell in first_cells(section("Command line"))]
    assert options[: len(added)] == added
    assert f"from `{added[0]}` to `{added[-1]}`, and `--infer-store`" in section("The command inferforge")


def commands(parser, path=("inferforge",)):
    """Path -> the options of every command that does something."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        return {" ".join(path): {o for action in parser._actions for o in action.option_strings}}
    found = {}
    for name, child in inner[0].choices.items():
        found |= commands(child, (*path, name))
    return found


def test_every_command_is_in_the_table_with_its_options():
    declared = commands(cli.parser())
    del declared["inferforge keep"]  # what `up` starts
    rows = re.findall(
        r"^\| `(inferforge [a-z ]+[a-z]).*?` .*$", section("The command inferforge"), re.MULTILINE
    )
    assert set(rows) == set(declared)
    for command, options in declared.items():
        if command in ("inferforge up", "inferforge down"):
            continue  # theirs are pytest's
        row = next(r for r in section("The command inferforge").splitlines() if f"`{command}" in r)
        assert options - {"-h", "--help", "--store", "--infer-store"} == set(
            re.findall(r"--[a-z-]+", row)
        ) - {f"--infer-{name}" for name in ("policy", "json", "under-test")}, command


def test_the_json_example_has_the_servers_keys():
    shown = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])
    (test,) = shown["tests"]
    assert set(test["server"]) == {*ServerSpec(engine="llama.cpp").identity(), "fingerprint"}


def test_dialects():
    assert re.findall(r"`([^`]+)`", section("Dialects").partition(".\n")[0].split("Behind")[0]) == [*DIALECTS]


def test_keys_of_the_project_file():
    block = re.search(r"```toml\n(.*?)```", section("Project file"), re.DOTALL)[1]
    keys = set(re.findall(r"^\[(\w+)\]|^(\w+) =", block.partition("[settings]")[0], re.MULTILINE))
    tables = set(re.findall(r"^\[(\w+)", block, re.MULTILINE))
    assert {key for pair in keys for key in pair if key} | tables == settings.FILE_KEYS
    margins = block.partition("[margins]")[2].partition("[limits]")[0]
    assert set(re.findall(r"^(\w+) =", margins, re.MULTILINE)) == settings.MARGINS
    limits, _, servers = block.partition("[limits]")[2].partition("[servers.")
    limits = dict(re.findall(r'^(\w+) = "(.+?)"', limits, re.MULTILINE))
    assert set(limits) == set(settings.LIMITS)
    for name, (field, unit) in settings.LIMITS.items():
        assert units.parse(limits[name], unit) == getattr(LoadOptions(), field)
    said = set(re.findall(r"^(\w+) =", servers, re.MULTILINE))
    assert said <= {*server_words.WORDS, *VOCABULARY}
    shown = dict(re.findall(r"^(workers|floor_requests) = (\S+)", block, re.MULTILINE))
    assert shown == {"workers": '"auto"', "floor_requests": str(LoadOptions().floor_requests)}


def test_what_the_server_fixture_offers():
    written = re.findall(r"`\.(\w+)", section("The server"))
    assert set(written) == {name for name in vars(InferServer) if not name.startswith("_")}


def test_columns_of_a_request_table():
    rows = dict(re.findall(r"^\| `\.(times|counts|texts)\[.*?` \| .*?: (.*) \|$", TEXT, re.MULTILINE))
    assert re.findall(r"`(\w+)`", rows["times"]) == [*table.TIMES]
    assert re.findall(r"`(\w+)`", rows["counts"]) == [*table.COUNTS]
    assert re.findall(r"`(\w+)`", rows["texts"]) == [*table.TEXTS]


@pytest.mark.parametrize(
    ("title", "kind"),
    [("Run", run.Run), ("RunBoot", run.RunBoot), ("RequestTable", table.RequestTable)],
)
def test_attributes_that_are_written_exist(title, kind):
    rows = section("A run").partition(f"| `{title}` |")[2].partition("\n\n")[0]
    for name in re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE):
        for attribute in re.findall(r"`\.(\w+)", name):
            assert hasattr(kind, attribute) or attribute in kind.__dataclass_fields__


def test_fields_of_an_slo_result():
    row = re.search(r"^\| `\.slos` .*", TEXT, re.MULTILINE)[0]
    assert set(re.findall(r"`([a-z_]+)`", row)) == {*SloResult.__dataclass_fields__}


def test_fields_of_what_a_boot_holds():
    for name, kind in (("client_floor", floor.Floor), ("steps", run.Step)):
        row = re.search(rf"^\| `\.{name}` \| (.*) \|$", TEXT, re.MULTILINE)[1]
        assert set(re.findall(r"`([a-z0-9_]+)`", row)) == {*kind.__dataclass_fields__}


def test_the_json_example_has_the_documents_keys():
    shown = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])
    assert shown["schema"] == document.SCHEMA
    (comparison,) = shown["comparisons"]
    assert set(comparison) == {*document._COMPARISON, "variant", "class", "name", "baseline"}
    (quality,) = shown["quality"]
    assert set(quality) == {*QualityResult.__dataclass_fields__, "variant"}
    (test,) = shown["tests"]
    assert [set(slo) for slo in test["slo"]] == [set(document._SLO)]


def test_verdicts_and_policies_stand_on_the_page_on_judging():
    page = (DOCS / "how-it-judges.md").read_text()
    for word in (*SloVerdict, *ComparisonVerdict, *QualityVerdict):
        assert f"`{word}`" in page
    assert all(f"`{word}`" in TEXT for word in (*QualityKind, *QualityVerdict))
    assert all(f"`{name}`" in page for name in cmdline.POLICIES if name != "default")
    assert policy.of_unjudged("default", recording=True) is policy.Consequence.WARN

"""docs/engines.md against the engines' modules."""

import re
from pathlib import Path

import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines.installation import Found
from pytest_inferforge.engines.protocol import VOCABULARY
from pytest_inferforge.engines.settings import Written
from pytest_inferforge.servers.spec import ServerSpec, pairs

TEXT = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
SECTIONS = {
    "llama.cpp": "llama.cpp",
    "llama-server": "llama-server",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tensorrt-llm": "TensorRT-LLM",
    "tgi": "TGI",
    "transformers": "transformers",
    "lmdeploy": "LMDeploy",
    "ollama": "Ollama",
    "custom": "A server of your own",
    "url": "A URL",
    "anthropic": "A URL",
}
METHODS = ("ngram", "draft", "eagle", "mtp")
# Values of every kind that a setting takes; each is tried on each setting.
VALUES = [
    True, False, 1, 2, 0.5, "auto", "float16", "fp8", "q8_0", "bnb-4bit", "pytorch",
    *(pairs({"method": method, "model": "draft", "tokens": 4}) for method in METHODS),
]  # fmt: skip


def section(title):
    """The text from a heading to the next one of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    assert found, title
    rest = TEXT[found.end() :]
    end = re.search(rf"^#{{2,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(title, column):
    """The tables below a heading whose first column is called so: first cell -> the others by column."""
    found, names = {}, None
    for line in section(title).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            names = None
        elif cells[0] == column:
            names = [name.strip("`") for name in cells]
        elif names is not None and not cells[0].startswith("---"):
            found.setdefault(cells[0].strip("`"), {}).update(zip(names[1:], cells[1:], strict=True))
    return found


def table_of(name):
    """An engine's settings and what becomes of them; None where it has none of its own."""
    module = engines.engine(name)
    return module.table(None) if hasattr(module, "table") else getattr(module, "TABLE", None)


def keys(config, before=""):
    for name, value in config.items():
        yield before + name
        if isinstance(value, dict):
            yield from keys(value, f"{before}{name}.")


def written(read, put):
    """Flags, variables and keys of the configuration that a setting is written as, over all its values."""
    words = set()
    for value in VALUES:
        into = Written()
        try:
            put(into, read(value))
        except ValueError:
            continue
        words |= {word for word in into.argv if re.match(r"--\w", word)} | {*into.env, *keys(into.config)}
    return words


WITH_TABLES = [name for name in engines.ENGINES if table_of(name) is not None]
CELLS = rows("Settings", "setting")


def test_every_engine_is_in_the_overview_in_the_order_of_the_code():
    assert list(rows("The engines", "`--infer-backend`")) == list(engines.ENGINES)


def test_the_tables_of_settings_have_the_vocabulary_as_rows_and_the_engines_as_columns():
    assert list(CELLS) == list(VOCABULARY)
    for setting, cells in CELLS.items():
        assert set(cells) == set(WITH_TABLES), setting


@pytest.mark.parametrize("name", WITH_TABLES)
def test_cells_say_what_becomes_of_a_setting(name):
    table = table_of(name)
    for setting, cells in CELLS.items():
        cell = cells[name]
        if setting not in table:
            assert cell == "-", (setting, cell)
            continue
        words, shown = written(*table[setting]), set(re.findall(r"`([^`]+)`", cell))
        assert shown <= words, (setting, cell)
        if "..." not in cell:  # it says all of it, and of nested keys the innermost
            assert shown == words - {word.rpartition(".")[0] for word in words}, (setting, cell)
        assert bool(shown) == bool(words), (setting, cell)
        assert cell not in ("", "-"), setting


def test_settings_that_are_an_engines_own_are_listed():
    (listed,) = re.findall(r"Settings that one engine alone has: (.*?)\.\n\n", section("Settings"), re.DOTALL)
    listed = " ".join(listed.split())
    found = {}
    for names, where in re.findall(r"((?:`\w+`(?:, | and )?)+) \((.*?)\)", listed):
        for engine in re.findall(r"`([a-z.-]+)`", where):
            found.setdefault(engine, set()).update(re.findall(r"`(\w+)`", names))
    own = {name: set(engines.engine(name).SETTINGS) - set(VOCABULARY) for name in engines.ENGINES}
    assert found == {name: settings for name, settings in own.items() if settings}


def test_methods_of_speculation_are_those_that_are_taken():
    def taken(name):
        read, _ = table_of(name)["speculative"]
        found = set()
        for value in VALUES[-len(METHODS) :]:
            try:
                found.add(read(value).method)
            except ValueError:
                continue
        return found

    assert {name: taken(name) for name in WITH_TABLES if "speculative" in engines.engine(name).SETTINGS} == {
        **{name: {*METHODS} for name in ("llama.cpp", "llama-server", "vllm", "sglang", "tensorrt-llm")},
        "lmdeploy": {"eagle", "mtp"},
        "tgi": {"ngram"},
    }
    assert "`lmdeploy` has the last two, `tgi` the first." in " ".join(section("Settings").split())


@pytest.mark.parametrize("name", engines.ENGINES)
def test_limits_stand_in_its_section(name):
    there = {item.casefold() for item in items(section(SECTIONS[name]))}
    for limit in engines.engine(name).LIMITS:
        assert f"{limit}.".casefold() in there


def items(text):
    """Each item of the lists in a text, on one line."""
    found = re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)
    return [" ".join(item.split()) for item in found]


@pytest.mark.parametrize("name", [n for n in WITH_TABLES if hasattr(engines.engine(n), "KIND")])
def test_the_command_and_what_is_added_to_it_stand_in_its_section(name, tmp_path):
    module, text = engines.engine(name), section(SECTIONS[name])
    spec = ServerSpec(engine=name, model="M")
    for way in module.KIND.ways:
        found = Found(way=way, program=("it",), version="999", dists=(name,))
        own = module.arguments(spec, "127.0.0.1", 20001, tmp_path, found)
        flags = [word for word in own.argv if word.startswith("--")]
        for word in (*flags, *own.env, *([way.model_flag] if way.model_flag and way.script else [])):
            assert word in text, word
    way = module.KIND.ways[0]
    (command,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    program = " ".join([way.script, *way.arguments])
    assert program in command
    assert set(re.findall(r"--[\w-]+", command)) <= {*flags, way.model_flag}


def test_times_and_keys_of_a_boot():
    found = rows("From the start to the first token", "engine")
    assert list(found) == [name for name in engines.ENGINES if name != "anthropic"]
    for name, cells in found.items():
        kind = getattr(engines.engine(name), "KIND", None)
        if kind is None:
            continue
        assert cells["may take"] == f"{kind.boot_s:g} s", name
        assert cells["from SIGTERM to SIGKILL"] == f"{kind.grace_s:g} s", name
        if name != "custom":
            key = "refused" if kind.key_variable is None else f"`{kind.key_variable}`"
            assert cells["API key"] == key, name


def test_as_many_names_as_an_engine_has():
    numbers = {12: "twelve"}
    assert f"with {numbers[len(engines._NAMES)]} names" in section("Engines of your own")

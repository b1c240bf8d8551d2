"""Which server a test runs on, and what is said when it cannot be had: commands, names, secrets, engines."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

USAGE = 4  # pytest's exit code
HOUSE = Path(__file__).parents[2] / "example_suites" / "custom_engine"
LLAMA = "--infer-backend=llama.cpp"

# A small server that is started by a command: the timetable server, in the process that was started.
SERVE = """
    import argparse, json, os, sys, tempfile
    from dataclasses import asdict
    from pathlib import Path

    from pytest_inferforge.testing.timetable import Timetable

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--say")
    option = parser.parse_args()
    if option.say:
        sys.exit(os.environ[option.say])
    folder = Path(tempfile.mkdtemp())
    config = Timetable(
        port=option.port, slots=option.slots, ttft_s=0.002, gap_s=0.001, api_key=os.environ.get("HOUSE_KEY")
    )
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    module = "pytest_inferforge.testing.timetable_process"
    arguments = [sys.executable, "-m", module, str(folder / "config.json"), str(folder / "address")]
    os.execv(sys.executable, arguments)
"""
COMMAND = f"{sys.executable} serve.py --port {{port}}"  # started where pytest was
LOAD = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 2", requests=8, prompt_tokens=16, output_tokens=4)
    def test_load(infer_run):
        assert infer_run.metrics["error_ratio"] == 0
"""
WITH_NEEDS = LOAD.replace("    @pytest", "    @pytest.mark.infer_server(NEEDS)\n    @pytest", 1)
PID = """
    import os, pathlib

    def environment(pid):
        lines = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\\0")
        return dict(line.split("=", 1) for line in lines if line)

    def test_it(infer_server):
        CHECK
"""
LOADED = "test_a.py::test_load"


@pytest.fixture
def suite(suite, calm):
    """With a server to start, and a function that adds to the project's file."""
    suite.write("serve.py", SERVE)
    suite.write("test_a.py", LOAD)

    def configure(tables, above=""):
        suite.write("inferforge.toml", f"{above}\n{calm}\n{tables}")

    suite.configure = configure
    return suite


def server_of(done):
    """What the JSON document says of the only test's server."""
    (test,) = done.document["tests"]
    return test["server"]


def needing(suite, **needs):
    said = ", ".join(f"{name}={value!r}" for name, value in needs.items())
    suite.write("test_a.py", WITH_NEEDS.replace("NEEDS", said))


def files_with(folder, text):
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def gone(pid, within_s=10.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def listener(url):
    """The process that listens at a URL."""
    port = int(url.rpartition(":")[2])
    (found,) = {c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"}
    return found


# -- a command, verbatim -------------------------------------------------------------------------------------


def test_a_command_is_booted_measured_and_ended(suite):
    suite.write("test_b.py", PID.replace("CHECK", 'open("pid", "w").write(str(infer_server.pid))'))
    done = suite.run(f"--infer-command={COMMAND}")
    assert done.outcomes == {LOADED: "passed", "test_b.py::test_it": "passed"}, done.output
    server = server_of(done)
    assert (server["engine"], server["command"]) == ("custom", COMMAND)
    (boot,) = done.document["tests"][0]["boots"]
    assert boot["requests"]["completed"] == 8
    assert boot["ready_s"] > 0
    assert gone(int((suite.folder / "pid").read_text()))
    assert list((suite.folder / ".inferforge").glob("runs/*/custom-1.log"))


def test_each_boot_of_a_command_is_a_fresh_process(suite):
    done = suite.run(f"--infer-command={COMMAND}", "--infer-boots=2")
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert [boot["boot"] for boot in done.document["tests"][0]["boots"]] == [1, 2]


def test_arguments_are_put_behind_a_command(suite):
    done = suite.run(f"--infer-command={COMMAND}", "--infer-arg=--slots", "--infer-arg=1")
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert server_of(done)["args"] == ["--slots", "1"]
    unknown = suite.run(f"--infer-command={COMMAND}", "--infer-arg=--slotz=1")
    assert unknown.outcomes == {LOADED: "error"}
    assert "unrecognized arguments: --slotz=1" in unknown.failures[LOADED]
    assert "compare --infer-arg and the settings with its --help" in unknown.failures[LOADED]


def test_what_markers_need_of_a_command_is_left_out_with_a_note(suite):
    needing(suite, max_num_seqs=2)
    done = suite.run(f"--infer-command={COMMAND}")
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert f"{LOADED}: in a command given verbatim nothing can be set: max_num_seqs=2" in done.output
    assert server_of(done)["settings"] == {}


def test_what_is_set_on_the_command_line_beside_a_command_is_refused(suite):
    for command in (COMMAND, "vllm serve m --port {port}"):
        done = suite.run(f"--infer-command={command}", "--infer-set=max_num_seqs=2")
        assert done.exit_code == USAGE
        assert "settings are not written into a command that was given verbatim" in done.output
        assert "seen: max_num_seqs=2" in done.output


def test_a_command_says_which_engine_it_starts_whatever_the_file_says(suite):
    suite.configure("", above='backend = "llama.cpp"')
    assert server_of(suite.run(f"--infer-command={COMMAND}"))["engine"] == "custom"
    done = suite.run("--infer-command=no-such-folder/vllm serve m --port {port}")
    assert done.outcomes == {LOADED: "error"}
    assert "inferforge: vllm no-such-folder/vllm serve m" in done.output
    assert "no-such-folder/vllm cannot be started" in done.failures[LOADED]


def test_the_key_of_a_server_that_is_started_comes_from_the_environment(suite):
    key = "a-key-that-nobody-guesses"
    done = suite.run(f"--infer-command={COMMAND}", "--infer-api-key-env=HOUSE_KEY", env={"HOUSE_KEY": key})
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert key not in done.output
    assert files_with(suite.folder, key) == []
    without = suite.run(f"--infer-command={COMMAND}", env={"HOUSE_KEY": key})
    assert without.outcomes == {LOADED: "error"}
    assert "the server wants an API key" in without.failures[LOADED]


# -- named servers, and whose word counts --------------------------------------------------------------------


def test_a_server_of_the_file_is_chosen_by_option_and_by_marker(suite):
    suite.configure(f"[servers.ours]\ncommand = {COMMAND!r}\nargs = ['--slots', '2']")
    by_option = server_of(suite.run("--infer-server=ours", "--infer-quick"))
    needing(suite, server="ours")
    by_marker = server_of(suite.run("--infer-quick"))
    assert by_option == by_marker
    assert (by_option["engine"], by_option["args"]) == ("custom", ["--slots", "2"])


@pytest.mark.parametrize("where", ["option", "marker"])
def test_an_unknown_server_is_refused_with_the_nearest(where, suite):
    suite.configure("[servers.small]\nmax_num_seqs = 1\n[servers.large]\nmax_num_seqs = 8")
    if where == "marker":
        needing(suite, server="smal")
    done = suite.run(*(["--infer-server=smal"] if where == "option" else []))
    assert done.exit_code == USAGE
    assert "no server has that name" in done.output
    assert "seen: 'smal'" in done.output
    assert "did you mean small?" in done.output


def test_command_line_over_marker_over_named_over_the_rest_of_the_file(suite):
    suite.configure(
        "[settings]\nmax_num_seqs = 8\nmax_model_len = 512\nseed = 5\nthreads = 1\n"
        '[servers.small]\nbackend = "llama.cpp"\nmax_num_seqs = 2\nmax_model_len = 1024\nseed = 3'
    )
    needing(suite, server="small", max_num_seqs=3, max_model_len=2048)
    found = server_of(suite.run("--infer-set=max_num_seqs=1", "--infer-quick"))
    assert found["settings"] == {"max_num_seqs": 1, "max_model_len": 2048, "seed": 3, "threads": 1}


def test_a_way_to_have_a_server_gives_way_to_a_stronger_one(suite, timetable):
    suite.configure(f"[servers.ours]\ncommand = {COMMAND!r}")
    needing(suite, server="ours")
    url = timetable()
    done = suite.run(f"--infer-url={url}")
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert (server_of(done)["url"], server_of(done)["command"]) == (url, None)
    assert not list((suite.folder / ".inferforge").glob("runs/*/custom-1.log"))


def test_a_pinned_command_is_booted_whatever_is_asked_for(suite):
    needing(suite, command=COMMAND, pin=True)
    done = suite.run("--infer-url=http://me:hf_hidden@127.0.0.1:9")
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert "command is pinned; url was asked for on the command line" in done.output
    assert "hf_hidden" not in done.output


def test_what_a_boot_would_be_told_is_left_out_behind_a_url(suite, timetable):
    needing(suite, args=["--slots=1"], env={"COLOUR": "red"}, port=20000)
    done = suite.run(f"--infer-url={timetable()}")
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert "behind a URL nothing can be set: env, port=20000, --slots=1 left to its owner" in done.output


# -- the environment, and secrets ----------------------------------------------------------------------------


def test_variables_reach_the_server(suite):
    suite.write("test_a.py", PID.replace("CHECK", 'assert environment(infer_server.pid)["COLOUR"] == "red"'))
    done = suite.run(f"--infer-command={COMMAND}", "--infer-env=COLOUR=red")
    assert done.outcomes == {"test_a.py::test_it": "passed"}, done.output


def test_a_secret_is_handed_on_by_name_and_stands_nowhere(suite):
    check = 'assert environment(infer_server.pid)["HF_TOKEN"].startswith("hf_")'
    suite.write("test_b.py", PID.replace("CHECK", check))
    secret = "hf_nobody_may_read_this"
    arguments = (f"--infer-command={COMMAND}", "--infer-env=HF_TOKEN", "--infer-save=main", "-v")
    done = suite.run(*arguments, env={"HF_TOKEN": secret})
    assert done.exit_code == 0, done.output
    assert server_of(done)["env"] == {"HF_TOKEN": "[redacted]"}
    assert secret not in done.output
    assert files_with(suite.folder, secret) == []


def test_a_secret_that_the_server_prints_is_not_in_the_error(suite):
    secret = "hf_nobody_may_read_this"
    arguments = (f"--infer-command={COMMAND} --say HF_TOKEN", "--infer-env=HF_TOKEN")
    done = suite.run(*arguments, env={"HF_TOKEN": secret})
    assert done.outcomes == {LOADED: "error"}
    assert "[redacted]" in done.failures[LOADED]
    assert secret not in done.output


def test_a_variable_that_is_not_set_here_is_noted(suite):
    done = suite.run(f"--infer-command={COMMAND}", "--infer-env=HF_TOKN", "--infer-quick")
    assert done.exit_code == 0, done.output
    assert "HF_TOKN is to be handed on, and is not set here" in done.output


# -- installations -------------------------------------------------------------------------------------------


def test_an_environment_without_the_engine_is_a_setup_error_that_says_what_was_looked_at(suite):
    done = suite.run("--infer-backend=vllm", "--infer-model=org/m", f"--infer-python={sys.executable}")
    assert done.outcomes == {LOADED: "error"}
    said = done.failures[LOADED]
    assert "vllm is not installed here" in said
    assert f"seen: no vllm beside {sys.executable}; {sys.executable} has no package vllm" in said
    for way in ("--infer-python", "--infer-command", "--infer-image", "--infer-url"):
        assert way in said
    assert "Traceback" not in done.output


# -- what can be known to be wrong ---------------------------------------------------------------------------

REFUSED = {
    "no model": (("--infer-backend=vllm",), ["vllm needs a model", "--infer-model=MODEL"]),
    "no such folder": (
        ("--infer-backend=vllm", "--infer-model=./nowhere"), ["no such model", "./nowhere: no such folder"],
    ),
    "a setting it lacks": (
        ("--infer-backend=tgi", "--infer-model=org/m", "--infer-set=seed=1"),
        ["tgi has no setting 'seed'", "it takes dtype, max_model_len"],
    ),
    "a value it does not take": (
        ("--infer-backend=vllm", "--infer-model=org/m", "--infer-set=memory_fraction=2"),
        ["vllm cannot take this memory_fraction", "above 0 and at most 1"],
    ),
    "a lost variable": (("--infer-backend=",), ["backend is empty"]),
    "a secret": (
        (LLAMA, "--infer-env=HF_TOKEN=hf_hidden"),
        ["by its name alone", "seen: HF_TOKEN=...", "--infer-env=HF_TOKEN"],
    ),
    "no port": (("--infer-command=serve",), ["does not say where the port goes", "{port}"]),
    "no model for its place": (
        ("--infer-command=serve {model} {port}",), ["the command asks for a model", "--infer-model=MODEL"],
    ),
    "two ways": (
        ("--infer-command=serve {port}", "--infer-url=http://me:hf_hidden@127.0.0.1:9"),
        ["in one way only", "seen: command and url"],
    ),
    "boots behind a url with a password": (
        ("--infer-boots=2", "--infer-url=http://me:hf_hidden@127.0.0.1:9"),
        ["cannot be booted again", "--infer-restart-command"],
    ),
    "python of which engine": (
        (f"--infer-python={sys.executable}",), ["which engine it is was not said", "--infer-backend="],
    ),
    "image of which engine": (("--infer-image=org/image",), ["which engine it is was not said"]),
    "nothing to restart": (
        (LLAMA, "--infer-restart-command=true"), ["only a server behind a URL", "--infer-url"],
    ),
    "arguments for a url": (
        ("--infer-url=http://127.0.0.1:9", "--infer-arg=--slots"),
        ["a server behind a URL cannot be told how to run", "seen: --slots"],
    ),
    "no port of this world": ((LLAMA, "--infer-port=99999"), ["port is not a whole number from 1 to 65535"]),
    "nothing is up": (("--infer-attach",), ["no server default is up", "inferforge up"]),
    "attached and saved": (
        ("--infer-attach", "--infer-save=main"), ["for the edit loop", "--infer-attach with --infer-save"],
    ),
    "attached and compared": (("--infer-attach", "--infer-compare=main"), ["with --infer-compare"]),
    "attached and booted": (("--infer-attach", "--infer-boots=2"), ["with --infer-boots"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda name: name.replace(" ", "-"))
def test_refused_before_anything_boots(suite, case):
    args, told = REFUSED[case]
    done = suite.run(*args)
    assert done.exit_code == USAGE, done.output
    for words in (*told, "seen:", "do:"):
        assert words in done.output
    assert "Traceback" not in done.output
    assert "hf_hidden" not in done.output
    assert not list((suite.folder / ".inferforge").glob("runs/*/*"))


def test_words_that_are_none_are_refused_with_their_test(suite):
    wrong = {
        "command": (5, "command is not a text"),
        "url": (4, "url is not a text"),
        "backend": ("", "backend is empty"),
        "port": ("x", "port is not a whole number"),
        "args": ("--slots", "args is not a list of texts"),
        "env": (["API_KEY=x"], "a secret is handed on by its name alone"),
        "boot_timeout": ([1], "boot_timeout is no time"),
        "server": (3, "no server has that name"),
    }
    lines = ["import pytest"]
    for name, (value, _) in wrong.items():
        lines += [
            f"@pytest.mark.infer_server({name}={value!r})",
            f"def test_{name}(infer_server): pass",
        ]
    suite.write("test_a.py", "\n".join(lines))
    done = suite.run()
    assert done.exit_code == USAGE, done.output
    for name, (_, told) in wrong.items():
        assert f"test_a.py::test_{name}: {told}" in done.output
    assert "INTERNALERROR" not in done.output


# -- a server behind a URL that a command restarts -----------------------------------------------------------

RESTART = """
    import os, signal, subprocess, sys, time
    from pathlib import Path

    port, pid = sys.argv[1], Path("running")
    if pid.exists() and len(sys.argv) < 3:
        os.kill(int(pid.read_text()), signal.SIGKILL)
        time.sleep(0.2)
    if len(sys.argv) < 3 or not pid.exists():
        started = subprocess.Popen(
            [sys.executable, "serve.py", "--port", port], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        pid.write_text(str(started.pid))
"""


@pytest.fixture
def restartable(suite):
    """The URL of a server that the suite's restart.py starts and restarts, and that script's command."""
    suite.write("restart.py", RESTART)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = f"{sys.executable} restart.py {port}"
    subprocess.run(command.split(), cwd=suite.folder, check=True)
    yield f"http://127.0.0.1:{port}", command
    with contextlib.suppress(ProcessLookupError):  # the suite ends what pytest has started
        os.kill(int((suite.folder / "running").read_text()), signal.SIGKILL)


def test_a_command_restarts_what_runs_behind_a_url(suite, restartable):
    url, command = restartable
    first = (suite.folder / "running").read_text()
    done = suite.run(f"--infer-url={url}", "--infer-boots=2", f"--infer-restart-command={command}")
    assert done.outcomes == {LOADED: "passed"}, done.output
    assert [boot["boot"] for boot in done.document["tests"][0]["boots"]] == [1, 2]
    assert (suite.folder / "running").read_text() != first


def test_a_restart_that_fails_or_restarts_nothing_is_an_error(suite, restartable):
    url, command = restartable
    fails = f"{sys.executable} -c 'raise SystemExit(\"no such unit\")'"
    for restart, told in (
        (fails, ["the restart command failed", "exit code 1: no such unit", "run it by hand"]),
        (f"{command} not-really", ["the server was not restarted", "is the one from before"]),
    ):
        done = suite.run(f"--infer-url={url}", "--infer-boots=2", f"--infer-restart-command={restart}")
        assert done.outcomes == {LOADED: "error"}, done.output
        for words in told:
            assert words in done.failures[LOADED]


# -- the command `inferforge`, and servers that stay up ------------------------------------------------------


@pytest.fixture
def inferforge(suite):
    """The command, run in the suite's folder; what it brought up is ended afterwards."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}

    def run(*arguments, timeout_s=60.0):
        return subprocess.run(
            [sys.executable, "-m", "pytest_inferforge.cli", *arguments],
            cwd=suite.folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    yield run
    for note in (suite.folder / ".inferforge" / "up").glob("*.json"):
        run("down", note.stem)


def note_of(suite, name):
    return json.loads((suite.folder / ".inferforge" / "up" / f"{name}.json").read_text())


def test_a_server_is_brought_up_used_and_brought_down(suite, inferforge):
    suite.configure(f"[servers.ours]\ncommand = {COMMAND!r}", above="boots = 3")
    up = inferforge("up", "ours")
    assert up.returncode == 0, up.stderr
    assert "ours is up: custom timetable at http://127.0.0.1:" in up.stdout
    assert "use it with: pytest --infer-attach=ours ..." in up.stdout
    server = listener(note_of(suite, "ours")["url"])
    needing(suite, max_num_seqs=2)
    for other in ((), ("--infer-backend=vllm",)):  # it stands for whatever else is said
        done = suite.run("--infer-attach=ours", *other)
        assert done.outcomes == {LOADED: "passed"}, done.output
        assert len(done.document["tests"][0]["boots"]) == 1
        assert listener(note_of(suite, "ours")["url"]) == server
    assert "is up already" in inferforge("up", "ours").stdout
    assert (suite.folder / ".inferforge" / "up" / ".gitignore").read_text() == "*\n"
    down = inferforge("down", "ours")
    assert (down.returncode, down.stdout) == (0, "ours is down\n")
    assert gone(server)
    again = inferforge("down", "ours")
    assert again.returncode == 2
    assert "no server ours is up" in again.stderr


def test_the_default_server_is_the_toy_and_takes_options(suite, inferforge):
    up = inferforge("up", "--infer-set", "max_num_seqs=1", LLAMA)
    assert up.returncode == 0, up.stderr
    assert "use it with: pytest --infer-attach ..." in up.stdout
    suite.write(
        "test_a.py",
        """
        def test_slots(infer_server):
            with infer_server.client() as client:
                assert client.get("/props").json()["total_slots"] == 1
        """,
    )
    done = suite.run("--infer-attach")
    assert done.outcomes == {"test_a.py::test_slots": "passed"}, done.output


def test_a_server_that_died_is_not_attached_to(suite, inferforge):
    suite.configure(f"[servers.ours]\ncommand = {COMMAND!r}")
    assert inferforge("up", "ours").returncode == 0
    note = note_of(suite, "ours")
    os.kill(listener(note["url"]), signal.SIGKILL)
    assert gone(note["keeper"][0])
    done = suite.run("--infer-attach=ours")
    assert done.exit_code == USAGE
    assert "no server ours is up" in done.output
    assert "bring it up: inferforge up ours" in done.output


def test_a_server_dies_with_its_keeper(suite, inferforge):
    suite.configure(f"[servers.ours]\ncommand = {COMMAND!r}")
    assert inferforge("up", "ours").returncode == 0
    note = note_of(suite, "ours")
    server = listener(note["url"])
    os.kill(note["keeper"][0], signal.SIGKILL)
    assert gone(server)
    assert suite.run("--infer-attach=ours").exit_code == USAGE


def test_a_boot_that_fails_is_told_with_the_log_and_leaves_nothing(suite, inferforge):
    failed = inferforge("up", f"--infer-command={COMMAND} --slotz")
    assert failed.returncode == 1
    assert "custom ended while booting" in failed.stderr
    assert "unrecognized arguments: --slotz" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list((suite.folder / ".inferforge" / "up").glob("*.json"))


def test_an_interrupted_boot_is_ended(suite):
    waits = f"{sys.executable} -c 'import time; time.sleep(600)' {{port}}"
    up = subprocess.Popen(
        [sys.executable, "-m", "pytest_inferforge.cli", "up", f"--infer-command={waits}"],
        cwd=suite.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    keeper = psutil.Process(int(up.stdout.readline().partition("process ")[2].partition(",")[0]))
    deadline = time.monotonic() + 20.0
    while not any("sleep" in " ".join(p.cmdline()) for p in keeper.children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server = keeper.children(recursive=True)
    up.send_signal(signal.SIGINT)
    try:
        _, said = up.communicate(timeout=20)
    except subprocess.TimeoutExpired:  # Python drops an interrupt that comes while it finalises an object
        up.send_signal(signal.SIGINT)
        _, said = up.communicate(timeout=30)
    assert up.returncode == 1
    assert "default is ended before it was up" in said
    assert gone(keeper.pid)
    assert all(gone(process.pid) for process in server)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("up", "nobody"), "no server has that name"),
        (("up", "--infer-backend=vllm"), "vllm needs a model"),
        (("down",), "no server default is up"),
        (("up", "--infer-save=main"), "unrecognized arguments: --infer-save=main"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        ((), "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_words_are_usage_errors(arguments, told, inferforge):
    done = inferforge(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_what_runs_elsewhere_is_not_brought_up(suite, inferforge):
    suite.configure('[servers.far]\nurl = "http://127.0.0.1:9"')
    done = inferforge("up", "far")
    assert done.returncode == 2
    assert "behind a URL is not brought up from here" in done.stderr


def test_the_doctor_names_every_engine_and_what_was_looked_at(inferforge):
    done = inferforge("doctor", f"--infer-python={sys.executable}")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert {"vllm", "sglang", "tensorrt-llm", "tgi", "transformers", "lmdeploy", "ollama"} <= set(lines)
    assert "embedded: xllamacpp" in lines["llama.cpp"]
    assert "GPU" in lines
    assert f"no vllm beside {sys.executable}" in lines["vllm"]


def test_the_help_says_what_each_command_does(inferforge):
    said = inferforge("--help").stdout
    for words in ("bring a server up", "end a server", "which engines, devices and programs"):
        assert words in said
    assert "SUPPRESS" not in said
    options = inferforge("up", "--help").stdout
    assert "--infer-command" in options
    assert "--infer-compare" not in options


# -- engines of your own -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["prepend", "importlib"])
def test_an_engine_of_a_conftest_is_booted_by_its_name(suite, how):
    (suite.folder / "test_a.py").unlink()
    shutil.copytree(HOUSE, suite.folder / "ours", ignore=shutil.ignore_patterns("__pycache__"))
    done = suite.run("--infer-backend=house", "--infer-quick", f"--import-mode={how}", "ours")
    assert set(done.outcomes.values()) == {"passed"}, done.output
    assert {test["server"]["engine"] for test in done.document["tests"]} == {"house"}
    assert [test["server"]["settings"] for test in done.document["tests"]] == [
        {"max_num_seqs": 4},
        {"max_num_seqs": 1},
    ]
    assert done.document["tests"][0]["server"]["fingerprint"]["soft"]["server.version"] == "1.0"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--infer-backend=house", "--infer-set=gap_mz=1"), ["house has no setting", "did you mean gap_ms?"]),
        (("--infer-backend=house", "--infer-image=org/house"), ["house is started from its own folder"]),
        (("--infer-backend=hause",), ["there is no engine 'hause'", "did you mean house?"]),
    ],
)
def test_an_engine_of_ones_own_refuses_as_all_do(suite, args, told):
    for name in ("house_engine.py", "house_server.py", "conftest.py"):
        shutil.copy(HOUSE / name, suite.folder / name)
    done = suite.run(*args)
    assert done.exit_code == USAGE, done.output
    for words in told:
        assert words in done.output


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            '{"house": SimpleNamespace(SETTINGS=())}',
            ["the engine house is not complete", "it lacks STARTS_PROCESS"],
        ),
        ('{"My House": None}', ["no name for an engine", "'My House' from the hook"]),
    ],
)
def test_an_engine_that_is_not_complete_is_refused(suite, given, told):
    suite.write(
        "conftest.py",
        f"""
        from types import SimpleNamespace

        def pytest_inferforge_engines():
            return {given}
        """,
    )
    done = suite.run(LLAMA)
    assert done.exit_code == USAGE, done.output
    for words in (*told, "do:"):
        assert words in done.output


def test_a_note_about_many_tests_is_said_once(suite, timetable):
    suite.write(
        "test_n.py",
        """
        import pytest
        pytestmark = pytest.mark.infer_server(max_model_len=4096)

        @pytest.mark.parametrize("k", range(3))
        def test_n(k, infer_server): pass
        """,
    )
    done = suite.run(f"--infer-url={timetable()}")
    assert done.exit_code == 0, done.output
    said = [line for line in done.output.splitlines() if "left to its owner" in line]
    assert [line.strip().partition(": behind")[0] for line in said] == ["test_n.py::test_n[0] and 2 more"]

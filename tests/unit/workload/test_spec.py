import math
from dataclasses import replace

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.workload import arguments as spec
from pytest_inferforge.workload.arrivals import Closed, Poisson
from pytest_inferforge.workload.lengths import Fixed

OPTIONS = LoadOptions()
LEAST = {"arrivals": "poisson 8 req/s", "requests": 100, "prompt_tokens": 256, "output_tokens": 128}


def workload(**arguments):
    return spec.from_arguments({k: v for k, v in (LEAST | arguments).items() if v is not None}, OPTIONS)


def test_what_is_not_said_comes_from_the_options():
    w = workload()
    assert (w.arrivals, w.requests, w.duration_s) == (Poisson(8.0), 100, None)
    (only,) = w.classes
    assert (only.prompt_tokens, only.output_tokens, only.api) == (Fixed(256), Fixed(128), "completions")
    assert (w.seed, w.timeout_s, w.stall_timeout_s) == (
        OPTIONS.seed,
        OPTIONS.request_timeout_s,
        OPTIONS.stall_timeout_s,
    )
    assert (only.prefix_cache, w.warmup, only.temperature, only.extra_body) == (False, None, 0.0, "{}")


def test_strings_say_the_same_as_numbers():
    texts = workload(requests="1_00", prompt_tokens="256", seed="7", prefix_cache="true", temperature="0.7")
    assert texts == workload(seed=7, prefix_cache=True, temperature=0.7)
    assert workload(requests=None, duration="1 min") == workload(requests=None, duration=60)
    assert workload(extra_body='{"b": 1, "a": 2}') == workload(extra_body={"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("arguments", "what", "seen", "do"),
    [
        (
            {"arrivals": None, "requests": 9}, "a workload needs arrivals",
            "requests=9, prompt_tokens=256, output_tokens=128", "write infer_workload(",
        ),
        ({"arival": 1}, "unknown workload argument", "arival", "did you mean arrivals?"),
        ({"xyzzy": 1}, "unknown workload argument", "xyzzy", "known: arrivals, "),
        ({"requests": None}, "a workload needs requests or a duration", "neither", "write requests=1000 or"),
        ({"duration": "9 s"}, "a workload needs requests or a duration", "both", "write requests=1000 or"),
        ({"requests": 0}, "requests must be at least 1", "0", "write requests=100"),
        ({"requests": "many"}, "requests is not a whole number", "'many'", "write requests=100"),
        ({"requests": True}, "requests is not a whole number", "True", "write requests=100"),
        ({"warmup": -1}, "warmup must be at least 0", "-1", "write warmup=100"),
        ({"api": "responses"}, "unknown api", "'responses'", 'write api="completions" or'),
        ({"timeout": "3"}, "timeout: a time needs a unit", "3", "write 3 ms or 3 s"),
        ({"timeout": 0}, "timeout must be more than zero and finite", "0", 'write timeout="60 s"'),
        ({"timeout": math.inf}, "timeout must be more than zero and finite", "inf", 'write timeout="60 s"'),
        ({"temperature": "hot"}, "temperature is not a number", "'hot'", "write temperature=0.7"),
        ({"temperature": math.nan}, "temperature must be at least 0", "nan", "write temperature=0.7"),
        ({"prefix_cache": "?"}, "prefix_cache is not true or false", "'?'", "write prefix_cache=True"),
        ({"extra_body": "{"}, "extra_body is not JSON", "Expecting property name", 'write {"top_k": 1}'),
        ({"extra_body": [1]}, "extra_body is not an object", "[1]", 'write {"top_k": 1}'),
        ({"extra_body": {"a": {1}}}, "extra_body is not JSON", "Object of type set", 'write {"top_k": 1}'),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_says_what_to_write(arguments, what, seen, do):
    with pytest.raises(UsageError) as error:
        workload(**arguments)
    assert error.value.what == what
    assert error.value.seen.startswith(seen)
    assert error.value.do.startswith(do)


def test_the_identity_leaves_out_what_only_bounds_a_hang():
    w = workload()
    assert replace(w, timeout_s=1.0, stall_timeout_s=1.0, drain_timeout_s=1.0).identity() == w.identity()
    for other in (
        workload(seed=7),
        workload(requests=101),
        workload(prefix_cache=True),
        workload(api="chat"),
    ):
        assert other.identity() != w.identity()


def test_rates_that_differ_in_the_seventh_digit_are_two_workloads():
    assert workload(arrivals=Poisson(8.0000001)).identity() != workload().identity()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 100),
        ({"requests": None, "duration": "30 s"}, 240),
        ({"arrivals": "closed 4"}, 100),
        ({"arrivals": "closed 4", "requests": None, "duration": "30 s"}, None),
    ],
)
def test_how_many_requests_are_to_come_is_said_where_it_can_be_known(arguments, expected):
    assert workload(**arguments).expected_requests == expected


def test_a_quick_run_asks_the_same_in_small():
    quick = workload(arrivals="closed 32", requests=None, duration="60 s").quick(4)
    assert (quick.arrivals, quick.requests, quick.duration_s, quick.warmup) == (Closed(4), 4, None, 1)
    assert workload().quick(4).arrivals == Poisson(8.0)


def test_a_line_for_a_person():
    assert workload(api="chat").describe() == "poisson 8 req/s, 100 requests, 256 -> 128 tokens, chat"
    timed = workload(arrivals="closed 4", requests=None, duration="90 s", prompt_tokens="uniform 1..9")
    assert timed.describe() == "closed 4, 90 s, uniform 1..9 -> 128 tokens, completions"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (
            {"classes": {"a": {"share": 1, "requests": 5}}},
            "class a: a class that shares arrivals has no number",
        ),
        ({"classes": {"a": {"shar": 1}}}, "unknown argument of class a"),
        ({"classes": {"a b": {}}}, "a request class cannot be called that"),
        ({"classes": []}, "classes is not a table of request classes"),
        ({"classes": {"a": {"share": 0}}}, "class a: share must be more than zero"),
        (
            {"classes": {"a": {"share": 1, "arrivals": "closed 2"}}},
            "class a: a class has arrivals or a share",
        ),
        ({"turns": 3}, "turns need the chat API"),
        ({"images": "9x9"}, "images need the chat API"),
        ({"api": "chat", "turns": "file"}, "there is no file that says how many turns"),
        ({"api": "chat", "think_time": 2}, "think_time is between the turns of a conversation"),
        ({"api": "chat", "token_ids": True}, "token_ids are for synthetic prompts of the completions API"),
        ({"api": "chat", "images": "0x9"}, "images have a count from 1 and sides from 1 to 8192 pixels"),
        ({"shared_prefix": "4"}, "shared_prefix is not readable"),
        ({"shared_prefix": "4 x 9 tokens, 0 %"}, "shared_prefix shares nothing"),
        ({"arrivals": "trace nowhere.jsonl"}, "trace: no such file"),
        ({"arrivals": "stress 1 -> 9 req/s", "requests": None}, "a workload needs requests or a duration"),
        (
            {"arrivals": "closed 9 ramp 9 s", "requests": None, "duration": "9 s"},
            "the users are still arriving",
        ),
        ({"transport": "carrier pigeon"}, "unknown transport"),
    ],
)
def test_shapes_of_load_that_cannot_be_meant(arguments, what):
    with pytest.raises(UsageError) as error:
        workload(**arguments)
    assert error.value.what.startswith(what)
    assert error.value.do

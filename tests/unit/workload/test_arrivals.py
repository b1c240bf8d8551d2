import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import arrivals
from pytest_inferforge.workload.arrivals import (
    Burst,
    Closed,
    Constant,
    Gamma,
    Poisson,
    Stage,
    Stages,
    Stress,
    Trace,
)

RATES = st.floats(1e-6, 1e9)
SECONDS = st.floats(1e-6, 1e6)
STAGES = st.lists(
    st.builds(Stage, st.just(0.0) | RATES, st.just(0.0) | RATES, SECONDS)
    | st.builds(lambda rate, seconds: Stage(rate, rate, seconds), RATES, SECONDS),
    min_size=1, max_size=4,
).filter(lambda stages: any(stage.requests > 0 for stage in stages))  # fmt: skip
KINDS = st.one_of(
    st.builds(Poisson, RATES),
    st.builds(Constant, RATES),
    st.builds(Gamma, RATES, st.floats(0.001, 1000)),
    st.builds(Stages, st.sampled_from(["poisson", "constant"]), STAGES.map(tuple)),
    st.builds(Burst, st.integers(1, 10**6), st.none() | SECONDS),
    st.builds(Closed, st.integers(1, 10**6), st.just(0.0) | SECONDS),
    st.builds(Trace, st.text(min_size=1), SECONDS, st.none() | st.sampled_from(["azure", "mooncake"])),
    st.tuples(RATES, st.floats(1.01, 1e6), st.floats(1.01, 1e3)).map(
        lambda three: Stress(three[0], three[0] * three[1], three[2])
    ),
)
ANY_FORM = (
    'write "poisson 8 req/s", "constant 2 req/s", "gamma 8 req/s burstiness=0.5",'
    ' "ramp 1 -> 20 req/s over 60 s, hold 120 s", "burst 64 every 10 s", "closed 32",'
    ' "trace conversation.jsonl" or "stress 2 -> 64 req/s"'
)
GAMMA_FORM = 'write "gamma 8 req/s burstiness=0.5" or "gamma 8 req/s cv=2"'
STAGES_FORM = 'write "ramp 1 -> 20 req/s over 60 s, hold 120 s" or "5 req/s for 60 s, 10 req/s for 60 s"'
BURST_FORM = 'write "burst 64" or "burst 64 every 10 s"'
CLOSED_FORM = 'write "closed 32" or "closed 32 ramp 10 s"'
TRACE_FORM = 'write "trace conversation.jsonl" or "trace \'my file.csv\' time_scale=0.5 format=azure"'
STRESS_FORM = 'write "stress 2 -> 64 req/s" or "stress 2 -> 64 req/s factor=1.25"'


def level(rate_per_s, duration_s):
    return Stage(rate_per_s, rate_per_s, duration_s)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("poisson 8 req/s", Poisson(8.0)),
        ("Poisson 0.5 rps", Poisson(0.5)),
        ("poisson  8/s", Poisson(8.0)),
        ("constant 2 requests/s", Constant(2.0)),
        ("constant .25 per second", Constant(0.25)),
        ("poisson 1e3 req/s", Poisson(1000.0)),
        ("gamma 8 req/s burstiness=0.5", Gamma(8.0, 0.5)),
        ("gamma 8rps CV = 2", Gamma(8.0, 0.25)),
        (" closed 32 ", Closed(32)),
        ("closed 32 ramp 10 s", Closed(32, 10.0)),
        ("burst 64", Burst(64)),
        ("burst 64 every 2 min", Burst(64, 120.0)),
        ("trace conversation.jsonl", Trace("conversation.jsonl")),
        ("Trace Logs/A.csv time_scale=0.5 format=azure", Trace("Logs/A.csv", 0.5, "azure")),
        ("trace 'my file.csv' format=azure", Trace("my file.csv", 1.0, "azure")),
        ('trace "my file.csv"', Trace("my file.csv")),
        ("stress 2 -> 64 req/s", Stress(2.0, 64.0)),
        ("stress 2->64 rps factor=1.25", Stress(2.0, 64.0, 1.25)),
        (
            "ramp 1 -> 20 req/s over 60 s, hold 120 s",
            Stages("poisson", (Stage(1.0, 20.0, 60.0), level(20.0, 120.0))),
        ),
        (
            "5 req/s for 60 s, 10 req/s for 1 min, ramp 10 -> 0 req/s over 30 s",
            Stages("poisson", (level(5.0, 60.0), level(10.0, 60.0), Stage(10.0, 0.0, 30.0))),
        ),
        ("constant 5 req/s for 500 ms", Stages("constant", (level(5.0, 0.5),))),
        ("poisson ramp 1 to 2 rps over 5 s", Stages("poisson", (Stage(1.0, 2.0, 5.0),))),
        (
            "8 req/s for 5 s,0 req/s for 5 s,hold for 1 s",
            Stages("poisson", (level(8.0, 5.0), level(0.0, 5.0), level(0.0, 1.0))),
        ),
    ],
)
def test_people_write_arrivals_in_many_ways(text, meant):
    assert arrivals.parse(text) == meant


@given(KINDS)
def test_what_is_printed_is_read_back(value):
    assert arrivals.parse(str(value)) == value
    assert arrivals.parse(value) is value


def test_what_was_written_is_printed():
    for text in (
        "ramp 1 -> 20 req/s over 60 s, hold 120 s",
        "constant 5 req/s for 60 s, ramp 5 -> 0 req/s over 30 s",
        "gamma 8 req/s burstiness=0.5",
        "burst 64 every 10 s",
        "closed 32 ramp 10 s",
        "trace azure.csv time_scale=0.5 format=azure",
        "stress 2 -> 64 req/s factor=1.25",
        "stress 2 -> 64 req/s",
    ):
        assert str(arrivals.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("poisson 8", "poisson 8 req/s"),
        ("gamma 8 burstiness=2", "gamma 8 req/s burstiness=2"),
        ("ramp 1 -> 20 over 60 s, hold 5 s", "ramp 1 -> 20 req/s over 60 s, hold 5 s"),
        ("constant 5 for 60 s", "constant 5 req/s for 60 s"),
        ("5 req/s for 60 s, 10 for 60 s", "5 req/s for 60 s, 10 req/s for 60 s"),
        ("stress 2 -> 64 factor=2", "stress 2 -> 64 req/s factor=2"),
    ],
)
def test_a_rate_without_a_unit_is_shown_with_one(text, mended):
    with pytest.raises(UsageError) as error:
        arrivals.parse(text)
    assert error.value.what == "arrivals without a unit"
    assert error.value.seen == repr(text)
    assert error.value.do == f'write "{mended}"'
    arrivals.parse(mended)


@pytest.mark.parametrize(
    ("value", "what", "do"),
    [
        ("poisson 0 req/s", "arrivals must be more than zero", 'write "poisson 8 req/s"'),
        (Poisson(-1.0), "arrivals must be more than zero", 'write "poisson 8 req/s"'),
        (Poisson(math.nan), "arrivals must be more than zero", 'write "poisson 8 req/s"'),
        (Constant(math.inf), "arrivals must be finite", 'write "constant 2 req/s"'),
        ("poisson 1.2.3 req/s", "poisson arrivals are not readable", 'write "poisson 8 req/s"'),
        ("poisson eight req/s", "poisson arrivals are not readable", 'write "poisson 8 req/s"'),
        ("gauss 8 req/s", "unknown arrivals", ANY_FORM),
        ("", "unknown arrivals", ANY_FORM),
        ("gamma 8 req/s", "gamma arrivals are not readable", GAMMA_FORM),
        ("gamma 8 req/s cv=0", "burstiness must be from 0.001 to 1000", GAMMA_FORM),
        (Gamma(8.0, math.nan), "burstiness must be from 0.001 to 1000", GAMMA_FORM),
        ("closed 0", "arrivals must be more than zero", CLOSED_FORM),
        ("closed 1.5", "closed arrivals are not readable", CLOSED_FORM),
        ("closed 4 ramp 10", "arrivals: a time needs a unit: '10'", CLOSED_FORM),
        (Closed(4, -1.0), "the ramp of a closed loop must be from zero and finite", CLOSED_FORM),
        ("burst 0", "arrivals must be more than zero", BURST_FORM),
        ("burst 4 every 0 s", "the time between bursts must be more than zero and finite", BURST_FORM),
        ("burst 4 each 5 s", "burst arrivals are not readable", BURST_FORM),
        ("trace", "trace arrivals are not readable", TRACE_FORM),
        ("trace 'a.csv", "trace arrivals are not readable", TRACE_FORM),
        ("trace a.csv speed=2", "trace arrivals are not readable", TRACE_FORM),
        ("trace a.csv time_scale=fast", "trace arrivals are not readable", TRACE_FORM),
        ("trace a.csv time_scale=0", "a trace needs a file and a time_scale above 0", TRACE_FORM),
        (Trace(""), "a trace needs a file and a time_scale above 0", TRACE_FORM),
        ("stress 2 req/s", "stress arrivals are not readable", STRESS_FORM),
        (
            "stress 9 -> 2 req/s", "stress needs a high rate above the low one and a factor above 1",
            STRESS_FORM,
        ),
        (
            "stress 2 -> 9 req/s factor=1",
            "stress needs a high rate above the low one and a factor above 1", STRESS_FORM,
        ),
        ("0 req/s for 5 s", "arrivals must be more than zero", STAGES_FORM),
        (Stages("poisson", ()), "arrivals must be more than zero", STAGES_FORM),
        (Stages("gamma", (level(5.0, 5.0),)), "stages are poisson or constant", STAGES_FORM),
        (
            Stages("poisson", (level(5.0, 5.0), Stage(-1.0, 2.0, 1.0))),
            "a stage needs rates from 0 and a duration above 0, all finite", STAGES_FORM,
        ),
        (
            "5 req/s for 0 s", "a stage needs rates from 0 and a duration above 0, all finite",
            STAGES_FORM,
        ),
        ("hold 5 s", "hold goes on at the rate before it, and there is none", STAGES_FORM),
        (
            "5 req/s for 60 s, and then 9", "a stage of the arrivals is not readable: 'and then 9'",
            STAGES_FORM,
        ),
        ("5 req/s for 60", "arrivals: a time needs a unit: '60'", STAGES_FORM),
        (
            "ramp 1 -> 2 req/s over 60 s hold 5 s",
            "arrivals: a time is not readable: '60 s hold 5 s'", STAGES_FORM,
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_to_write(value, what, do):
    with pytest.raises(UsageError) as error:
        arrivals.parse(value)
    assert error.value.what == what
    assert error.value.seen in (str(value), repr(value))
    assert error.value.do == do


def test_what_to_write_can_be_written():
    texts = [
        text
        for form in (ANY_FORM, GAMMA_FORM, STAGES_FORM, BURST_FORM, CLOSED_FORM, TRACE_FORM, STRESS_FORM)
        for text in form.split('"')[1::2]
    ]
    assert len(texts) == 20
    for text in texts:
        arrivals.parse(text)


@pytest.mark.parametrize(
    ("text", "is_open", "rate_per_s", "duration_s", "requests"),
    [
        ("poisson 8 req/s", True, 8.0, None, None),
        ("constant 2 req/s", True, 2.0, None, None),
        ("gamma 8 req/s cv=2", True, 8.0, None, None),
        ("ramp 0 -> 20 req/s over 60 s, 5 req/s for 60 s", True, 7.5, 120.0, None),
        ("burst 64", True, None, None, 64),
        ("burst 64 every 10 s", True, 6.4, None, None),
        ("closed 32", False, None, None, None),
        ("trace a.jsonl", True, None, None, None),
        ("stress 2 -> 64 req/s", False, None, None, None),
    ],
)
def test_what_arrivals_say_about_themselves(text, is_open, rate_per_s, duration_s, requests):
    value = arrivals.parse(text)
    assert arrivals.is_open(value) is is_open
    assert arrivals.mean_rate_per_s(value) == rate_per_s
    assert arrivals.own_duration_s(value) == duration_s
    assert arrivals.own_requests(value) == requests

"""At which load the client's own error is measured."""

import pytest

from pytest_inferforge import floor
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.workload import arguments

OPTIONS = LoadOptions()


def workload(**given):
    least = {"prompt_tokens": 256, "output_tokens": 128}
    return arguments.from_arguments(least | given, OPTIONS)


@pytest.mark.parametrize(
    ("given", "arrivals", "requests", "tokens"),
    [
        ({"arrivals": "poisson 400 req/s", "requests": 9000}, "poisson 400 req/s", 400, "64"),
        ({"arrivals": "poisson 100 req/s", "requests": 9000}, "poisson 100 req/s", 300, "64"),
        # slower than that it would take minutes: the rate is raised, which asks more of the client
        ({"arrivals": "poisson 1 req/s", "requests": 99}, "poisson 60 req/s", 300, "64"),
        ({"arrivals": "ramp 1 -> 90 req/s over 9 s"}, "poisson 90 req/s", 300, "64"),
        ({"arrivals": "closed 8", "requests": 99, "output_tokens": 16}, "closed 8", 300, "16"),
        ({"arrivals": "closed 400", "duration": "9 s"}, "closed 400", 800, "64"),
    ],
)
def test_the_floor_is_measured_at_the_workloads_own_rate(given, arrivals, requests, tokens):
    found = floor.floor_workload(workload(**given), OPTIONS)
    assert (str(found.arrivals), found.requests, str(found.classes[0].output_tokens)) == (
        arrivals,
        requests,
        tokens,
    )


def test_the_chunks_of_a_load_are_reckoned_before_it_runs():
    assert floor.chunks_per_s(workload(arrivals="poisson 400 req/s", requests=9)) == 400 * 128
    assert floor.chunks_per_s(workload(arrivals="closed 50", requests=9)) == 5000


def test_rates_of_classes_add_up():
    mixed = workload(
        duration="9 s",
        classes={
            "a": {"arrivals": "poisson 30 req/s"},
            "b": {"arrivals": "constant 50 req/s"},
            "c": {"arrivals": "closed 4"},
        },
    )
    assert floor.rate_per_s(mixed) == 80

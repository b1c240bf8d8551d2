import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.loadgen import crew
from pytest_inferforge.loadgen.crew import Crew
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.workload import arguments


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("auto", Crew(count=None)),
        ("3", Crew(count=3)),
        ("ray:16", Crew(count=16, ray=True)),
        ("ray:2@10.0.0.7:6379", Crew(count=2, ray=True, address="10.0.0.7:6379")),
    ],
)
def test_how_many_and_where(text, made):
    assert crew.parse(text) == made
    assert str(made) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "ray", "ray:0", "many", "ray:2@"])
def test_what_is_no_crew_says_what_to_write(text):
    with pytest.raises(UsageError) as error:
        crew.parse(text)
    assert error.value.do == 'write "auto", a number, "ray:16" or "ray:16@HOST:PORT"'


@pytest.mark.parametrize(
    ("chunks_per_s", "cores", "workers"),
    [(1.0, 8, 1), (50_000.0, 8, 1), (50_001.0, 8, 2), (170_000.0, 8, 4), (10e6, 8, 7), (10e6, 1, 1)],
)
def test_as_many_workers_as_the_load_needs_and_a_core_is_left(monkeypatch, chunks_per_s, cores, workers):
    monkeypatch.setattr(crew, "cores_of_ours", lambda: list(range(cores)))
    assert crew.needed(chunks_per_s, capacity_per_s=100_000.0, wanted_share=0.5) == workers


def test_no_more_workers_than_users():
    given = {"prompt_tokens": 8, "output_tokens": 8, "requests": 9}
    three = arguments.from_arguments({"arrivals": "closed 3", **given}, LoadOptions())
    assert (crew.most(three, 8), crew.most(three, 2)) == (3, 2)
    free = arguments.from_arguments({"arrivals": "poisson 3 req/s", **given}, LoadOptions())
    assert crew.most(free, 8) == 8

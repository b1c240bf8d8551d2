"""Whose word counts, key by key."""

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.pytest_plugin.layers import COMMAND_LINE, Layer, Mark, filled, merge, of_marks


def line(**values):
    return Layer(source=COMMAND_LINE, values=values)


def marker(*, pin=False, **values):
    return Layer(source="a marker", values=values, pinned=pin)


def merged(*layers):
    notes = []
    return merge(layers, notes), notes


def test_the_stronger_layer_wins_key_by_key():
    found, notes = merged(line(requests=9), marker(requests=5, seed=1), marker(seed=2, api="chat"))
    assert found == {"requests": 9, "seed": 1, "api": "chat"}
    assert notes == []


def test_a_pin_keeps_the_command_line_out_and_says_so():
    found, notes = merged(line(requests=9, seed=3), marker(pin=True, requests=5), marker(seed=1))
    assert found == {"requests": 5, "seed": 3}
    assert notes == ["requests=5 is pinned; requests=9 was asked for on the command line"]


def test_asking_for_what_is_pinned_anyway_is_no_note():
    assert merged(line(requests=5), marker(pin=True, requests=5)) == ({"requests": 5}, [])


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ((line(duration="3 s"), marker(requests=5)), {"duration": "3 s"}),
        ((line(), marker(duration="3 s"), marker(requests=5)), {"duration": "3 s"}),
        ((line(), marker(requests=5), Layer(source="file", values={"duration": "1 h"})), {"requests": 5}),
        ((line(), marker(requests=5, duration="3 s")), {"requests": 5, "duration": "3 s"}),  # an error later
    ],
)
def test_requests_and_duration_take_each_others_place(layers, found):
    assert merged(*layers) == (found, [])


def test_a_pin_holds_against_the_rival_too():
    found, notes = merged(line(duration="3 s"), marker(pin=True, requests=5))
    assert found == {"requests": 5}
    assert notes == ["requests=5 is pinned; duration=3 s was asked for on the command line"]


def test_markers_become_layers_closest_first():
    marks = [
        Mark(name="infer_server", args=(), kwargs={"a": 1, "pin": True}, own=True),
        Mark(name="infer_slo", args=("x",), kwargs={}, own=True),
        Mark(name="infer_server", args=(), kwargs={"a": 2}, own=False),
    ]
    layers = of_marks(marks, "infer_server")
    assert [(dict(layer.values), layer.pinned) for layer in layers] == [({"a": 1}, True), ({"a": 2}, False)]


def test_arguments_need_names():
    with pytest.raises(UsageError, match="named arguments only"):
        of_marks([Mark(name="infer_server", args=(3,), kwargs={}, own=True)], "infer_server")


def test_places_are_filled_and_a_lone_place_keeps_its_type():
    mark = Mark(
        name="m", args=("p99 < {limit}", 7), kwargs={"n": "{n}", "s": "{n} req", "j": "{x}"}, own=True
    )
    done = filled(mark, {"limit": "5 s", "n": 4})
    assert done.args == ("p99 < 5 s", 7)
    assert done.kwargs == {"n": 4, "s": "4 req", "j": "{x}"}
    assert filled(mark, {}) is mark

"""Which decision holds: by when it was made, whatever its file is called."""

from pytest_inferforge.baselines import decisions as deciding
from pytest_inferforge.records import Decision, DecisionKind


def decision(kind, *sessions, at):
    return Decision(schema=1, decision=DecisionKind(kind), sessions=sessions, reason="r", at=at)


EARLY = decision("reject", "a", "b", at="2026-02-01T02:30:00+00:00")
LATE = decision("accept", "a", at="2026-02-01T03:00:00+01:00")  # 02:00 in UTC: the earlier one


def test_time_decides_and_zones_are_heeded():
    assert deciding.in_order([("1", EARLY), ("2", LATE)]) == (LATE, EARLY)
    assert deciding.about((LATE, EARLY)) == {"a": EARLY, "b": EARLY}


def test_of_two_at_one_moment_the_name_decides():
    same = decision("accept", "a", at=EARLY.at)
    assert deciding.in_order([("2", EARLY), ("1", same)]) == (same, EARLY)


def test_a_pin_holds_until_a_newer_pin_or_unpin():
    pin, unpin = decision("pin", "a", at=EARLY.at), decision("unpin", at=EARLY.at)
    assert deciding.pin_of(()) is None
    assert deciding.pin_of((pin, EARLY)) == pin
    assert deciding.pin_of((pin, unpin)) is None
    assert deciding.pin_of((unpin, pin)) == pin


def test_files_are_named_by_their_time_and_never_alike():
    names = {deciding.file_name(LATE) for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("20260201T020000000000Z-") for name in names)

"""docs/metrics.md against the table that knows."""

import re
from pathlib import Path

import pytest

from pytest_inferforge.metrics import METRICS, STATISTICS

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
ROWS = {
    cells[0].strip("`"): cells
    for line in TEXT.splitlines()
    if line.startswith("| `")
    and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) >= 4
    and cells[0].startswith("`")
}


def test_the_tables_hold_exactly_the_metrics():
    assert list(ROWS) == list(METRICS)


def test_no_other_metric_is_named_in_the_text():
    named = set(re.findall(r"`([a-z0-9_]+?_(?:s|per_s|ratio))(?:\.[a-z0-9.]+)?`", TEXT))
    moments = {name for name in named if f"| `{name}` |" in TEXT and name not in ROWS}
    assert named - moments - {"_service_s"} <= set(METRICS)


@pytest.mark.parametrize("quantity", METRICS.values(), ids=lambda q: q.id)
def test_names_units_and_directions_are_those_of_the_table(quantity):
    cells = ROWS[quantity.id]
    assert tuple(cells[-1].split(", ")) == quantity.names
    if quantity.per == "run":
        assert cells[1:3] == [quantity.unit, quantity.direction]
    else:
        assert (quantity.unit, quantity.direction) == ("s", "lower")


def test_the_statistics_are_those_of_the_table():
    found = re.search(r"Statistics are (.*) in reports", TEXT)
    assert tuple(re.findall(r"`([^`]+)`", found[1])) == STATISTICS

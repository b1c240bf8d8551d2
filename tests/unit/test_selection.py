"""Which tests a command line asks for, from what pytest makes of it."""

from types import SimpleNamespace

import pytest

from pytest_inferforge.pytest_plugin import selection

MISSING = "suite/test_b.py::TestChat::test_x[q4]"


def config(tmp_path, *args, started=".", **options):
    none = dict.fromkeys(("ignore", "ignore_glob", "lf", "keyword", "markexpr", "deselect", "pyargs"))
    return SimpleNamespace(
        args=list(args),
        rootpath=tmp_path,
        invocation_params=SimpleNamespace(dir=tmp_path / started),
        option=SimpleNamespace(**(none | options)),
    )


@pytest.mark.parametrize(
    ("args", "started", "asked"),
    [
        (["."], ".", True),
        (["suite"], ".", True),
        (["suite/test_b.py"], ".", True),
        (["suite/test_a.py"], ".", False),
        (["suite/test_a.py", "suite/test_b.py"], ".", True),
        (["sui"], ".", False),
        (["test_b.py"], "suite", True),
        (["../other"], "suite", False),
        (["suite/test_b.py::test_other"], ".", True),  # narrowed, which is another question
    ],
)
def test_a_missing_test_was_asked_for_when_its_file_lies_below_a_path(tmp_path, args, started, asked):
    assert selection.asked_for(config(tmp_path, *args, started=started), MISSING) is asked


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"keyword": "not regression"}, False),
        ({"markexpr": "slow"}, False),
        ({"deselect": ["suite/test_b.py::TestChat"]}, False),
        ({"deselect": ["suite/test_b.py::test_other"]}, True),
        ({"pyargs": True}, True),
    ],
)
def test_what_chooses_by_name(tmp_path, options, asked):
    assert selection.asked_for(config(tmp_path, "suite", **options), MISSING) is asked


@pytest.mark.parametrize(
    ("args", "options", "narrowed"),
    [
        (["suite"], {}, False),
        (["suite/test_b.py::test_x"], {}, True),
        (["suite"], {"lf": True}, True),
        (["suite"], {"ignore": ["suite/slow"]}, True),
        (["suite"], {"ignore_glob": ["*slow*"]}, True),
        (["suite"], {"keyword": "chat"}, False),  # what it leaves out, pytest tells
    ],
)
def test_what_leaves_files_out_unseen(tmp_path, args, options, narrowed):
    assert selection.narrowed(config(tmp_path, *args, **options)) is narrowed

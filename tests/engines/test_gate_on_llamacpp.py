"""The main job on a real engine: load it, save it, and go red when it is slower."""

import pytest

from pytest_inferforge.testing.suite import Suite

pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed: pip install '.[llamacpp]'")

LLAMA = "--infer-backend=llama.cpp"
BATCH = """
    import pytest

    # One thread, which need not wait for another where cores are busy; much decoding, which slots share.
    @pytest.mark.infer_server(threads=1)
    @pytest.mark.infer_workload(arrivals="closed 8", requests=64, prompt_tokens=8, output_tokens=128)
    def test_batch(infer_run):
        table = infer_run.requests
        assert table.counts["resent"].sum() == 0
        assert (table.counts["prompt_tokens"] == 8).all()
        assert (table.counts["output_tokens"] == 128).all()
        assert table.exact.all()
"""


def stored(folder):
    """A suite with three sessions on four slots, stored as `main`."""
    made = Suite(folder)
    made.write("pytest.ini", "[pytest]\n")
    made.write("test_b.py", BATCH)
    for _ in range(3):
        done = made.run(LLAMA, "--infer-set", "max_num_seqs=4", "--infer-save=main")
        assert done.exit_code == 0, done.output
    return made


def test_one_slot_instead_of_four_is_red(tmp_path_factory):
    one_slot = (LLAMA, "--infer-set", "max_num_seqs=1", "--infer-compare=main")
    for _ in range(3):
        # Three sessions see a loss of a third only while the machine is calm: its noise is theirs. What is
        # asserted below is that the loss is found, not that this machine is quiet.
        suite = stored(tmp_path_factory.mktemp("suite"))
        done = suite.run(*one_slot)
        found = {c["metric"]: c for c in done.document["comparisons"]}["output_tok_per_s"]
        if found["verdict"] != "inconclusive":
            break
    assert found["verdict"] == "regressed", found
    assert found["ratio"] < 0.9
    assert done.exit_code == 1
    assert done.counts["failures"] == 1
    assert done.outcomes == {"test_b.py::test_batch": "passed", "test_b.py::test_batch.regression": "failed"}
    message = done.failures["test_b.py::test_batch.regression"]
    assert "setting.max_num_seqs: 4 -> 1" in message

    without = suite.run(*one_slot, "-k", "not regression")
    assert (without.exit_code, without.outcomes) == (0, {"test_b.py::test_batch": "passed"})
    for selection in ("--lf", "test_b.py::test_batch.regression"):
        again = suite.run(*one_slot, "--infer-pairs=2", selection)
        assert list(again.outcomes) == ["test_b.py::test_batch.regression"]


def test_a_closed_loop_of_eight_completes_without_a_resend(tmp_path):
    suite = Suite(tmp_path)
    suite.write("test_b.py", BATCH)
    done = suite.run(LLAMA, "--infer-set", "max_num_seqs=4")
    assert done.outcomes == {"test_b.py::test_batch": "passed"}, done.output
    requests = done.document["tests"][0]["boots"][0]["requests"]
    assert requests == {"issued": 64, "completed": 64, "failed": 0, "cancelled": 0, "warmup": 16}
    assert "sent again" not in done.output


def test_another_model_file_is_served(tmp_path):
    from pytest_inferforge.engines import forge_tiny

    mine = tmp_path / "mine.gguf"
    mine.write_bytes(forge_tiny.path().read_bytes())
    suite = Suite(tmp_path)
    suite.write("test_a.py", "def test_a(infer_server): assert infer_server.model == 'mine'")
    assert suite.run(LLAMA, f"--infer-model={mine}").exit_code == 0

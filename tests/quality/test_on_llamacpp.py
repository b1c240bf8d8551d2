"""An evaluation of the embedded llama.cpp, which tells no log probabilities of a prompt."""

import pytest

from pytest_inferforge.quality.evaluation import Target
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot

pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed (extra llamacpp)")
pytest.importorskip("gguf", reason="the embedded model cannot be made without gguf (extra llamacpp)")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = boot(ServerSpec(engine="llama.cpp"), run_dir=tmp_path_factory.mktemp("run"))
    yield running
    running.stop()


def test_both_forms_and_twice_the_same(server, job, run):
    target = Target(url=server.url, model=server.model, dialect=server.dialect_name)
    result = run(
        job("forge_recall", "forge_recall_choice", "forge_instructions", target=target, limit=15, repeat=5)
    )
    written, chosen, ordered = result.tasks
    assert result.route == "teacher_forced"
    assert [len(task.scores) for task in result.tasks] == [15, 15, 15]
    assert [task.unanswered for task in result.tasks] == [0, 0, 0]
    assert (chosen.tied, chosen.chance is not None, chosen.perplexity is not None) == (0, True, True)
    assert (written.repeat.n, written.repeat.flipped) == (5, 0)
    assert (chosen.repeat.n, chosen.repeat.flipped) == (5, 0)
    assert (ordered.likelihoods, len(ordered.replies)) == ((), 15)
    assert all(value < 0 for values in chosen.likelihoods for value in values)
    assert result.requests.failed == {}
    assert result.requests.prompt_tokens > 0

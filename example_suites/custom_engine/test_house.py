"""A server of your own under test: a folder to copy.

    house_server.py  the server; yours takes its place
    house_engine.py  how it is started, set up and asked
    conftest.py      makes that known under the name "house"
    test_house.py    what is promised of it

Run it from anywhere:

    pytest example_suites/custom_engine --infer-backend=house

A server whose flags need not be settings of a test needs no engine, only its command:

    cd example_suites/custom_engine
    pytest ../quickstart --infer-command="python house_server.py --port {port}"
"""

import numpy as np
import pytest

pytestmark = pytest.mark.infer_server(max_num_seqs=4)


@pytest.mark.infer_workload(
    arrivals="poisson 20 req/s", requests=320, prompt_tokens="uniform 16..64", output_tokens=8, api="chat"
)
@pytest.mark.infer_slo("ttft p95 < 500 ms", "tpot p95 < 100 ms")
def test_chat(infer_run):
    assert (infer_run.requests.counts["output_tokens"] == 8).all()


@pytest.mark.infer_server(max_num_seqs=1)  # a setting of the engine; another server is booted for it
def test_one_slot_answers_one_after_the_other(infer_server, infer_load):
    assert infer_server.version == "1.0"
    run = infer_load(arrivals="closed 3", requests=12, prompt_tokens=16, output_tokens=8)
    times = run.requests.times
    order = np.argsort(times["first_token_s"])
    assert (times["first_token_s"][order][1:] >= times["last_token_s"][order][:-1]).all()

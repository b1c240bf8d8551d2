"""Runs that end early, runs that are measured on, and claims about the next boot."""

import pytest

HEAD = """
    import pytest

    @pytest.mark.infer_workload(
        arrivals="poisson 200 req/s", requests={requests}, prompt_tokens=16, output_tokens=2{more})
    @pytest.mark.infer_slo({slos})
    def test_a(infer_run):
        {body}
"""


def write(suite, *slos, requests=3000, more="", body="pass"):
    said = ", ".join(s if s.startswith("confidence=") else repr(s) for s in slos)
    suite.write("test_a.py", HEAD.format(requests=requests, slos=said, more=more, body=body))


def slo(done, text):
    return next(s for s in done.document["tests"][0]["slo"] if s["text"] == text)


EARLY = ', stop="early"'


def test_a_run_ends_when_its_slos_are_decided(suite, timetable):
    body = "boot = infer_run.boots[0]; assert boot.stopped; assert len(boot.requests) < 2500"
    write(suite, "ttft p99 < 1 s", "e2e p90 < 1 s", more=EARLY, body=body)
    done = suite.run(f"--infer-url={timetable()}")
    assert done.exit_code == 0, done.output
    test = done.document["tests"][0]
    found = slo(done, "ttft p99 < 1 s")
    assert found["verdict"] == "pass"
    assert found["n"] == test["boots"][0]["requests"]["issued"] >= 500
    assert found["upper"] < 1.0
    assert test["boots"][0]["validity"]["verdict"] == "valid"
    assert "of 3000 requests: every SLO was decided" in done.output
    assert "; decided after " in found["reason"]


def test_a_run_that_fails_ends_early_too(suite, timetable):
    write(suite, "ttft p99 < 3 ms", more=EARLY)
    done = suite.run(f"--infer-url={timetable()}")
    assert done.exit_code == 1
    assert slo(done, "ttft p99 < 3 ms")["verdict"] == "fail"
    assert done.document["tests"][0]["boots"][0]["requests"]["issued"] < 2500


def test_an_slo_that_needs_the_whole_run_gets_it_and_it_is_said(suite, timetable):
    write(suite, "ttft p99 < 1 s", "tpot mean < 1 s", requests=900, more=EARLY)
    done = suite.run(f"--infer-url={timetable()}")
    assert done.exit_code == 0, done.output
    assert done.document["tests"][0]["boots"][0]["requests"]["issued"] == 900
    assert "not ended early, because the whole run is needed for: tpot mean < 1 s" in done.output


def test_without_an_slo_the_error_check_is_what_is_waited_for(suite, timetable):
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.mark.infer_workload(
            arrivals="closed 8", duration="30 s", prompt_tokens=16, output_tokens=2, stop="early")
        def test_a(infer_run): assert infer_run.boots[0].stopped
        """,
    )
    done = suite.run(f"--infer-url={timetable()}")
    assert done.exit_code == 0, done.output
    assert slo(done, "error rate <= 1 %")["verdict"] == "pass"


def test_a_run_that_may_end_early_is_not_compared_and_has_the_planned_workloads_hash(suite, timetable):
    url = f"--infer-url={timetable()}"
    write(suite, "ttft p99 < 1 s", requests=700, more=EARLY)
    early = suite.run(url, "--infer-save=main", "--infer-key=gpu=none").document["tests"][0]
    write(suite, "ttft p99 < 1 s", requests=700)
    whole = suite.run(url).document["tests"][0]
    hard = [t["server"]["fingerprint"]["hard"] for t in (early, whole)]
    assert hard[0]["workload"] == hard[1]["workload"]
    assert (hard[0]["stop"], "stop" in hard[1]) == ("early", False)
    write(suite, "ttft p99 < 1 s", requests=700, more=EARLY)
    compared = suite.run(url, "--infer-compare=main", "--infer-key=gpu=none", "--infer-missing=record")
    assert compared.exit_code == 0, compared.output
    assert compared.document["comparisons"] == []


def test_an_inconclusive_run_is_measured_on(suite, timetable):
    write(suite, "ttft p99 < 1 s", requests=250, body="assert len(infer_run.boots[0].further) == 2")
    url = f"--infer-url={timetable()}"
    refused = suite.run(url)
    assert "can never be shown with 250 requests" in refused.failures["test_a.py::test_a"]
    done = suite.run(url, "--infer-extend=3x")
    assert done.exit_code == 0, done.output
    found = slo(done, "ttft p99 < 1 s")
    assert (found["verdict"], found["n"]) == ("pass", 750)
    boot = done.document["tests"][0]["boots"][0]
    assert boot["requests"]["issued"] == 250  # what baselines compare
    assert "measured on, because an SLO was inconclusive: 750 requests where 250 were planned" in done.output


def test_a_run_that_tells_is_not_measured_on(suite, timetable):
    suite.write("inferforge.toml", (suite.folder / "inferforge.toml").read_text().replace(
        "floor_requests", 'extend = "4x"\nfloor_requests', 1))  # fmt: skip
    write(suite, "ttft p99 < 1 s", requests=400, body="assert infer_run.boots[0].further == ()")
    done = suite.run(f"--infer-url={timetable()}")
    assert done.exit_code == 0, done.output
    assert slo(done, "ttft p99 < 1 s")["n"] == 400


def test_a_run_is_measured_on_until_an_slo_fails(suite, timetable):
    """3 % of the requests fail where 1 % may: 100 requests do not show it."""
    faults = dict.fromkeys((10, 40, 75), "http_500")
    write(suite, "ttft p99 < 1 s", "error rate <= 20 %", requests=100)
    done = suite.run(f"--infer-url={timetable(faults=faults)}", "--infer-extend=10x")
    found = slo(done, "ttft p99 < 1 s")
    assert (found["verdict"], done.exit_code) == ("fail", 1), done.output
    assert 500 <= found["n"] < 1000


def test_the_next_boot_is_told_from_three(suite, timetable):
    write(suite, "ttft p95 < 1 s", 'confidence="deploy"', requests=300)
    done = suite.run(f"--infer-url={timetable()}")
    assert done.outcomes == {"test_a.py::test_a": "error"}
    message = done.failures["test_a.py::test_a"]
    assert '"ttft p95 < 1 s" is asked of the next boot' in message
    assert "run with --infer-boots=3 or more" in message


def test_three_boots_tell_the_next_one(suite):
    write(suite, "ttft p90 < 5 s", 'confidence="deploy"', requests=60)
    done = suite.run("--infer-backend=llama.cpp", "--infer-boots=3")
    assert done.exit_code == 0, done.output
    found = slo(done, "ttft p90 < 5 s")
    assert found["verdict"] == "pass"
    assert "this holds for the next boot" in found["reason"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--infer-extend=2.5x", "a whole number of times its requests"),
        ("--infer-extend=0x", "a whole number of times its requests"),
        ("--infer-extend=long", "a whole number of times its requests"),
        ("--infer-workload=stop=soon", "unknown stop"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(suite, timetable, option, said):
    write(suite, "ttft p99 < 1 s")
    done = suite.run(f"--infer-url={timetable()}", option)
    assert done.exit_code == 4
    assert said in done.output


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ('arrivals="closed 2", requests=9, api="chat", turns=3', "a run with turns cannot be ended early"),
        ('arrivals="stress 2 -> 4 req/s", duration="1 s"', "a run with stress cannot be ended early"),
    ],
)
def test_what_cannot_end_early_is_a_usage_error(suite, timetable, workload, said):
    suite.write(
        "test_a.py",
        f"""
        import pytest

        @pytest.mark.infer_workload({workload}, prompt_tokens=16, output_tokens=2, stop="early")
        def test_a(infer_run): pass
        """,
    )
    done = suite.run(f"--infer-url={timetable()}")
    assert done.exit_code == 4
    assert said in done.output

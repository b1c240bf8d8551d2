"""Classes of requests, conversations, stress and invalid runs, as the users of pytest see them."""

import pytest

MIXED = """
    import pytest

    @pytest.mark.infer_workload(
        duration="4 s",
        warmup=4,
        classes={
            "chat": {"arrivals": "poisson 60 req/s", "prompt_tokens": 8, "output_tokens": 4},
            "batch": {"arrivals": "closed 4", "prompt_tokens": 40, "output_tokens": 40},
        },
    )
    @pytest.mark.infer_slo("chat: e2e p90 < 1 s", "batch: e2e p90 < 20 ms", "error rate <= 5 %")
    def test_mix(infer_run):
        chat, batch = infer_run.of("chat"), infer_run.of("batch")
        assert len(chat.requests) + len(batch.requests) == len(infer_run.requests)
        assert chat.metrics["e2e_s.p50"] < batch.metrics["e2e_s.p50"]
        assert [run.class_name for run in infer_run.classes] == ["chat", "batch"]
"""


def test_a_mixed_load_fails_on_the_one_class_that_misses_its_slo_and_names_it(suite, timetable):
    suite.write("test_a.py", MIXED)
    found = suite.run(f"--infer-url={timetable()}")
    assert found.exit_code == 1
    message = found.failures["test_a.py::test_mix"]
    assert "1 SLO not met: batch: e2e p90 < 20 ms" in message
    assert "chat:" not in message
    assert "test_a.py::test_mix, class batch" in found.output
    by_class = {test["class"]: test for test in found.document["tests"]}
    assert set(by_class) == {None, "chat", "batch"}
    assert [slo["verdict"] for slo in by_class["chat"]["slo"]] == ["pass"]
    assert [slo["verdict"] for slo in by_class["batch"]["slo"]] == ["fail"]
    assert [slo["text"] for slo in by_class[None]["slo"]] == ["error rate <= 5 %"]
    total = by_class[None]["boots"][0]["requests"]["issued"]
    assert total == sum(by_class[c]["boots"][0]["requests"]["issued"] for c in ("chat", "batch"))


def test_each_class_has_its_own_baseline(suite, timetable):
    suite.write("test_a.py", MIXED.replace("batch: e2e p90 < 20 ms", "batch: e2e p90 < 9 s"))
    for _ in range(3):
        assert suite.run(f"--infer-url={timetable()}", "--infer-save=main").exit_code == 0
    slower = suite.run(f"--infer-url={timetable(gap_s=0.004)}", "--infer-compare=main")
    assert slower.exit_code == 1
    red = {(c["class"], c["metric"]) for c in slower.document["comparisons"] if c["verdict"] == "regressed"}
    assert ("batch", "tpot_s.mean") in red
    assert {c["class"] for c in slower.document["comparisons"]} == {"chat", "batch", None}
    assert {c["metric"] for c in slower.document["comparisons"] if c["class"] == "chat"} >= {
        "ttft_s.mean", "ttft_s.p99", "tpot_s.mean", "e2e_s.p90",
    }  # fmt: skip


def test_an_slo_of_a_class_that_is_not_there_is_a_usage_error(suite):
    suite.write("test_a.py", MIXED.replace('"chat: e2e', '"chatt: e2e'))
    found = suite.run("--infer-url=http://127.0.0.1:9")
    assert found.exit_code == 4
    assert "an SLO of a class that the workload does not have" in found.output
    assert "known: chat, batch" in found.output


def test_conversations_report_each_turn(suite, timetable):
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.mark.infer_workload(
            arrivals="closed 4", requests=60, api="chat", turns=3, think_time="20 ms", prompt_tokens=8,
            output_tokens=4, warmup=4,
        )
        def test_talk(infer_run):
            assert len(infer_run.by_turn("ttft_s.p50")) == 3
            assert infer_run.requests[0].turn == 0
        """,
    )
    found = suite.run(f"--infer-url={timetable()}")
    assert found.exit_code == 0, found.output
    assert "TTFT p50 by turn: " in found.output


STRESS = """
    import pytest

    @pytest.mark.infer_workload(
        arrivals="stress 20 -> 320 req/s factor=2", duration="2 s", prompt_tokens=8, output_tokens=5, warmup=4
    )
    @pytest.mark.infer_slo("ttft p90 < 150 ms", "capacity >= LIMIT req/s")
    def test_capacity(infer_run):
        steps = infer_run.boots[0].steps
        assert [step.rate_per_s for step in steps][:2] == [20.0, 40.0]
        assert steps[0].broke == ()
"""


@pytest.mark.parametrize(("limit", "code"), [(20, 0), (300, 1)])
def test_a_stress_run_finds_the_rate_that_breaks_an_slo(limit, code, suite, timetable):
    """Four slots of some 50 ms each: about 80 requests a second, and then a queue."""
    suite.write("test_a.py", STRESS.replace("LIMIT", str(limit)))
    url = timetable(ttft_s=0.03, gap_s=0.005, slots=4)
    found = suite.run(f"--infer-url={url}")
    assert found.exit_code == code, found.output
    capacity = found.document["tests"][0]["boots"][0]["metrics"]["capacity_req_per_s"]
    assert 20 <= capacity < 160
    assert "step 20 req/s: every SLO held" in found.output
    assert ": broke ttft p90 < 150 ms" in found.output
    assert found.document["tests"][0]["boots"][0]["steps"][0] == {"rate_per_s": 20.0, "broke": []}
    (slo,) = found.document["tests"][0]["slo"]
    assert slo["text"] == f"capacity >= {limit} req/s"
    assert slo["verdict"] == ("pass" if code == 0 else "fail")


INVALID = """
    import pytest

    @pytest.mark.infer_workload(
        arrivals="poisson 100 req/s", requests=100, prompt_tokens=16, output_tokens=4, warmup=0
    )
    def test_a(infer_run):
        pass
"""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"restart_after_index": 50}, "the server was restarted while it was measured"),
        (
            {"faults": dict.fromkeys(range(0, 100, 10), "short")},
            "replies are shorter than the server was told",
        ),
        ({"faults": dict.fromkeys(range(0, 100, 5), "cached")}, "prompt tokens came from a prefix cache"),
    ],
)
def test_a_server_that_was_not_asked_what_was_meant_is_not_judged(fields, said, suite, timetable):
    suite.write("test_a.py", INVALID)
    found = suite.run(f"--infer-url={timetable(**fields)}", "--infer-backend=vllm")
    assert found.outcomes == {"test_a.py::test_a": "error"}
    message = found.failures["test_a.py::test_a"]
    assert "the run is INVALID after one repeat" in message
    assert said in message


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ('schedule_lag = "1 us"', "the client was late: schedule lag p99 "),
        ('loop_lag = "1 us"', "a load worker was stalled: its timers were late by "),
        ('worker_cpu = "0.01 %"', "a load worker needed "),
    ],
)
def test_limits_are_numbers_of_the_projects_file(limits, said, suite, timetable):
    suite.write("inferforge.toml", f"floor_requests = 0\n[limits]\n{limits}\n")
    suite.write("test_a.py", INVALID)
    found = suite.run(f"--infer-url={timetable(ttft_s=0.000_01, gap_s=0.0001)}")
    assert found.outcomes == {"test_a.py::test_a": "error"}
    assert said in found.failures["test_a.py::test_a"]


def test_the_clients_own_error_is_measured_and_shown_and_may_be_too_large(suite, timetable):
    suite.write("test_a.py", INVALID)
    url = timetable()
    suite.write("inferforge.toml", '[limits]\nschedule_lag = "1 s"\nfloor = "1 s"\nloop_lag = "1 s"\n')
    found = suite.run(f"--infer-url={url}")
    assert found.exit_code == 0, found.output
    assert " own error of TTFT " in found.output
    assert "(p99) at poisson 100 req/s" in found.output
    calm = '[limits]\nschedule_lag = "1 us"\nfloor = "1 us"\nloop_lag = "1 s"\n'
    suite.write("inferforge.toml", calm)
    red = suite.run(f"--infer-url={timetable(ttft_s=0.000_01, gap_s=0.0001)}")
    assert "the client's own error is too large at this rate: " in red.failures["test_a.py::test_a"]


def test_several_workers_drive_one_load(suite, timetable):
    suite.write("test_a.py", INVALID)
    found = suite.run(f"--infer-url={timetable()}", "--infer-workers=2")
    assert found.exit_code == 0, found.output
    assert "2 workers, up to " in found.output
    wrong = suite.run(f"--infer-url={timetable()}", "--infer-workers=two")
    assert wrong.exit_code == 4
    assert "workers are not readable" in wrong.output


TOKENS = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 2", requests=8, output_tokens=2, warmup=0, {more})
    def test_a(infer_run):
        assert infer_run.requests.counts["prompt_tokens"].tolist() == [40] * 8
"""


def test_prompts_may_be_token_ids(suite, timetable):
    suite.write("test_a.py", TOKENS.format(more="prompt_tokens=40, token_ids=True"))
    assert suite.run(f"--infer-url={timetable()}", "--infer-backend=vllm").exit_code == 0
    refused = suite.run(f"--infer-url={timetable()}", "--infer-backend=openai")
    assert "has no route to the tokenizer" in refused.failures["test_a.py::test_a"]


def test_where_a_server_counts_no_tokens_its_tokenizer_is_asked_or_a_local_one(suite, timetable):
    tokenizers = pytest.importorskip("tokenizers", reason="pip install tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(suite.folder / "tokenizer.json"))
    suite.write("test_a.py", TOKENS.format(more="prompt_tokens=40"))
    url = timetable(counts_tokens=False)
    assert suite.run(f"--infer-url={url}", "--infer-backend=vllm").exit_code == 0
    lost = suite.run(f"--infer-url={url}", "--infer-backend=openai")
    assert "name its tokenizer with --infer-tokenizer=FILE" in lost.failures["test_a.py::test_a"]
    local = suite.run(f"--infer-url={url}", "--infer-backend=openai", "--infer-tokenizer=tokenizer.json")
    assert local.exit_code == 0, local.output


def test_a_very_long_prompt_has_its_length_too(suite, timetable):
    suite.write("test_a.py", TOKENS.replace("[40] * 8", "[120_000] * 8").format(more="prompt_tokens=120_000"))
    assert suite.run(f"--infer-url={timetable()}").exit_code == 0

"""Digests stay the same over runs and machines, and change with what is asked."""

from functools import partial

from pytest_inferforge.quality import identity

SAMPLE = {"doc_id": 3, "doc_hash": "a", "prompt_hash": "b", "target_hash": "c"}


def score(doc, results):
    return {"acc": 1.0}


def other(doc, results):
    return {"acc": 0.0}


class Sampler:
    pass


def test_a_key_is_written_down():
    assert identity.item_key("task", SAMPLE) == "064c27406c8c696c"
    assert identity.item_key("task", {**SAMPLE, "doc_id": 4}) != identity.item_key("task", SAMPLE)
    assert identity.item_key("task2", SAMPLE) != identity.item_key("task", SAMPLE)
    assert identity.reply_digest("4") == identity.reply_digest("4")
    assert len(identity.reply_digest("4")) == 8
    assert identity.data_digest(["ab", "c"]) != identity.data_digest(["a", "bc"])


def test_where_the_data_lie_does_not_matter():
    config = {"doc_to_text": "{{q}}", "dataset_path": "json", "dataset_kwargs": {"data_files": "/a/b.jsonl"}}
    moved = {**config, "dataset_kwargs": {"data_files": "/c.jsonl"}, "metadata": {"config_source": "/x"}}
    assert identity.config_digest(config) == identity.config_digest(moved)
    assert identity.config_digest(config) != identity.config_digest({**config, "doc_to_text": "{{q}}?"})


def test_functions_are_what_they_do():
    def digest(function):
        return identity.config_digest({"process_results": function})

    assert digest(score) != digest(other)
    assert digest(partial(score, results=1)) != digest(partial(score, results=2))
    assert digest(partial(score, results=1)) == digest(partial(score, results=1))


def test_addresses_do_not_matter():
    one, two = (identity.config_digest({"sampler": Sampler(), "n": {1: 2.5}}) for _ in range(2))
    assert one == two

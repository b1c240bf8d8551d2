import csv
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import corpus
from pytest_inferforge.workload.corpus import Conversation

DO = (
    'write rows like {"prompt": "Why?", "output_tokens": 128} or {"messages": [{"role": "user", "content":'
    ' "Why?"}]}, a CSV file with a column prompt, or ShareGPT\'s [{"conversations": [...]}]'
)


def json_lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def asks(*turns, system=None, tokens=None):
    given = tokens if isinstance(tokens, tuple) else (tokens,) * len(turns)
    return Conversation(system=system, turns=turns, output_tokens=given)


def chat(*roles_and_contents, **fields):
    messages = [{"role": role, "content": content} for role, content in roles_and_contents]
    return {"messages": messages, **fields}


def dump(*whos_and_values):
    return {"id": "x", "conversations": [{"from": who, "value": value} for who, value in whos_and_values]}


@pytest.fixture
def read(tmp_path):
    def read(content, **options):
        path = tmp_path / "p.x"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return corpus.read(path, **options)

    return read


@pytest.mark.parametrize(
    ("row", "meant"),
    [
        ({"prompt": "Why?"}, asks("Why?")),
        ({"prompt": " Why?\n", "output_tokens": 9, "id": 4}, asks(" Why?\n", tokens=9)),
        ({"text": "Why?", "max_tokens": 9}, asks("Why?", tokens=9)),
        ({"question": "Why?", "output_tokens": None, "max_tokens": 3}, asks("Why?", tokens=3)),
        ({"input": "Why?", "output_tokens": [7]}, asks("Why?", tokens=7)),
        ("Why?", asks("Why?")),
        (chat(("user", "Why?")), asks("Why?")),
        (
            chat(("system", "Be kind."), ("user", "a"), ("assistant", "?"), ("user", "b"), output_tokens=5),
            asks("a", "b", system="Be kind.", tokens=5),
        ),
        (
            chat(
                ("developer", "Be kind."), ("user", "a"), ("tool", None), ("user", "b"), max_tokens=[5, None]
            ),
            asks("a", "b", system="Be kind.", tokens=(5, None)),
        ),
        (chat(("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])), asks("a\nb")),
        (dump(("human", "a"), ("gpt", "?"), ("user", "b")), asks("a", "b")),
    ],
)
def test_rows_say_the_same_in_lines_and_in_an_array(read, row, meant):
    lines = read(json_lines({"prompt": "first"}, row))
    assert (lines.format, lines.conversations) == ("jsonl", (asks("first"), meant))
    array = read(json.dumps(["first", row], indent=1))
    assert (array.format, array.conversations) == ("json", (asks("first"), meant))


def test_sharegpt_dumps_leave_out_what_cannot_be_asked(read):
    found = read(
        json.dumps(
            [
                dump(("gpt", "Hi, I am here.")),
                dump(("human", "a"), ("gpt", "?"), ("human", "b"), ("gpt", "?")),
                dump(("system", "Be kind."), ("human", "c"), ("chatgpt", "?")),
                dump(("human", "d"), ("gpt", "?"), ("human", " ")),
                dump(("human", "e"), ("system", "Be unkind.")),
                dump(),
            ]
        )
    )
    assert (found.format, found.skipped) == ("sharegpt", 4)
    assert found.conversations == (asks("a", "b"), asks("c", system="Be kind."))


def test_csv_files_may_hold_lines_commas_and_long_prompts(read):
    before = csv.field_size_limit()
    long = "word " * 50_000
    found = read(f'\ufeffid,prompt,output_tokens\n1,"a, ""b""\nc",9\n\n2,{long},\n3,d\n')
    assert (found.format, found.skipped) == ("csv", 0)
    assert found.conversations == (asks('a, "b"\nc', tokens=9), asks(long), asks("d"))
    assert csv.field_size_limit() == before
    assert read("question,max_tokens\nWhy?,3\n").conversations == (asks("Why?", tokens=3),)


PROMPTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")).filter(str.strip),
    min_size=1, max_size=5,
)  # fmt: skip


@given(PROMPTS)
def test_prompts_arrive_unchanged(tmp_path_factory, prompts):
    path = tmp_path_factory.mktemp("p") / "p"
    path.write_text(json_lines(*({"prompt": prompt} for prompt in prompts)))
    assert [c.turns for c in corpus.read(path).conversations] == [(prompt,) for prompt in prompts]
    path.write_text(json.dumps(prompts))
    assert [c.turns for c in corpus.read(path).conversations] == [(prompt,) for prompt in prompts]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt"], *([prompt] for prompt in prompts)])
    assert [c.turns for c in corpus.read(path).conversations] == [(prompt,) for prompt in prompts]


def test_a_file_is_known_by_its_bytes(read):
    content = json_lines("Why?")
    found = read(content, format="jsonl")
    assert found.digest == hashlib.sha256(content.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("content", "what", "seen"),
    [
        (json_lines({"prompt": "a"}, {"prompt": ""}), "prompt is empty", "line 2: '{\"prompt\": \"\"}'"),
        (json_lines({"prompt": "a"}) + '\n{"text": " "}', "text is empty", "line 3: '{\"text\": \" \"}'"),
        (json_lines({"prompt": ["a"]}), "prompt has parts that are not text", "line 1: "),
        (json_lines({"prompt": 5}), "prompt is not text", "line 1: "),
        (
            json_lines({"promt": "a"}), "none of prompt, text, question, input, messages and conversations",
            "line 1: '{\"promt\": \"a\"}'",
        ),
        (json_lines({"prompt": "a"}, [1]), "expected an object or a string", "line 2: '[1]'"),
        (json_lines({"prompt": "a"}) + "{", "not JSON: Input data was truncated", "line 2: '{'"),
        (json_lines({"prompt": "a", "output_tokens": 0}), "output_tokens is not a whole number ", "line 1"),
        (json_lines({"prompt": "a", "max_tokens": 1.5}), "max_tokens is not a whole number from 1", "line 1"),
        (json_lines({"prompt": "a", "output_tokens": True}), "output_tokens is not a whole number ", "line"),
        (json_lines({"prompt": "a", "output_tokens": [1, 2]}), "output_tokens has 2 entries for 1 ", "line"),
        (json_lines(chat(("assistant", "a"))), "messages: none of a user", "line 1: "),
        (json_lines(chat()), "messages: none of a user", "line 1: "),
        (json_lines({"messages": "a"}), "messages is not an array", "line 1: "),
        (json_lines({"messages": ["a"]}), "messages[0]: role is missing", "line 1: "),
        (json_lines(chat(("user", "a"), ("usr", "b"))), "messages[1]: unknown role 'usr'", "line 1: "),
        (json_lines(chat((["user"], "a"))), "messages[0]: unknown role ['user']", "line 1: "),
        (json_lines(chat(("user", "a"), ("user", ""))), "messages[1].content is empty", "line 1: "),
        (json_lines(chat(("user", None))), "messages[0].content is not text", "line 1: "),
        (
            json_lines(chat(("user", [{"type": "image_url", "image_url": {}}]))),
            "messages[0].content has parts that are not text", "line 1: ",
        ),
        (
            json_lines(chat(("user", "a"), ("system", "b"))),
            "messages[1]: a system message is the first or none", "line 1: ",
        ),
        (json.dumps(["a", {"prompt": ""}]), "prompt is empty", "item 2: '{\"prompt\":\"\"}'"),
        (json.dumps([dump(("human", "a")), dump(("robot", "a"))]), "conversations[0]: unknown from", "item"),
        (json.dumps([{"conversations": {}}]), "conversations is not an array", "item 1: "),
        ("[{", "not JSON: Input data was truncated", "the whole file: '[{'"),
        ('prompt,n\n"a\nb",1\n ,2\n', "prompt is empty", "line 4: ',2'"),
        ("prompt,output_tokens\na,many\n", "output_tokens is not a whole number from 1", "line 2: 'a,many'"),
        ("n,prompt\n1\n", "prompt is empty", "line 2: '1'"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(read, content, what, seen):
    with pytest.raises(UsageError) as error:
        read(content)
    assert error.value.what.startswith(f"wrong prompt: {what}")
    assert error.value.seen.startswith(f"p.x, {seen}")
    assert error.value.do == DO


@pytest.mark.parametrize(
    ("content", "options", "what", "seen", "do"),
    [
        ("", {}, "there are no prompts", "p.x: no rows", DO),
        ("\n\n", {}, "there are no prompts", "p.x: no rows", DO),
        ("[]", {}, "there are no prompts", "p.x: no rows", DO),
        ("prompt\n", {}, "there are no prompts", "p.x: no rows", DO),
        (json.dumps([dump(("gpt", "a"))]), {}, "there are no prompts",
         "p.x: 1 conversations, none of them to be asked", DO),
        ("Why?\n", {}, "the format of the prompts is unknown", "p.x, line 1: 'Why?'", DO),
        ("a,b\n", {"format": "csv"}, "the file has no column prompt", "p.x, line 1: 'a,b'", DO),
        ("{}", {"format": "json"}, "the file is not a JSON array", "p.x, the whole file: '{}'", DO),
        ("[5]", {"format": "sharegpt"}, "wrong prompt: conversations is missing", "p.x, item 1: '5'", DO),
        ("a", {"format": "jsnl"}, "unknown format of prompts", "jsnl", "did you mean jsonl?"),
        ("a", {"format": "yaml"}, "unknown format of prompts", "yaml", "known: jsonl, csv, json, sharegpt"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', {}, "the file is not UTF-8 text", "p.x, line 2: '{",
         "save the file as UTF-8"),
    ],
)  # fmt: skip
def test_a_file_without_prompts_says_what_is_known(read, content, options, what, seen, do):
    with pytest.raises(UsageError) as error:
        read(content, **options)
    assert error.value.what == what
    assert error.value.seen.startswith(seen)
    assert error.value.do == do


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError) as error:
        corpus.read(tmp_path)
    assert (error.value.what, error.value.seen) == ("prompts: no such file", str(tmp_path))

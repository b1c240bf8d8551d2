"""What a task is, as digests that stay the same over runs and machines as long as the same is asked."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

KEY_CHARACTERS = 16
REPLY_CHARACTERS = 8
# Where the data come from does not matter, since their content has a digest of its own, nor what a task is
# called.
_LEFT_OUT = frozenset({
    "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split",
    "test_split", "fewshot_split", "metadata", "tag", "task_alias", "num_fewshot", "split",
})  # fmt: skip
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def digest(*parts: str, characters: int) -> str:
    """Of texts, whose borders count."""
    joined = json.dumps(parts, ensure_ascii=True).encode()
    return hashlib.sha256(joined).hexdigest()[:characters]


def item_key(leaf: str, sample: Mapping[str, Any]) -> str:
    """Of one item as lm-eval logged it: its place, document, prompt and target."""
    names = ("doc_id", "doc_hash", "prompt_hash", "target_hash")
    return digest(leaf, *(str(sample[name]) for name in names), characters=KEY_CHARACTERS)


def reply_digest(text: str) -> str:
    return digest(text, characters=REPLY_CHARACTERS)


def data_digest(hashes: Iterable[str]) -> str:
    """Of the documents that were asked, in order."""
    return digest(*hashes, characters=KEY_CHARACTERS)


def config_digest(config: Any) -> str:
    """Of how a task asks and scores: functions by their source, without paths and addresses."""
    fields = asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config)
    plain = _plain({name: value for name, value in fields.items() if value is not None})
    return digest(json.dumps(plain, sort_keys=True), characters=KEY_CHARACTERS)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items() if name not in _LEFT_OUT}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, partial):
        return ["partial", _plain(value.func), _plain(value.args), _plain(value.keywords)]
    if callable(value):
        return _source(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _ADDRESS.sub("", repr(value))


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (TypeError, OSError):
        return str(getattr(function, "__qualname__", type(function).__qualname__))

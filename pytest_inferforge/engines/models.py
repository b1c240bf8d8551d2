"""The model that an engine is asked to serve: a folder here, or a name on a hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_inferforge.engines.protocol import Spec

# Source: huggingface_hub, validate_repo_id: at most one slash, no leading or trailing dot or dash.
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def check(spec: Spec, *, what: str = "config.json") -> None:
    """Refuse a model that cannot be there. `what`: the file that a model's folder must have.

    Raises:
        UsageError: no model, no such folder, a folder without that file, no name at all.
    """
    if not spec.model:
        raise UsageError(
            f"{spec.engine} needs a model",
            seen="none was named",
            do="write --infer-model=MODEL: a folder, or a name on the hub",
        )
    folder = Path(spec.model).expanduser()
    if folder.is_dir():
        if not (folder / what).is_file():
            raise UsageError(
                "this folder holds no model", seen=f"{folder} has no {what}", do="name another one"
            )
        if spec.revision:
            raise UsageError(
                "a folder has no revisions",
                seen=f"revision={spec.revision} of {folder}",
                do="leave it out, or name the model as the hub does",
            )
    elif looks_like_path(spec.model) or not _HUB_ID.fullmatch(spec.model):
        raise UsageError(
            "there is no such model here",
            seen=f"{spec.model}: no such folder",
            do="give a folder with a model, or a name on the hub",
        )


def looks_like_path(model: str) -> bool:
    """
    >>> looks_like_path("./tiny"), looks_like_path("meta-llama/Llama-3.1-8B")
    (True, False)
    """
    return model.startswith(("/", "./", "../", "~")) or model.count("/") > 1


def on_hub(spec: Spec) -> str | None:
    """The model's name on the hub; None for a folder or a file here."""
    if spec.model is None or looks_like_path(spec.model) or Path(spec.model).exists():
        return None
    return spec.model


def told(spec: Spec) -> str | None:
    """What the engine is told: a name as it is, a folder as its whole path."""
    if spec.model is None or on_hub(spec) is not None:
        return spec.model
    return str(Path(spec.model).expanduser().resolve())


def draft(spec: Spec) -> str | None:
    """The model that drafts, as the setting `speculative` names it; None: none does."""
    value = dict(spec.settings).get("speculative")
    named = dict(value).get("model") if isinstance(value, tuple) else None
    return named if isinstance(named, str) else None


def without_hub(spec: Spec, env: Mapping[str, str]) -> dict[str, str]:
    """The environment, for a folder without the hub: one that does not answer holds a boot up.

    Source: huggingface_hub, environment variables.
    """
    drafting = draft(spec)
    here = drafting is None or looks_like_path(drafting) or Path(drafting).exists()
    if here and on_hub(spec) is None and "HF_HUB_OFFLINE" not in os.environ:
        return {**env, "HF_HUB_OFFLINE": "1"}
    return dict(env)


def profile_folder(run_dir: Path, port: int) -> Path:
    """Where the engine's own profiler writes; made now."""
    folder = run_dir.resolve() / f"profile-{port}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

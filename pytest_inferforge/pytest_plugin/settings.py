"""Where a value comes from: command line > marker > [tool.inferforge] > default, key by key."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge.baselines import objects
from pytest_inferforge.errors import UsageError
from pytest_inferforge.loadgen import crew
from pytest_inferforge.options import JudgeOptions, LoadOptions, SessionOptions
from pytest_inferforge.pytest_plugin import gate_settings, server_words
from pytest_inferforge.pytest_plugin.layers import COMMAND_LINE, Layer, merge
from pytest_inferforge.servers import kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_inferforge.pytest_plugin.gate_settings import GateSettings

FILE_KEYS = {
    "backend", "model", "boots", "policy", "store", "settings", "workload", "margins", "limits", "workers",
    "floor_requests", "servers", "budget", "pairs", "tail", "extend", "quality",
}  # fmt: skip
LIMITS = {  # key of the file -> field of LoadOptions and its unit
    "schedule_lag": ("lag_limit_s", "s"),
    "floor": ("floor_limit_s", "s"),
    "loop_lag": ("loop_lag_limit_s", "s"),
    "worker_cpu": ("worker_cpu_limit", "ratio"),
    "achieved_rate": ("achieved_rate_limit", "ratio"),
    "dispersion": ("dispersion_limit", "ratio"),
    "prompt_lengths": ("miscounted_limit", "ratio"),
    "chunks": ("chunks_limit", "ratio"),
    "short_output": ("short_limit", "ratio"),
    "cached": ("cached_limit", "ratio"),
    "cache_size": ("cache_size_limit", "ratio"),
}
MOST_EXTEND = 100
MARGINS = {"mean", "p50", "p90", "p99", "boot_time"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the command line and the project's file say. None: nobody said anything.

    `server`, `workload`, `asked_quality` are what the command line says about every test's; `file_server`,
    `file_workload`, `file_quality` what the project's file does; `servers` those that it names.
    `default_key_env`: of the API key behind an URL for which nobody names one. `attach`: the name of a server
    that was brought up before. `profile`: when the engine's own profiler is used. `store`: the folder of this
    machine for logs and rows; `baselines`: where stored sessions are, the same folder or a URL.
    """

    server: Layer
    workload: Layer
    file_server: Layer
    file_workload: Layer
    asked_quality: Layer
    file_quality: Layer
    servers: Mapping[str, Layer]
    default_key_env: str | None
    boots: int
    save: str | None
    compare: str | None
    record_missing: bool
    policy: str
    quick: bool
    json_path: Path | None
    store: Path
    baselines: str
    keys: Mapping[str, str]
    ci: bool
    judge: JudgeOptions
    load: LoadOptions
    gate: GateSettings
    ca_file: str | None = None
    verify_tls: bool = True
    attach: str | None = None
    profile: str = "never"
    session_id: str | None = None

    def check(self) -> None:
        """What can never be meant, before anything is collected.

        Raises:
            UsageError: contradictory or impossible options.
        """
        if self.boots < 1:
            raise UsageError(
                "--infer-boots must be at least 1", seen=str(self.boots), do="write --infer-boots=3"
            )
        if self.session_id is not None and not self.save:
            raise UsageError(
                "--infer-session-id makes this run a shard of a session, which is stored for a baseline",
                seen=f"--infer-session-id={self.session_id} without --infer-save",
                do="add --infer-save=NAME; the shards are judged with `inferforge judge NAME ID`",
            )
        values = self.server.values
        if "url" in values and self.boots > 1 and "restart_command" not in values:
            raise UsageError(
                "a server behind a URL cannot be booted again",
                seen=f"--infer-url with --infer-boots={self.boots}",  # a URL may hold a password
                do="name the command that restarts it with --infer-restart-command, drop --infer-boots,"
                " or let --infer-backend boot the server",
            )
        asked = {"save": self.save, "compare": self.compare, "against": self.gate.against}
        given = [f"--infer-{name}" for name, value in asked.items() if value]
        if self.quick and given:
            raise UsageError(
                "--infer-quick judges nothing, so there is nothing to save or compare",
                seen=f"--infer-quick with {given[0]}",
                do="drop one of them",
            )
        if "url" in values and self.gate.against:
            raise UsageError(
                "a server behind a URL cannot be booted in turns with a reference",
                seen="--infer-url with --infer-against",
                do="let --infer-backend or --infer-command boot the server, or compare with stored sessions",
            )


def read(option: Mapping[str, Any], root: Path, invocation: Path, environ: Mapping[str, str]) -> Settings:
    """Merge the options of a pytest run with the project's file.

    Raises:
        UsageError: an unreadable file, an unknown key, a value that is none.
    """
    file = _read_file(root)
    defaults = SessionOptions()
    store, boots = option["infer_store"], option["infer_boots"]
    servers = server_words.named(_table(file, "servers"))
    if option["infer_attach"] is None:
        server = _command_line(option, servers)
    else:
        server = _attached(option, store_of(store, root, invocation, file))
        boots = 1  # whatever the project's file says
    settings = Settings(
        server=server,
        servers=servers,
        workload=Layer(
            source=COMMAND_LINE,
            values=_pairs(option["infer_workload"], "--infer-workload", "requests=100"),
        ),
        asked_quality=Layer(
            source=COMMAND_LINE, values=_pairs(option["infer_quality"], "--infer-quality", "limit=50")
        ),
        file_quality=Layer(source="the project's file", values=_table(file, "quality")),
        file_server=_file_server(file),
        file_workload=Layer(source="the project's file", values=_table(file, "workload")),
        default_key_env=defaults.api_key_env if environ.get(defaults.api_key_env) else None,
        boots=boots if boots is not None else _whole(file.get("boots", defaults.boots), "boots"),
        save=option["infer_save"],
        compare=option["infer_compare"],
        record_missing=option["infer_missing"] == "record",
        policy=option["infer_policy"] or _policy(file.get("policy", defaults.policy)),
        quick=option["infer_quick"],
        json_path=None if option["infer_json"] is None else invocation / option["infer_json"],
        store=store_of(store, root, invocation, file),
        baselines=baselines_of(store, root, invocation, file),
        keys={
            name: str(value) for name, value in _pairs(option["infer_key"], "--infer-key", "gpu=H100").items()
        },
        ci=environ.get("CI", "").lower() not in ("", "0", "false"),
        judge=replace(
            _judge(_table(file, "margins")),
            extend=_factor(option["infer_extend"] or file.get("extend", "1x")),
        ),
        load=_load(
            _table(file, "limits"),
            quick=option["infer_quick"],
            workers=option["infer_workers"] or str(file.get("workers", LoadOptions().workers)),
            tokenizer=None
            if option["infer_tokenizer"] is None
            else str(invocation / option["infer_tokenizer"]),
            floor_requests=_whole(file.get("floor_requests", LoadOptions().floor_requests), "floor_requests"),
        ),
        gate=gate_settings.read(option, file),
        ca_file=None if option["infer_tls_ca"] is None else str(invocation / option["infer_tls_ca"]),
        verify_tls=not option["infer_tls_insecure"],
        attach=option["infer_attach"],
        profile=option["infer_profile"],
        session_id=option["infer_session_id"],
    )
    settings.check()
    return settings


def store_of(named: str | None, root: Path, invocation: Path, file: Mapping[str, Any] | None = None) -> Path:
    """The folder for what stays on this machine; `file`: the project's, read when it is not given."""
    place = baselines_of(named, root, invocation, file)
    return root / SessionOptions().store if objects.is_url(place) else Path(place)


def baselines_of(
    named: str | None, root: Path, invocation: Path, file: Mapping[str, Any] | None = None
) -> str:
    """Where baselines are kept: the same folder, or a URL.

    Raises:
        UsageError: a URL that can be no store's.
    """
    said = named or _text(_read_file(root) if file is None else file, "store", SessionOptions().store)
    if objects.is_url(said):
        objects.check_url(said)
        return said
    return str((invocation if named else root) / said)


def _command_line(option: Mapping[str, Any], servers: Mapping[str, Layer]) -> Layer:
    """A server that is named on the command line counts as said there, below what else is said there."""
    said = server_words.command_line(option, _pairs(option["infer_set"], "--infer-set", "max_num_seqs=4"))
    own = Layer(source=COMMAND_LINE, values=said)
    if option["infer_server"] is None:
        return own
    chosen = server_words.choose(servers, option["infer_server"])
    return Layer(source=COMMAND_LINE, values=merge([own, chosen], []))


def _attached(option: Mapping[str, Any], store: Path) -> Layer:
    """A server that was brought up before stands for whatever else is said."""
    counted = {name: option[f"infer_{name}"] for name in ("save", "compare", "against")}
    counted["boots"] = (option["infer_boots"] or 1) > 1
    if refused := [f"--infer-{name}" for name, given in counted.items() if given]:
        raise UsageError(
            "an attached server is for the edit loop: nothing is saved, compared or booted",
            seen=f"--infer-attach with {' and '.join(refused)}",
            do="drop --infer-attach, and let the server be booted",
        )
    found = kept.require(store, option["infer_attach"])
    said = {"url": found.url, "model": found.model, "dialect": found.dialect}
    return Layer(
        source=COMMAND_LINE,
        values=said if found.api_key_env is None else {**said, "api_key_env": found.api_key_env},
    )


def _file_server(file: Mapping[str, Any]) -> Layer:
    named = {name: _text(file, name, "") for name in ("backend", "model") if name in file}
    return Layer(source="the project's file", values={**_table(file, "settings"), **named})


def _read_file(root: Path) -> Mapping[str, Any]:
    for path, keys in ((root / "inferforge.toml", ()), (root / "pyproject.toml", ("tool", "inferforge"))):
        if not path.is_file():
            continue
        try:
            content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path.name} is not TOML", seen=str(error), do=f"mend {path}") from error
        for key in keys:
            content = content.get(key, {})
        if not content and keys:
            continue
        for key in content:
            if key not in FILE_KEYS:
                near = difflib.get_close_matches(key, FILE_KEYS, n=1)
                raise UsageError(
                    f"unknown key in {path.name}",
                    seen=f"{'.'.join((*keys, key))}",
                    do=f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(FILE_KEYS))}",
                )
        return dict(content)
    return {}


def _pairs(items: Iterable[str], option: str, example: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{option} takes NAME=VALUE", seen=item, do=f"write {option} {example}")
        pairs[name.strip()] = plain(value.strip())
    return pairs


def plain(text: str) -> Any:
    """A value from a command line: a whole number, a number, true or false, else the text.

    >>> plain("4"), plain("0.5"), plain("true"), plain("auto")
    (4, 0.5, True, 'auto')
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _policy(policy: object) -> str:
    if policy not in ("default", "strict", "observe"):
        raise UsageError("unknown policy", seen=repr(policy), do="write default, strict or observe")
    return str(policy)


def _table(file: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = file.get(name, {})
    if not isinstance(value, dict):
        raise UsageError(f"{name} is not a table", seen=repr(value), do=f"write a [{name}] table")
    return value


def _text(file: Mapping[str, Any], name: str, default: str) -> str:
    value = file.get(name, default)
    if not isinstance(value, str):
        raise UsageError(f"{name} is not a text", seen=repr(value), do=f'write {name} = "..."')
    return value


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{name} is not a whole number", seen=repr(value), do=f"write {name} = 3")
    return value


def _factor(value: object) -> int:
    """`3x`, or 3: how many times the planned requests."""
    text = str(value).strip().removesuffix("x")
    if not text.isdecimal() or not 1 <= int(text) <= MOST_EXTEND:
        raise UsageError(
            f"a run is extended to a whole number of times its requests, {MOST_EXTEND} at most",
            seen=f"extend: {value!r}",
            do="write --infer-extend=3x, or 1x for no extension",
        )
    return int(text)


def _judge(margins: Mapping[str, Any]) -> JudgeOptions:
    """Margins of the file, as `p99 = "12 %"` or `p99 = 0.12`."""
    from pytest_inferforge import units

    chosen: dict[str, Any] = {}
    for name, value in margins.items():
        if name not in MARGINS:
            raise UsageError(
                "unknown margin", seen=f"margins.{name}", do=f"known: {', '.join(sorted(MARGINS))}"
            )
        margin = units.parse(value, "ratio") if isinstance(value, str) else value
        if not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 <= margin < 1:
            raise UsageError(
                f"margins.{name} is not a share",
                seen=repr(value),
                do=f'write {name} = "5 %" or {name} = 0.05',
            )
        chosen[f"margin_{name}"] = float(margin)
    return JudgeOptions(**chosen)


def _load(
    limits: Mapping[str, Any], *, quick: bool, workers: str, tokenizer: str | None, floor_requests: int
) -> LoadOptions:
    """How load is driven, and the limits beyond which a run is not judged: `schedule_lag = "5 ms"`.

    Under quick there are none, and the client's own error is not measured.
    """
    crew.parse(workers)
    for name in limits:
        if name not in LIMITS:
            near = difflib.get_close_matches(name, LIMITS, n=1)
            do = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(LIMITS))}"
            raise UsageError("unknown limit", seen=f"limits.{name}", do=do)
    if floor_requests < 0:
        raise UsageError("floor_requests cannot be negative", seen=str(floor_requests), do="write 300, or 0")
    if quick:
        never: dict[str, Any] = dict.fromkeys((field for field, _ in LIMITS.values()), math.inf)
        return LoadOptions(workers=workers, tokenizer=tokenizer, floor_requests=0, **never)
    chosen: dict[str, Any] = {
        LIMITS[name][0]: _limit(name, value, LIMITS[name][1]) for name, value in limits.items()
    }
    return LoadOptions(workers=workers, tokenizer=tokenizer, floor_requests=floor_requests, **chosen)


def _limit(name: str, value: object, unit: str) -> float:
    from pytest_inferforge import units

    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and unit == "ratio":
        return float(value)
    try:
        return units.parse(str(value), unit)
    except UsageError as error:
        raise UsageError(f"limits.{name}: {error.what}", seen=error.seen, do=error.do) from error


def environment() -> Mapping[str, str]:
    """The process's environment; the one place that reads it for settings."""
    return os.environ

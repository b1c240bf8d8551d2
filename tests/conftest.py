"""What tests of several folders need."""

import os
import secrets
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trustme

from pytest_inferforge.loadgen.plan import NOT_DUE, BankPlan, ClassPlan, Items, LanePlan, Plan
from pytest_inferforge.records import BootResult, Fingerprint, RequestCounts, SessionResult, TestResult
from pytest_inferforge.words import WORDS

# CI sets it: there an absent engine is a failure, elsewhere a skip that says what to install.
ENGINES_REQUIRED = os.environ.get("INFERFORGE_REQUIRE_ENGINES") == "1"


# Other programs of the machine that runs these tests may hold the client up: that is not what they are about.
CALM = """\
floor_requests = 0
[limits]
schedule_lag = "1 s"
loop_lag = "1 s"
worker_cpu = 10.0
achieved_rate = 1.0
dispersion = 100.0
"""


@pytest.fixture(scope="session")
def calm():
    return CALM


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if ENGINES_REQUIRED and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: an engine is absent where all are required: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if ENGINES_REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped where nothing may be: {report.longrepr}"
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Of 127.0.0.1 and localhost: PEM files of it, of its key, and of the authority that vouches for it."""

    cert: str
    key: str
    authority: str

    @property
    def served(self) -> dict[str, str]:
        """The arguments of a `Timetable`."""
        return {"tls_cert": self.cert, "tls_key": self.key}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    paths = {name: str(folder / f"{name}.pem") for name in ("cert", "key", "authority")}
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(paths["cert"])
    issued.private_key_pem.write_to_path(paths["key"])
    authority.cert_pem.write_to_path(paths["authority"])
    return Certificate(**paths)


def load_items(due_ns: list[int], *, prompt_tokens: int, output_tokens: int) -> Items:
    """Single turns of one class."""
    n = len(due_ns)
    return Items(
        index=array("q", range(n)).tobytes(),
        due_ns=array("q", due_ns).tobytes(),
        lane=array("h", [0] * n).tobytes(),
        cls=array("h", [0] * n).tobytes(),
        session=array("q", range(n)).tobytes(),
        turn=array("h", [0] * n).tobytes(),
        think_ns=array("q", [0] * n).tobytes(),
        prompt_tokens=array("i", [prompt_tokens] * n).tobytes(),
        output_tokens=array("i", [output_tokens] * n).tobytes(),
        text=array("i", [-1] * n).tobytes(),
        block_start=array("q", [0] * (n + 1)).tobytes(),
        blocks=b"",
    )


@pytest.fixture(scope="session")
def load_plan() -> Callable[..., Plan]:
    """A plan from what matters to a test; times in seconds, `due_s` makes it an open loop."""

    def plan(
        url: str,
        *,
        chat: bool = False,
        due_s: tuple[float, ...] = (),
        concurrency: int | None = None,
        requests: int | None = None,
        duration_s: float | None = None,
        output_tokens: int = 4,
        warmup: int = 0,
        survives_stream: bool = True,
        timeout_s: float = 30.0,
        stall_s: float = 10.0,
        drain_s: float = 10.0,
        lead_s: float = 0.05,
        words: tuple[str, ...] = WORDS,
        transport: str = "wire",
        proxies: bool = True,
        ca_file: str | None = None,
        verify_tls: bool = True,
    ) -> Plan:
        n = len(due_s) or requests or 64
        due_ns = [round(t * 1e9) for t in due_s] or [NOT_DUE] * n
        return Plan(
            url=url,
            model="timetable",
            worker=0,
            workers=1,
            id_prefix="t",
            total=n,
            items=load_items(due_ns, prompt_tokens=16, output_tokens=output_tokens),
            lanes=[]
            if concurrency is None
            else [LanePlan(lane=0, concurrency=concurrency, start_ns=[0] * concurrency, requests=requests)],
            classes=[
                ClassPlan(
                    name="",
                    path="/v1/chat/completions" if chat else "/v1/completions",
                    chat=chat,
                    body={"stream": True, "temperature": 0},
                    max_tokens_field="max_tokens",
                    min_tokens_field=None,
                    bank=0,
                    salt="a salt",
                    token_ids=False,
                    block_tokens=0,
                    images=None,
                    turns=False,
                )
            ],
            banks=[
                BankPlan(
                    words=list(words),
                    ids=[],
                    ring=list(range(len(words))),
                    overhead_tokens=4 if chat else 1,
                )
            ],
            texts=[[]],
            duration_ns=None if duration_s is None else round(duration_s * 1e9),
            warmup=load_items([NOT_DUE] * warmup, prompt_tokens=16, output_tokens=output_tokens),
            warmup_concurrency=max(1, min(4, warmup)),
            survives_stream=survives_stream,
            timeout_ns=round(timeout_s * 1e9),
            stall_timeout_ns=round(stall_s * 1e9),
            drain_timeout_ns=round(drain_s * 1e9),
            connect_lead_ns=round(lead_s * 1e9),
            transport=transport,
            proxies=proxies,
            ca_file=ca_file,
            verify_tls=verify_tls,
            core=None,
        )

    return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """A bucket of a stand-in for S3 on loopback; the environment says where it is and how to get in."""

    url: str
    bucket: str

    def put(self, key: str, content: bytes) -> None:
        self._client().put_object(Bucket=self.bucket, Key=key, Body=content)

    def contents(self) -> dict[str, bytes]:
        client = self._client()
        listed = client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        keys = [entry["Key"] for entry in listed]
        return {key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def _client(self):
        import boto3

        return boto3.client("s3", endpoint_url=self.url)


@pytest.fixture(scope="session")
def s3_url():
    """Where a stand-in for S3 listens, a process of its own until the end."""
    pytest.importorskip("moto", reason="moto stands in for S3: pip install 'moto[server]'")
    code = (
        "import sys\n"
        "from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n"
        "server.start()\n"
        "print('http://%s:%d' % server.get_host_and_port(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    yield next(line for line in process.stdout if line.startswith("http://")).strip()
    process.stdin.close()
    process.wait()


@pytest.fixture
def s3(s3_url, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{secrets.token_hex(6)}"
    made = S3(url=s3_url, bucket=bucket)
    made._client().create_bucket(Bucket=bucket)
    return made


@pytest.fixture(scope="session")
def make_session() -> Callable[..., SessionResult]:
    """A stored session from what matters to a test; `tests`: node id -> metrics of its only boot."""

    def make(
        id_: str = "s1",
        *,
        day: int = 1,
        tests: dict[str, dict[str, float]] | None = None,
        hard: dict[str, str] | None = None,
        identity: dict[str, str] | None = None,
        soft: dict[str, str] | None = None,
        **fields: object,
    ) -> SessionResult:
        counts = RequestCounts(issued=100, completed=100, failed=0, cancelled=0)
        chosen = {"test_a.py::test_chat": {"tpot_s.mean": 0.01}} if tests is None else tests
        given = {
            "schema": 1,
            "id": id_,
            "started_at": f"2026-01-{day:02d}T03:00:00+00:00",
            "version": "0.1.0",
            "seed": 7,
            "fingerprint": Fingerprint(hard=hard or {}, soft=soft or {}),
            "planned_boots": 1,
            "complete": True,
            "accepted": True,
            "tests": tuple(
                TestResult(
                    nodeid=nodeid,
                    fingerprint=Fingerprint(hard={"workload": "w"}, identity=identity or {"engine": "e"}),
                    gated=tuple(m for m in metrics if m != "ttft_s.p50"),
                    boots=(BootResult(boot=1, ready_s=1.0, requests=counts, metrics=metrics),),
                )
                for nodeid, metrics in chosen.items()
            ),
        }
        return SessionResult(**(given | fields))

    return make

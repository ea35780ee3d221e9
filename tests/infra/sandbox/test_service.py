"""The sandbox's service and its client, over real connections: with real boxes, and where timing decides with a sandbox
whose runs end when the test says so."""

import json
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from infra.sandbox.client import SandboxClient
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits, Result, Sandbox, SandboxUnavailable
from infra.sandbox.service import ServiceConfig, serve
from infra.sandbox.token import TokenRefused, read_token
from infra.sandbox.versions import sandbox_python
from tests.infra.sandbox.sandbox_served import Held, client_of, eventually, in_background, served

ROOT = Path(__file__).parents[3]
TOKEN = "0123456789abcdef-token"
SHORT = Limits(wall_seconds=1, cpu_seconds=1, memory_mb=256, output_bytes=10_000, processes=8, file_mb=4)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = open_sandbox(SandboxConfig(slots=2))
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def url(sandbox: Sandbox) -> Iterator[str]:
    with served(sandbox, slots=2, token=TOKEN, max_body_mb=1) as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[SandboxClient]:
    with client_of(url, TOKEN) as client:
        yield client


def post(url: str, body: object, path: str = "/v1/run", token: str = TOKEN) -> httpx.Response:
    return httpx.post(url + path, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30)


@pytest.mark.parametrize(
    ("program", "stdin"),
    [
        ("print(input()[::-1])\nexit(3)", "é\u2028\U0001f600\n"),
        ("import sys\nprint(len(sys.stdin.read()), file=sys.stderr)", "x" * 300_000),
        ("while True: print('\\x1b[31m\\udc80' * 10)", ""),
        ("import os\nos.write(1, bytes(range(256)))\nos.kill(os.getpid(), 11)", ""),
        ("print('\ud800')", "\udcff"),
        ("import time\ntime.sleep(60)", ""),
    ],
)
def test_the_client_answers_as_the_sandbox_itself(
    sandbox: Sandbox, client: SandboxClient, program: str, stdin: str
) -> None:
    there, here = (s.run(program, stdin, SHORT) for s in (client, sandbox))
    assert (there.stderr, there.exit_code, there.ended) == (here.stderr, here.exit_code, here.ended)
    assert there.stdout[:5000] == here.stdout[:5000]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_files_and_the_language_reach_the_box(client: SandboxClient) -> None:
    source = "const fs = require('fs'); process.stdout.write(fs.readFileSync('data').toString('hex'))"
    result = client.run(source, "", Limits(), language="javascript", files={"data": b"\x00\xff"})
    assert (result.stdout, result.stderr) == ("00ff", "")
    assert client.run("print(1)", language="latin").ended == "refused"


def test_run_each_runs_each_input_and_stops_where_the_reader_does(url: str, client: SandboxClient) -> None:
    program = "import os\nn = input()\nprint(n, len(os.listdir('.')))\nopen(n, 'w')"
    results = client.run_each(program, map(str, range(100)), SHORT)
    assert [next(results).stdout for _ in range(3)] == ["0 0\n", "1 1\n", "2 2\n"]
    results.close()
    assert list(client.run_each("print(1)", [])) == []


def test_two_programs_can_be_joined(client: SandboxClient) -> None:
    asks = "import sys\nprint(open('n').read(), flush=True)\nsys.stderr.write(input())"
    answers = "print(int(input()) ** 2, flush=True)"
    asking, answering = client.run_joined(asks, answers, SHORT, first_files={"n": b"12"})
    assert (asking.stdout, asking.stderr, asking.ended, answering.ended) == ("", "144", "finished", "finished")


def test_joined_programs_take_two_slots() -> None:
    held = Held()
    with served(held, slots=3) as (url, server), client_of(url) as client:
        joined = [in_background(lambda: client.run_joined("", "")[1].stdout) for _ in range(2)]
        admission = server.runner.admission
        eventually(lambda: (admission.in_use, admission.waiting, held.started) == (2, 1, ["first"]))
        held.let_go.release(4)
        for thread, _ in joined:
            thread.join()
        assert [outcome for _, outcome in joined] == [["second"], ["second"]]
        eventually(lambda: admission.in_use == 0)


def test_many_threads_share_a_client(client: SandboxClient) -> None:
    def run_one(n: int) -> str:
        return client.run(f"print({n} ** 2)", "", SHORT).stdout

    outcomes = [in_background(partial(run_one, n)) for n in range(16)]
    for thread, _ in outcomes:
        thread.join()
    assert [outcome for _, (outcome,) in outcomes] == [f"{n**2}\n" for n in range(16)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "program: Field required"),
        ({"program": 1}, "program: Input should be a valid string"),
        ({"program": "", "limit": {}}, "limit: Extra inputs are not permitted"),
        ({"program": "", "limits": {"wall_second": 1}}, "limits.wall_second: Unexpected"),
        ({"program": "", "limits": {"wall_seconds": 0}}, "wall_seconds is 0"),
        ({"program": "", "limits": {"memory_mb": 9999}}, "limits.memory_mb is 9999; this service allows at most 1024"),
        ({"program": "", "limits": {"wall_seconds": 1e999}}, "limits.wall_seconds is inf"),
        ({"program": "", "language": "../python"}, "language: "),
        ({"program": "", "files": {"a": "no base64!"}}, "files.a: not base64"),
        (["program"], "the body: "),
    ],
)
def test_a_malformed_request_is_refused_by_its_key(url: str, body: object, said: str) -> None:
    content = json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    answer = httpx.post(url + "/v1/run", content=content, headers=headers)
    assert answer.status_code == 422 and said in answer.json()["error"], answer.text


def test_what_is_not_json_or_too_large_or_of_another_type_is_refused(url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    answers = {
        content[:2]: httpx.post(url + "/v1/run", content=content, headers=headers).status_code
        for content in (b"{", b"[" * 100_000, b"\xff\xfe", b'"' + b"x" * 2**20 + b'"')
    }
    assert list(answers.values()) == [422, 422, 422, 413]
    headers["Content-Type"] = "text/plain"
    assert httpx.post(url + "/v1/run", content=b"{}", headers=headers).status_code == 415
    assert httpx.get(url + "/v1/run", headers=headers).status_code == 405


def test_the_client_raises_what_the_caller_did_wrong(client: SandboxClient) -> None:
    with pytest.raises(ValueError, match=r"limits\.processes is 1000"):
        client.run("print(1)", "", Limits(processes=1000))
    with pytest.raises(ValueError, match="more than 1 MiB"):
        client.run("print(1)", "x" * 2**20)
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        SandboxClient("localhost:8100")


@pytest.mark.parametrize("token", [None, "wrong", TOKEN[:-1], TOKEN + "x"])
def test_without_the_token_only_the_probes_answer(url: str, token: str | None) -> None:
    assert httpx.get(url + "/metrics", headers={"Authorization": token or "Bearer"}).status_code == 401
    assert httpx.get(url + "/healthz").status_code == httpx.get(url + "/readyz").status_code == 200
    with client_of(url, token) as client, pytest.raises(SandboxUnavailable, match="LONGHAUL_SANDBOX_TOKEN"):
        client.run("print(1)")


def test_metrics_count_runs_by_end_and_language_and_no_made_up_language(url: str, client: SandboxClient) -> None:
    client.run("print(1)", language="made_up")
    client.run("import time\ntime.sleep(9)", "", Limits(wall_seconds=0.2))
    text = httpx.get(url + "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['longhaul_sandbox_runs_total{ended="time",language="python"}']) >= 1
    assert float(lines['longhaul_sandbox_runs_total{ended="refused",language=""}']) >= 1
    assert float(lines["longhaul_sandbox_run_seconds_count"]) >= 2
    assert (lines["longhaul_sandbox_in_use"], lines["longhaul_sandbox_slots"]) == ("0.0", "2.0")
    assert "made_up" not in text and "python_gc" not in text


def test_one_more_than_may_wait_is_refused_and_tried_again() -> None:
    held = Held()
    with served(held, slots=1, queue=2) as (url, server), client_of(url) as client:

        def run_one(number: int) -> str:
            return str(post(url, {"program": "", "stdin": str(number)}).json()["stdout"])

        def holds(places: int) -> bool:
            return server.runner.admission.places == places

        waiting = []
        for number in range(3):
            waiting.append(in_background(partial(run_one, number)))
            eventually(partial(holds, number + 1))
        refused = post(url, {"program": ""})
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "2 requests wait" in refused.json()["error"]
        again = in_background(lambda: client.run("", "patient").stdout)
        counted = 'longhaul_sandbox_requests_refused_total{reason="queue"} 2'
        eventually(lambda: counted in httpx.get(url + "/metrics").text)
        held.let_go.release(4)
        for thread, _ in [*waiting, again]:
            thread.join()
        assert [outcome for _, outcome in waiting] == [["0"], ["1"], ["2"]] and again[1] == ["patient"]
        assert held.started == ["0", "1", "2", "patient"]


def test_a_client_that_is_gone_leaves_the_queue_and_its_runs_stop() -> None:
    held = Held()
    with served(held, slots=1, queue=5) as (url, server), client_of(url) as client:
        admission = server.runner.admission
        results = client.run_each("", ["a", "b", "c", "d"])
        first = in_background(lambda: next(results).stdout)
        eventually(lambda: held.started == ["a"])
        with suppress(httpx.TimeoutException):
            httpx.post(url + "/v1/run", json={"program": "", "stdin": "impatient"}, timeout=0.2)
        eventually(lambda: admission.places == 1)
        held.let_go.release()
        first[0].join()
        eventually(lambda: held.started == ["a", "b"])  # the client may still read for it
        results.close()
        eventually(lambda: not server.server_state.connections)
        held.let_go.release(10)
        eventually(lambda: admission.places == 0)
        assert first[1] == ["a"] and held.started == ["a", "b"]


def test_results_are_sent_as_they_are_done() -> None:
    held = Held()
    with served(held) as (url, _), client_of(url) as client:
        results = client.run_each("", ["a", "b"])
        held.let_go.release()
        assert next(results).stdout == "a"  # while b runs
        held.let_go.release()
        assert next(results).stdout == "b"


def test_draining_finishes_what_runs_and_refuses_what_waits_and_comes() -> None:
    held = Held()
    with served(held, slots=1, drain_seconds=20) as (url, server):
        running = in_background(lambda: post(url, {"program": "", "stdin": "running"}))
        eventually(lambda: held.started == ["running"])
        waiting = in_background(lambda: post(url, {"program": ""}))
        eventually(lambda: server.runner.admission.waiting == 1)
        server.handle_exit(signal.SIGTERM, None)
        waiting[0].join()
        (answer,) = waiting[1]
        assert isinstance(answer, httpx.Response) and answer.status_code == 503 and "Retry-After" in answer.headers
        assert post(url, {"program": ""}).status_code == httpx.get(url + "/readyz").status_code == 503
        assert httpx.get(url + "/healthz").status_code == 200
        held.let_go.release()
        running[0].join()
        (answer,) = running[1]
        assert isinstance(answer, httpx.Response) and answer.json()["stdout"] == "running"
        eventually(lambda: not server.servers[0].is_serving())
        with client_of(url, patience_seconds=0.5) as client, pytest.raises(SandboxUnavailable, match="ConnectError"):
            client.run("")


def test_a_drain_ends_a_long_run_each_and_the_client_gets_the_rest_elsewhere() -> None:
    old, new = Held(), Held()
    new.let_go.release(10)
    with served(new) as (new_url, _), served(old, drain_seconds=0.1) as (old_url, server), client_of(old_url) as client:
        results = client.run_each("", ["a", "b", "c"])
        old.let_go.release()
        assert next(results).stdout == "a"
        eventually(lambda: old.started == ["a", "b"])
        server.handle_exit(signal.SIGTERM, None)
        eventually(lambda: server.runner.stopping.is_set())
        client._url = new_url  # as a cluster's Service does
        old.let_go.release()
        assert [result.stdout for result in results] == ["b", "c"]
        assert (old.started, new.started) == (["a", "b"], ["c"])


def test_a_sandbox_that_makes_no_boxes_is_unhealthy_until_it_does() -> None:
    class Broken(Held):
        fault: str | None = "no boxes today"

        def run(self, program: str, *arguments: object, **options: object) -> Result:
            if self.fault:
                raise SandboxUnavailable(self.fault)
            return Result("ready\n", "", 0, "finished", 0.01, None, None)

    broken = Broken()
    with served(broken, trial_seconds=60) as (url, _):
        assert httpx.get(url + "/healthz").status_code == 200  # it was opened just now
        answer = post(url, {"program": ""})
        assert (answer.status_code, answer.json()) == (503, {"error": "no boxes today"})
        answer = httpx.get(url + "/healthz")
        assert (answer.status_code, answer.json()) == (503, {"error": "no boxes today"})
        with client_of(url, patience_seconds=0.5) as client, pytest.raises(SandboxUnavailable, match="no boxes today"):
            client.run("")
        broken.fault = None
        assert httpx.get(url + "/healthz").status_code == 200


def test_answers_that_are_none_of_the_service_s_are_not_believed() -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html></html>\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for data in answers:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    connection.settimeout(0.2)
                    with suppress(TimeoutError):
                        while connection.recv(65536):
                            pass
                    connection.settimeout(5)
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for said in ("answers as no sandbox's service does", "lines of more than", "answers with 404"):
            with client_of(url) as client, pytest.raises(SandboxUnavailable, match=said):
                client.run("", "", SHORT)
        thread.join()


def test_beyond_loopback_it_does_not_start_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(TokenRefused, match="--token-file"):
            serve(Held(), 1, ServiceConfig(host=host, port=0), None, print)


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAUL_SANDBOX_TOKEN", TOKEN)
    (tmp_path / "token").write_text(TOKEN[::-1] + "\n")
    assert (read_token(None), read_token(tmp_path / "token")) == (TOKEN, TOKEN[::-1])
    for bad in ("short", "has spaces in it, and many"):
        (tmp_path / "token").write_text(bad)
        with pytest.raises(TokenRefused, match="token holds no token"):
            read_token(tmp_path / "token")
    with pytest.raises(TokenRefused, match="cannot be read"):
        read_token(tmp_path / "nothing")
    monkeypatch.delenv("LONGHAUL_SANDBOX_TOKEN")
    assert read_token(None) is None


def test_a_process_that_is_terminated_finishes_its_run_and_ends_with_0() -> None:
    command = [sys.executable, "-m", "flows.cli.sandbox", "serve", "--port", "0", "--slots", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        url = process.stdout.readline().split(" listens on ")[1].split()[0]
        program = {"program": "import time\nprint('begun', flush=True)\ntime.sleep(1)\nprint('done')"}
        thread, outcome = in_background(lambda: post(url, program).json()["stdout"])
        eventually(lambda: "in_use 1.0" in httpx.get(url + "/metrics").text)
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert outcome == ["begun\ndone\n"] and process.wait(10) == 0


def test_a_service_says_which_python_runs_programs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox_python() == platform.python_version(), "boxes here are made of this process's Python"
    monkeypatch.setenv("LONGHAUL_SANDBOX", url)
    monkeypatch.setenv("LONGHAUL_SANDBOX_TOKEN", TOKEN)
    assert sandbox_python() == platform.python_version()
    monkeypatch.setenv("LONGHAUL_SANDBOX", f"{url}/elsewhere")
    with pytest.raises(SandboxUnavailable, match="elsewhere does not say which Python it runs"):
        sandbox_python()


def test_slow_clients_shut_nobody_out_and_are_closed_in_time() -> None:
    sandbox = Held()
    with served(sandbox, token=TOKEN, connections=40, headers_seconds=2.0) as (url, server), ExitStack() as stack:
        result, outcome = in_background(lambda: post(url, {"program": "", "stdin": "answered"}).status_code)
        eventually(lambda: sandbox.started == ["answered"])
        parsed = httpx.URL(url)
        slow = [socket.create_connection((parsed.host, parsed.port or 0), timeout=10) for _ in range(300)]
        for connection in slow:
            stack.callback(connection.close)
            with suppress(OSError):  # one that was closed for a newer one
                connection.sendall(b"POST /v1/run HTTP/1.1\r\nHost: ")
        for _ in range(3):
            assert httpx.get(f"{url}/readyz", timeout=10).status_code == 200
        assert len(server.server_state.connections) <= 40
        eventually(lambda: len(server.server_state.connections) == 1)
        sandbox.let_go.release()
        result.join(10)
        assert outcome == [200], "whoever is being answered stays"


def test_a_request_that_arrives_in_pieces_is_answered() -> None:
    with served(Held(), headers_seconds=1.0) as (url, _):
        parsed = httpx.URL(url)
        with socket.create_connection((parsed.host, parsed.port or 0), timeout=10) as connection:
            for _ in range(2):  # the second one on a connection that is older than the time for headers
                for part in (b"GET /readyz HT", b"TP/1.1\r\nHost: x\r\n", b"\r\n"):
                    connection.sendall(part)
                    time.sleep(0.25)
                assert b"200 OK" in connection.recv(4096)
                time.sleep(0.5)

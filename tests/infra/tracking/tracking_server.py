"""A tracking server for test_tracking.py: it speaks as much of the protocol as runs need and keeps what it is sent."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "UHJvamVjdA==", "name": "longhaul", "entity": {"id": "RW50aXR5", "name": "someone"}}


@dataclass
class TrackedRun:
    """What the server was sent of one run."""

    history: list[str] = field(default_factory=list)
    """Rows, as JSON."""
    summary: dict[str, Any] = field(default_factory=dict)
    config: str = "{}"
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    """Name, type and metadata of each."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Files beside the rows, by their names."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, without the library's own columns apart from the step."""
        rows = [json.loads(row) for row in self.history]
        return [{k: v for k, v in row.items() if k == "_step" or not k.startswith("_")} for row in rows]


class Runs(dict[str, TrackedRun]):
    """What the server keeps, by the run's id."""

    def answer(self, query: str, values: dict[str, Any], address: str) -> dict[str, Any]:
        """The answer to a question in GraphQL."""
        bucket: dict[str, Any] = {
            "id": "QnVja2V0",
            "name": values.get("name"),
            "displayName": "run",
            "project": PROJECT,
        }
        if "UpsertBucket" in query:
            new = values["name"] not in self
            run = self.setdefault(values["name"], TrackedRun())
            run.config = values.get("config") or run.config
            bucket |= {"config": "{}", "historyLineCount": len(run.history)}
            return {"upsertBucket": {"bucket": bucket, "inserted": new}}
        if "RunResumeStatus" in query:
            if values["name"] not in self:
                return {"model": {**PROJECT, "bucket": None}}
            run = self[values["name"]]
            bucket |= {"historyLineCount": len(run.history), "historyTail": json.dumps(run.history[-1:])}
            bucket |= {"eventsLineCount": 0, "eventsTail": "[]", "logLineCount": 0, "tags": []}
            bucket |= {"summaryMetrics": json.dumps(run.summary), "config": run.config, "wandbConfig": '{"t":{}}'}
            return {"model": {**PROJECT, "bucket": bucket}}
        if "CreateRunFiles" in query:
            of = f"{address}/files/{values['run']}"
            files = [{"name": name, "uploadUrl": f"{of}/{name}"} for name in values["files"]]
            return {"createRunFiles": {"runID": "QnVja2V0", "uploadHeaders": [], "files": files}}
        if "CreateArtifact" in query:
            made = values["input"]
            self[made["runName"]].artifacts.append(
                {
                    "name": made["artifactCollectionName"],
                    "type": made["artifactTypeName"],
                    "metadata": json.loads(made["metadata"]),
                }
            )
            latest = {"id": "QXJ0aWZhY3Q=", "versionIndex": 0}
            artifact = {"id": "QXJ0aWZhY3Q=", "state": "COMMITTED", "artifactSequence": {"latestArtifact": latest}}
            return {"createArtifact": {"artifact": artifact}}
        if "Viewer" in query:
            return {"viewer": {"id": "VXNlcg==", "entity": "someone", "username": "someone", "flags": "{}"}}
        return {}

    def stream(self, run: str, files: dict[str, Any]) -> None:
        """Keep a piece of a run's files."""
        if history := files.get("wandb-history.jsonl"):
            at, rows = history["offset"], history["content"]
            self[run].history[at : at + len(rows)] = rows
        if summary := files.get("wandb-summary.json"):
            self[run].summary = json.loads(summary["content"][-1])


@contextmanager
def tracking_server() -> Iterator[tuple[str, Runs]]:
    """Yields the server's address on loopback, and what it keeps."""
    runs = Runs()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            answer: dict[str, Any] = {}
            if self.path == "/graphql":
                request = json.loads(body)
                answer = {"data": runs.answer(request["query"], request.get("variables") or {}, address)}
            elif self.path.endswith("/file_stream"):
                runs.stream(self.path.split("/")[-2], json.loads(body).get("files") or {})
            elif self.path.startswith("/files/"):
                run, _, name = self.path.removeprefix("/files/").partition("/")
                runs[run].files[name] = body
            sent = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{listening.server_port}"
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield address, runs
    finally:
        listening.shutdown()
        listening.server_close()

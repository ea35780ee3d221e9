"""A model hub on this machine: the endpoints that downloads use, in the protocol of the Hugging Face hub."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest


class Hub:
    """The one repository owner/base: what each branch, tag or commit is, and a folder with the files of them all.

    `kind` is models or datasets.
    """

    def __init__(self, folder: Path, revisions: dict[str, str], kind: str = "models") -> None:
        self.folder = folder
        self.kind = kind
        self.revisions = revisions
        self.requests: list[str] = []
        """Paths that were requested."""
        self.gated = False

    def answer(self, path: str) -> tuple[bytes, dict[str, str]] | str:
        """A response's body and headers, or the hub's code for the error."""
        api = f"/api/{self.kind}/owner/base"
        resolve = f"{'' if self.kind == 'models' else '/datasets'}/owner/base/resolve/"
        path = unquote(path.split("?")[0])
        files = {f.relative_to(self.folder).as_posix(): f for f in sorted(self.folder.rglob("*")) if f.is_file()}
        if path == api or path.startswith(f"{api}/revision/"):
            commit = self.revisions.get(path.removeprefix(api).removeprefix("/revision/") or "main")
            siblings = [{"rfilename": name} for name in files]
            content: Any = {"id": "owner/base", "sha": commit, "siblings": siblings}
        elif path.startswith(f"{api}/tree/"):
            commit = self.revisions.get(path.removeprefix(f"{api}/tree/"))
            content = [
                {"type": "file", "path": name, "size": f.stat().st_size, "oid": "0"} for name, f in files.items()
            ]
        elif path.startswith(resolve):
            revision, _, name = path.removeprefix(resolve).partition("/")
            commit = self.revisions.get(revision)
            content = (self.folder / name).read_bytes()
        else:
            return "RepoNotFound"
        if self.gated:
            return "GatedRepo"
        if commit is None:
            return "RevisionNotFound"
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return body, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}

    def accept(self, path: str, body: bytes, endpoint: str) -> tuple[int, dict[str, Any]]:
        """Status and answer to what is sent: this one takes nothing (tests/hub_uploads.py has one that does)."""
        return 403, {"error": "read only"}


@contextmanager
def serve(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """huggingface_hub talks to this hub, with a cache of its own; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append(self.path)
            answer = hub.answer(self.path)
            if isinstance(answer, str):
                self.send_response(403 if answer == "GatedRepo" else 404)
                self.send_header("X-Error-Code", answer)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body, headers = answer
            self.send_response(200)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            hub.requests.append(f"{self.command} {self.path}")
            status, content = hub.accept(self.path, body, f"http://{self.headers['Host']}")
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_PUT = do_POST

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    # What HF_ENDPOINT and HF_HOME set when the library is imported.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # Its other protocol for large files needs a content store, which the hub here does not have.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()

"""A model hub on this machine that takes uploads: new repositories, large files, and commits of many files."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.hub_server import Hub


class UploadHub(Hub):
    """Repositories in memory: each is a list of commits, and a commit is its files. `.safetensors` are large files."""

    def __init__(self) -> None:
        super().__init__(Path(), {})
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        """Large files by SHA-256, also of commits that were never made."""
        self.refuse = ""
        """What is answered with an error: a part of the path."""
        self.meanwhile: dict[str, bytes] = {}
        """Files that somebody else commits just before the next commit."""

    def head(self, name: str) -> dict[str, bytes]:
        """The files of the newest commit."""
        return self.repositories[name][-1]

    def _commit(self, name: str) -> str:
        state = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in self.head(name).items())
        return hashlib.sha1(json.dumps([len(self.repositories[name]), state]).encode()).hexdigest()

    def answer(self, path: str) -> tuple[bytes, dict[str, str]] | str:
        """A response's body and headers, or the hub's code for the error."""
        path = unquote(path.split("?")[0])
        for name in self.repositories:
            commit, files = self._commit(name), self.head(name)
            if path.startswith(f"/api/models/{name}"):
                body = {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in sorted(files)]}
                return json.dumps(body).encode(), {"X-Repo-Commit": commit}
            if path.startswith(f"/{name}/resolve/"):
                data = files.get(path.removeprefix(f"/{name}/resolve/").partition("/")[2])
                if data is None:
                    return "EntryNotFound"
                return data, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        return "RepoNotFound"

    def accept(self, path: str, body: bytes, endpoint: str) -> tuple[int, dict[str, Any]]:
        """Status and answer to what is sent."""
        path = unquote(path.split("?")[0])
        if self.refuse and self.refuse in path:
            return 403, {"error": "you may not"}
        if path.startswith("/large/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/large/")
            self.large[path.removeprefix("/large/")] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return 200, {"warnings": [], "errors": []}
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}" if request.get("organization") else request["name"]
            self.repositories[name] = [{".gitattributes": b""}]
            self.private[name] = bool(request.get("private")) or request.get("visibility") == "private"
            return 200, {"url": f"{endpoint}/{name}"}
        name = next(name for name in self.repositories if name in path)
        if path.startswith(f"/api/models/{name}/preupload/"):
            files = json.loads(body)["files"]
            modes = [(f["path"], "lfs" if f["path"].endswith(".safetensors") else "regular") for f in files]
            return 200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes]}
        if path == f"/{name}.git/info/lfs/objects/batch":
            upload = {o["oid"]: {"href": f"{endpoint}/large/{o['oid']}"} for o in json.loads(body)["objects"]}
            objects = [
                {"oid": one["oid"], "size": one["size"]}
                | ({} if one["oid"] in self.large else {"actions": {"upload": upload[one["oid"]]}})
                for one in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        assert path == f"/api/models/{name}/commit/main", path
        return self._accept_commit(name, body, endpoint)

    def _accept_commit(self, name: str, body: bytes, endpoint: str) -> tuple[int, dict[str, Any]]:
        if self.meanwhile:
            self.repositories[name].append({**self.head(name), **self.meanwhile})
            self.meanwhile = {}
        files = dict(self.head(name))
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "header" and value["parentCommit"] != self._commit(name):
                return 412, {"error": "the branch has moved"}
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.repositories[name].append(files)
        return 200, {"commitUrl": f"{endpoint}/{name}/commit/{self._commit(name)}", "commitOid": self._commit(name)}

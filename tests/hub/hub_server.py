# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A Hub on loopback, in memory: as much of its protocol as pushing and loading models takes."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml


TOKEN = "hf_" + "a" * 34
USER = "ann"


@dataclass
class Repository:
    """The files of the last commit, and the messages of all."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    commits: list[str] = field(default_factory=lambda: ["initial commit"])

    @property
    def sha(self) -> str:
        digest = hashlib.sha1("\0".join(self.commits).encode())
        for name in sorted(self.files):
            digest.update(name.encode() + b"\0" + self.files[name])
        return digest.hexdigest()


class Hub(ThreadingHTTPServer):
    """
    Use as a context manager; `endpoint` is what `HF_ENDPOINT` takes.

    Attributes:
        repositories: By name; a test may put others there.
        fails_at: Path fragment of requests whose connection is cut without an answer.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, Repository] = {}
        self.fails_at: str | None = None

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        """Quiet."""

    def answer(self, status: int, content: bytes | dict | list = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def is_cut_off(self) -> bool:
        if self.server.fails_at is None or self.server.fails_at not in self.path:
            return False
        self.close_connection = True
        return True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.is_cut_off():
            return
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "", "Invalid username or password.")
        elif parts[1:] == ["repos", "create"]:
            self.create(json.loads(body))
        elif parts[1:] == ["validate-yaml"]:
            self.validate(json.loads(body)["content"])
        elif parts[1] == "models" and parts[4:5] == ["preupload"]:
            asked = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
            self.answer(200, {"files": modes})
        elif parts[1] == "models" and parts[4:5] == ["commit"]:
            self.commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        else:
            self.answer(404, {"error": "Not found"})

    def create(self, request: dict) -> None:
        user = request.get("organization") or USER
        name = f"{user}/{request['name']}"
        if user != USER:
            self.refuse(403, "", f'You don\'t have the rights to create a model under the namespace "{user}"')
        elif name in self.server.repositories:
            url = f"{self.server.endpoint}/{name}"
            self.answer(409, {"error": "You already created this model repo", "url": url})
        else:
            self.server.repositories[name] = Repository(request.get("visibility") == "private")
            self.answer(200, {"url": f"{self.server.endpoint}/{name}", "name": name})

    def validate(self, content: str) -> None:
        """What the Hub asks of the metadata that we write."""
        try:
            metadata = yaml.safe_load(content.split("---")[1])
            for model in metadata.get("model-index", []):
                for result in model["results"]:
                    kinds = result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]
                    assert all(isinstance(kind, str) and kind for kind in kinds)
                    assert all(isinstance(metric["value"], float) and metric["type"] for metric in result["metrics"])
            self.answer(200, {"errors": [], "warnings": []})
        except (IndexError, KeyError, AssertionError, yaml.YAMLError) as error:
            self.answer(400, {"errors": [{"message": repr(error)}], "warnings": []})

    def commit(self, name: str, lines: list[dict]) -> None:
        if name not in self.server.repositories:
            self.refuse(404, "RepoNotFound", "Repository not found")
            return
        repository = self.server.repositories[name]
        repository.files |= {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        repository.commits += [line["value"]["summary"] for line in lines if line["key"] == "header"]
        url = f"{self.server.endpoint}/{name}/commit/{repository.sha}"
        self.answer(200, {"success": True, "commitOid": repository.sha, "commitUrl": url, "hookOutput": ""})

    def do_GET(self) -> None:
        if self.is_cut_off():
            return
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        is_api = parts[:2] in (["api", "models"], ["api", "datasets"])
        name = "/".join(parts[2:4] if is_api else parts[:2])
        repository = self.server.repositories.get(name)
        if repository is None:
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "RepoNotFound", "Repository not found")
        elif not is_api and parts[2] == "resolve":
            self.resolve(repository, "/".join(parts[4:]))
        elif is_api and parts[4:5] == ["tree"]:
            self.answer(200, [_entry(path, content) for path, content in sorted(repository.files.items())])
        elif is_api and parts[4:5] in ([], ["revision"]):
            siblings = [{"rfilename": path} for path in sorted(repository.files)]
            self.answer(
                200,
                {"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings, "tags": []},
            )
        else:
            self.answer(404, {"error": "Not found"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def resolve(self, repository: Repository, path: str) -> None:
        content = repository.files.get(path)
        if content is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            self.answer(200, content, ETag=f'"{_blob_id(content)}"', X_Repo_Commit=repository.sha)


def _entry(path: str, content: bytes) -> dict:
    return {"type": "file", "path": path, "size": len(content), "oid": _blob_id(content)}


def _blob_id(content: bytes) -> str:
    """As git names a blob; the client compares these to skip files that are there."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

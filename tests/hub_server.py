"""A Hub on the loopback: what huggingface_hub's client says over HTTP when it uploads, answered from memory.

Uploads follow the client's path without Xet: create, validate the card, ask file by file for the way (`preupload`),
send large files by Git LFS, commit the rest as lines of JSON. A route in `ROUTES` is a method, a pattern, a function.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

TOKEN = "dummy"
# Files of these kinds, and all above this size, go by LFS, as .gitattributes says on the Hub.
_LFS = (".safetensors", ".png", ".tar.gz")
_LFS_SIZE = 50_000
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_API = r"/api/(?P<kind>model|dataset)s/" + _REPO


@dataclass
class Repo:
    """One repository: the files of its last commit, its commits' messages, and who may see it."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1("\n".join(self.commits).encode()).hexdigest()


@dataclass
class Hub:
    """State of the server. `refuse` answers every request with a status; `requests` notes "METHOD path" of each."""

    url: str = ""
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: int | None = None
    lock: Lock = field(default_factory=Lock)


@dataclass
class Answer:
    body: object = None
    status: int = 200


def create(hub: Hub, body: bytes) -> Answer:
    asked = json.loads(body)
    kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
    status = 409 if (kind, name) in hub.repos else 200
    hub.repos.setdefault((kind, name), Repo(private=asked.get("visibility") == "private"))
    return Answer({"url": f"{hub.url}/{_prefix(kind)}{name}"}, status)


def validate_card(hub: Hub, body: bytes) -> Answer:
    assert json.loads(body)["content"].startswith("---\n")
    return Answer({"errors": [], "warnings": []})


def info(hub: Hub, body: bytes, kind: str, repo: str) -> Answer:
    found = hub.repos.get((kind, repo))
    if found is None:
        return Answer({"error": "Repository not found"}, 404)
    return Answer({"id": repo, "sha": found.sha, "private": found.private, "siblings": _siblings(found)})


def preupload(hub: Hub, body: bytes, kind: str, repo: str) -> Answer:
    files = hub.repos[kind, repo].files
    ways = []
    for asked in json.loads(body)["files"]:
        path, size = asked["path"], asked["size"]
        way = "lfs" if path.endswith(_LFS) or size > _LFS_SIZE else "regular"
        oid = _oid(files[path], way) if path in files else None
        ways.append({"path": path, "uploadMode": way, "shouldIgnore": False, "oid": oid})
    return Answer({"files": ways})


def lfs_batch(hub: Hub, body: bytes, repo: str, prefix: str | None = None) -> Answer:
    objects = []
    for asked in json.loads(body)["objects"]:
        actions = {"upload": {"href": f"{hub.url}/lfs/{asked['oid']}"}, "verify": {"href": f"{hub.url}/lfs-verify"}}
        objects.append(asked if asked["oid"] in hub.objects else asked | {"actions": actions})
    return Answer({"transfer": "basic", "objects": objects})


def lfs_put(hub: Hub, body: bytes, oid: str) -> Answer:
    if hashlib.sha256(body).hexdigest() != oid:
        return Answer({"error": "the content does not match its hash"}, 400)
    hub.objects[oid] = body
    return Answer()


def lfs_verify(hub: Hub, body: bytes) -> Answer:
    asked = json.loads(body)
    there = asked["oid"] in hub.objects and len(hub.objects[asked["oid"]]) == asked["size"]
    return Answer({}, 200 if there else 404)


def commit(hub: Hub, body: bytes, kind: str, repo: str) -> Answer:
    found = hub.repos[kind, repo]
    for line in body.splitlines():
        key, value = (entry := json.loads(line))["key"], entry["value"]
        if key == "header":
            found.commits.append(value["summary"])
        elif key == "file":
            found.files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            found.files[value["path"]] = hub.objects[value["oid"]]
        else:
            return Answer({"error": f"unknown operation {key}"}, 400)
    return Answer({"commitUrl": f"{hub.url}/{_prefix(kind)}{repo}/commit/{found.sha}", "commitOid": found.sha})


ROUTES = [
    ("POST", r"/api/repos/create", create),
    ("POST", r"/api/validate-yaml", validate_card),
    ("POST", _API + r"/preupload/main", preupload),
    ("POST", _API + r"/commit/main", commit),
    ("GET", _API + r"(?:/revision/main)?", info),
    ("POST", r"/(?P<prefix>datasets/)?" + _REPO + r"\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_put),
    ("POST", r"/lfs-verify", lfs_verify),
]
_OPEN = (lfs_put,)  # the Hub signs these addresses instead of asking for the token


def _prefix(kind: str) -> str:
    return "" if kind == "model" else f"{kind}s/"


def _siblings(repo: Repo) -> list[dict]:
    return [{"rfilename": name} for name in sorted(repo.files)]


def _oid(content: bytes, way: str) -> str:
    """The name of a file's content: LFS's SHA-256, or Git's SHA-1 of a blob."""
    if way == "lfs":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving():
    """A running Hub; use its `url` as HF_ENDPOINT."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            with hub.lock:
                hub.requests.append(f"{self.command} {path}")
                answer = self._find(path, body)
            content = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _find(self, path: str, body: bytes) -> Answer:
            if hub.refuse:
                return Answer({"error": "refused"}, hub.refuse)
            for method, pattern, function in ROUTES:
                found = re.fullmatch(pattern, path)
                if method == self.command and found:
                    if function not in _OPEN and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                        return Answer({"error": "Invalid credentials"}, 401)
                    return function(hub, body, **found.groupdict())
            return Answer({"error": f"no route for {self.command} {path}"}, 404)

        do_GET = do_POST = do_PUT = do_HEAD = _answer

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

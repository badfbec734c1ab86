"""A Hub on the loopback: what huggingface_hub's client says over HTTP, answered from memory.

As on the Hub, the content of large files (LFS) lies on another host, here another port, at a signed address; small ones
come from the Hub itself. Uploads follow the client's path without Xet: create, validate the card, ask file by file for
the way (`preupload`), send large files by Git LFS, commit the rest as lines of JSON. A route in `ROUTES` is a method, a
pattern, a function. `Hub.troubles` says which request misbehaves how.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, quote, unquote, urlsplit

TOKEN = "hf_secret_of_the_user"
SIGNATURE = "Signature=do-not-print-me"
# Files of these kinds, and all above this size, go by LFS, as .gitattributes says on the Hub.
_LFS = (".safetensors", ".png", ".tar.gz", ".bin", ".pt")
_LFS_SIZE = 50_000
_PAGE = 200  # entries of a listing in one answer
_REPO = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = r"/api/(?P<kind>model|dataset)s/" + _REPO
_PREFIX = r"/(?P<prefix>datasets/)?" + _REPO


@dataclass
class Trouble:
    """How one request goes wrong. The first that matches the method and path is taken, `turns` times.

    `status` answers with it and `headers`; `cut` drops the connection after so many bytes of the body; `corrupt` flips
    the body's first byte; `short` leaves its last byte out, honestly counted; `endless` sends zeros instead until the
    client hangs up (200 MB at most); `pause_s` waits before the body.
    """

    pattern: str
    turns: int = 1
    method: str = "GET"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    corrupt: bool = False
    short: bool = False
    endless: bool = False
    pause_s: float = 0.0


@dataclass
class Repo:
    """One repository: its commits by hash, each the files by path, their messages, and who may see it."""

    private: bool = False
    gated: bool = False
    xet: bool = False  # name a way by Xet, which nobody answers
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    head: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the last commit."""
        return self.commits.get(self.head, {})

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        """Make these the files of a new commit, the head; its hash."""
        self.head = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[self.head] = files
        self.messages.append(message)
        return self.head


@dataclass
class Hub:
    """State of the server. `requests` notes "METHOD path" of each, `sent` the bytes of file bodies by path, `objects`
    what was uploaded by LFS. `listed` are entries that a listing names beside the real ones, as a hostile server would.
    """

    url: str = ""
    storage: str = ""
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    requests: deque[str] = field(default_factory=deque)
    tokens: set[str] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)
    listed: list[dict] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def add(self, kind: str, name: str, files: dict[str, bytes]) -> Repo:
        repo = self.repos[kind, name] = Repo()
        repo.commit(files)
        return repo

    def fetched(self, path: str) -> int:
        """How often the content of a file was asked for."""
        content = re.compile(rf"GET /(?!api/).*{re.escape(quote(path))}")
        return sum(1 for request in self.requests if content.fullmatch(request))

    def take_trouble(self, method: str, path: str) -> Trouble:
        for trouble in self.troubles:
            if trouble.turns > 0 and trouble.method == method and re.search(trouble.pattern, path):
                trouble.turns -= 1
                return trouble
        return Trouble("")


@dataclass
class Request:
    hub: Hub
    query: str
    body: bytes
    token: str | None

    @property
    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Answer:
    """`body` is sent as JSON unless it is bytes; `path` names the file that it is the content of."""

    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.answer = Answer({}, status, {"X-Error-Code": code, "X-Error-Message": code})


def commit_of(request: Request, kind: str, name: str, revision: str | None) -> tuple[Repo, str]:
    """The repository and the hash of the commit, if the client may see them."""
    repo = request.hub.repos.get((kind, name))
    if repo is None:
        raise Refused(404 if request.token else 401, "RepoNotFound")
    if repo.gated:
        raise Refused(403, "GatedRepo")
    commit = repo.head if revision in (None, "main") else revision
    if commit not in repo.commits and repo.commits:
        raise Refused(404, "RevisionNotFound")
    return repo, commit


def info(request: Request, kind: str, name: str, revision: str | None = None) -> Answer:
    repo, commit = commit_of(request, kind, name, revision)
    siblings = [{"rfilename": path} for path in sorted(repo.commits.get(commit, {}))]
    return Answer({"id": name, "sha": commit, "private": repo.private, "siblings": siblings})


def tree(request: Request, kind: str, name: str, revision: str) -> Answer:
    repo, commit = commit_of(request, kind, name, revision)
    entries = [*entries_of(repo.commits[commit]), *request.hub.listed]
    start = int(parse_qs(request.query).get("cursor", ["0"])[0])
    headers = {}
    if start + _PAGE < len(entries):
        address = f"{request.hub.url}/api/{kind}s/{name}/tree/{revision}"
        headers["Link"] = f'<{address}?recursive=true&cursor={start + _PAGE}>; rel="next"'
    return Answer(entries[start : start + _PAGE], headers=headers)


def entries_of(files: dict[str, bytes]) -> list[dict]:
    """Files and folders as the Hub lists them."""
    entries: dict[str, dict] = {}
    for path, content in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            entries[folder] = {"type": "directory", "oid": "d" * 40, "size": 0, "path": folder}
        entry = {"type": "file", "oid": blob_sha1(content), "size": len(content), "path": path}
        if goes_by_lfs(path, len(content)):
            entry |= {"oid": "e" * 40, "lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 130}}
        entries[path] = entry
    return list(entries.values())


def resolve(request: Request, prefix: str | None, name: str, revision: str, path: str) -> Answer:
    repo, commit = commit_of(request, "dataset" if prefix else "model", name, revision)
    content = repo.commits[commit].get(path)
    if content is None:
        raise Refused(404, "EntryNotFound")
    headers = {"X-Repo-Commit": commit}
    if not goes_by_lfs(path, len(content)):
        return Answer(content, headers=headers | {"ETag": f'"{blob_sha1(content)}"'}, path=path)
    oid = sha256(content)
    headers |= {
        "X-Linked-Size": str(len(content)),
        "X-Linked-ETag": f'"{oid}"',
        "Location": f"{request.hub.storage}/storage/{oid}/{quote(path)}?{SIGNATURE}",
    }
    if repo.xet:
        headers |= {"X-Xet-Hash": oid, "X-Xet-Refresh-Route": f"{request.hub.url}/api/xet-read-token/{commit}"}
    return Answer(status=302, headers=headers)


def storage(request: Request, oid: str, path: str) -> Answer:
    if request.query != SIGNATURE or request.token:
        raise Refused(403, "AccessDenied")
    contents = (files.get(path) for repo in request.hub.repos.values() for files in repo.commits.values())
    return Answer(next(content for content in contents if content is not None and sha256(content) == oid), path=path)


def create(request: Request) -> Answer:
    kind, name = request.json.get("type", "model"), f"{request.json['organization']}/{request.json['name']}"
    status = 409 if (kind, name) in request.hub.repos else 200
    request.hub.repos.setdefault((kind, name), Repo(private=request.json.get("visibility") == "private"))
    return Answer({"url": page(request.hub, kind, name)}, status)


def validate_card(request: Request) -> Answer:
    assert request.json["content"].startswith("---\n")
    return Answer({"errors": [], "warnings": []})


def preupload(request: Request, kind: str, name: str) -> Answer:
    files = request.hub.repos[kind, name].files
    ways = []
    for entry in request.json["files"]:
        path, by_lfs = entry["path"], goes_by_lfs(entry["path"], entry["size"])
        oid = (sha256 if by_lfs else blob_sha1)(files[path]) if path in files else None
        mode = "lfs" if by_lfs else "regular"
        ways.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return Answer({"files": ways})


def lfs_batch(request: Request, name: str, prefix: str | None = None) -> Answer:
    url, objects = request.hub.url, []
    for entry in request.json["objects"]:
        actions = {"upload": {"href": f"{url}/lfs/{entry['oid']}"}, "verify": {"href": f"{url}/lfs-verify"}}
        objects.append(entry if entry["oid"] in request.hub.objects else entry | {"actions": actions})
    return Answer({"transfer": "basic", "objects": objects})


def lfs_put(request: Request, oid: str) -> Answer:
    if sha256(request.body) != oid:
        return Answer({"error": "the content does not match its hash"}, 400)
    request.hub.objects[oid] = request.body
    return Answer()


def lfs_verify(request: Request) -> Answer:
    content = request.hub.objects.get(request.json["oid"])
    return Answer({}, 200 if content is not None and len(content) == request.json["size"] else 404)


def commit(request: Request, kind: str, name: str) -> Answer:
    repo = request.hub.repos[kind, name]
    files, message = dict(repo.files), ""
    for line in request.body.splitlines():
        key, value = (entry := json.loads(line))["key"], entry["value"]
        if key == "header":
            message = value["summary"]
        elif key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = request.hub.objects[value["oid"]]
        else:
            return Answer({"error": f"unknown operation {key}"}, 400)
    head = repo.commit(files, message)
    return Answer({"commitUrl": f"{page(request.hub, kind, name)}/commit/{head}", "commitOid": head})


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", _API + r"(?:/revision/(?P<revision>[^/]+))?", info),
    ("GET", _API + r"/tree/(?P<revision>[^/]+)", tree),
    ("GET", _PREFIX + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    ("GET", r"/storage/(?P<oid>[0-9a-f]{64})/(?P<path>.+)", storage),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_put),  # as the storage, at an address that needs no token
    ("POST", r"/api/repos/create", create),
    ("POST", r"/api/validate-yaml", validate_card),
    ("POST", _API + r"/preupload/main", preupload),
    ("POST", _API + r"/commit/main", commit),
    ("POST", _PREFIX + r"\.git/info/lfs/objects/batch", lfs_batch),
    ("POST", r"/lfs-verify", lfs_verify),
]


def page(hub: Hub, kind: str, name: str) -> str:
    return f"{hub.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"


def goes_by_lfs(path: str, size: int) -> bool:
    return path.endswith(_LFS) or size > _LFS_SIZE


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization")
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {url.path}")
            if token:
                self.hub.tokens.add(token)
            trouble = self.hub.take_trouble(self.command, unquote(url.path))
            if trouble.status != 200:
                answer = Answer({"error": "trouble"}, trouble.status, trouble.headers)
            else:
                answer = self._answer(unquote(url.path), Request(self.hub, url.query, body, token))
        self._send(answer, trouble)

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _answer(self, path: str, request: Request) -> Answer:
        method = "GET" if self.command == "HEAD" else self.command
        for expected, pattern, function in ROUTES:
            match = re.fullmatch(pattern, path)
            if method == expected and match:
                if method == "POST" and request.token != f"Bearer {TOKEN}":
                    return Answer({"error": "Invalid credentials"}, 401)
                try:
                    return function(request, **match.groupdict())
                except Refused as refusal:
                    return refusal.answer
        return Answer({"error": f"no route for {self.command} {path}"}, 404, {"X-Error-Code": "EntryNotFound"})

    def _send(self, answer: Answer, trouble: Trouble) -> None:
        body, headers = answer.body, answer.headers
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), headers | {"Content-Type": "application/json"}
        if answer.path:
            if trouble.corrupt:
                body = bytes([body[0] ^ 1]) + body[1:]
            if trouble.short:
                body = body[:-1]
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if trouble.endless:
            return self._send_without_end(answer.path)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        time.sleep(trouble.pause_s)
        end = len(body) if trouble.cut is None else trouble.cut
        self.wfile.write(body[:end])
        self._note_sent(answer.path, end)
        if end < len(body):
            # Reset, as a lost connection is; no polite end.
            self.wfile.flush()
            time.sleep(0.2)  # what was sent arrives
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    def _send_without_end(self, path: str) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = bytes(1 << 20)
        for _ in range(200):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
            self._note_sent(path, len(block))
        self.wfile.write(b"0\r\n\r\n")

    def _note_sent(self, path: str, size: int) -> None:
        if path:
            with self.hub.lock:
                self.hub.sent[path] = self.hub.sent.get(path, 0) + size

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed


@contextmanager
def serving():
    """A running Hub; use its `url` as HF_ENDPOINT."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

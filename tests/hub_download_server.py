"""A Hub on the loopback to download from: what huggingface_hub's client asks over HTTP, answered from memory.

As on the Hub, large files (LFS) are redirected to another host, here another port, with a signed address; small ones
come from the Hub itself. `Hub.plan` says which request misbehaves how: by a pattern of its path, for so many turns.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, quote, unquote, urlsplit

SIGNATURE = "Signature=do-not-print-me"
_PAGE = 200  # entries of a listing in one answer
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_API = r"/api/(?P<kind>model|dataset)s/" + _REPO
_RESOLVE = r"/(?P<prefix>datasets/)?" + _REPO + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)"


@dataclass
class Trouble:
    """How one request goes wrong. The first that matches the method and path is taken, `turns` times.

    `status` answers with it and `headers`; `cut` drops the connection after so many bytes of the body; `corrupt` flips
    the body's first byte; `short` leaves its last byte out, honestly counted; `endless` sends zeros instead until the
    client hangs up (200 MB at most); `whole` sends all where a range was asked for; `pause_s` waits before the body.
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
    whole: bool = False
    pause_s: float = 0.0


@dataclass
class Repo:
    """One repository: its commits by hash, each the files by path; `lfs` says which files go by LFS."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""
    gated: bool = False
    xet: bool = False  # name a way by Xet, which nobody answers
    lfs: tuple[str, ...] = (".safetensors", ".png", ".tar.gz", ".bin", ".pt")

    def commit(self, files: dict[str, bytes]) -> str:
        """Make these the files of a new commit, the head; its hash."""
        self.head = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[self.head] = files
        return self.head


@dataclass
class Hub:
    """State of the server. `requests` notes "METHOD path" of each, `sent` the bytes of file bodies by path.

    `listed` are entries that a listing names beside the real ones, as a hostile server would. An answer of more than
    `most_bytes` of a file is refused, as the Hub's storage does from 50 GB on.
    """

    url: str = ""
    storage: str = ""
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    requests: deque[str] = field(default_factory=deque)
    tokens: set[str] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)
    listed: list[dict] = field(default_factory=list)
    most_bytes: int | None = None
    lock: Lock = field(default_factory=Lock)

    def add(self, kind: str, name: str, files: dict[str, bytes]) -> Repo:
        repo = self.repos[kind, name] = Repo()
        repo.commit(files)
        return repo

    def fetched(self, path: str) -> int:
        """How often the content of a file was asked for."""
        asked = re.compile(rf"GET /.*{re.escape(quote(path))}")
        return sum(1 for request in self.requests if asked.fullmatch(request) and not request.startswith("GET /api"))

    def take_trouble(self, method: str, path: str) -> Trouble:
        for trouble in self.troubles:
            if trouble.turns > 0 and trouble.method == method and re.search(trouble.pattern, path):
                trouble.turns -= 1
                return trouble
        return Trouble("")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {url.path}")
            if token := self.headers.get("Authorization"):
                self.hub.tokens.add(token)
            trouble = self.hub.take_trouble(self.command, path)
        if trouble.status != 200:
            return self._send(trouble.status, trouble.headers, json.dumps({"error": "trouble"}).encode())
        for pattern, function in ((_API + r"/revision/(?P<revision>[^/]+)", self._info), (_API, self._info)):
            if found := re.fullmatch(pattern, path):
                return function(**found.groupdict())
        if found := re.fullmatch(_API + r"/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", path):
            return self._tree(**found.groupdict(), query=parse_qs(url.query))
        if found := re.fullmatch(_RESOLVE, path):
            return self._resolve(**found.groupdict(), trouble=trouble)
        if found := re.fullmatch(r"/storage/(?P<oid>[0-9a-f]{64})/(?P<path>.+)", path):
            return self._storage(**found.groupdict(), query=url.query, trouble=trouble)
        return self._refuse(404, "EntryNotFound")

    do_GET = do_HEAD = _answer

    def _repo(self, kind: str, name: str, revision: str | None) -> tuple[Repo, str] | None:
        """The repository and the commit; None after a refusal was sent."""
        repo = self.hub.repos.get((kind, name))
        if repo is None:
            return self._refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
        if repo.gated:
            return self._refuse(403, "GatedRepo")
        commit = repo.head if revision in (None, "main") else revision
        if commit not in repo.commits:
            return self._refuse(404, "RevisionNotFound")
        return repo, commit

    def _info(self, kind: str, repo: str, revision: str | None = None) -> None:
        if found := self._repo(kind, repo, revision):
            self._send(200, {}, json.dumps({"id": repo, "sha": found[1], "private": False, "siblings": []}).encode())

    def _tree(self, kind: str, repo: str, revision: str, folder: str | None, query: dict) -> None:
        found = self._repo(kind, repo, revision)
        if not found:
            return
        entries = [entry for entry in tree(*found) if folder is None or entry["path"].startswith(f"{folder}/")]
        if folder is not None and not entries:
            return self._refuse(404, "EntryNotFound")
        entries += self.hub.listed
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + _PAGE < len(entries):
            here = self.path.partition("?")[0]
            headers["Link"] = f'<{self.hub.url}{here}?recursive=true&cursor={start + _PAGE}>; rel="next"'
        self._send(200, headers, json.dumps(entries[start : start + _PAGE]).encode())

    def _resolve(self, prefix: str | None, repo: str, revision: str, path: str, trouble: Trouble) -> None:
        found = self._repo("dataset" if prefix else "model", repo, revision)
        if not found:
            return
        content = found[0].commits[found[1]].get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        headers = {"X-Repo-Commit": found[1]}
        if path.endswith(found[0].lfs):
            oid = hashlib.sha256(content).hexdigest()
            headers |= {
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{oid}"',
                "Location": f"{self.hub.storage}/storage/{oid}/{quote(path)}?{SIGNATURE}",
            }
            if found[0].xet:
                headers |= {"X-Xet-Hash": oid, "X-Xet-Refresh-Route": f"{self.hub.url}/xet-token"}
            return self._send(302, headers, b"")
        self._send_file(path, content, headers | {"ETag": f'"{blob_sha1(content)}"'}, trouble)

    def _storage(self, oid: str, path: str, query: str, trouble: Trouble) -> None:
        if query != SIGNATURE or self.headers.get("Authorization"):
            return self._refuse(403, "AccessDenied")
        contents = (files.get(path) for repo in self.hub.repos.values() for files in repo.commits.values())
        content = next(c for c in contents if c is not None and hashlib.sha256(c).hexdigest() == oid)
        self._send_file(path, content, {}, trouble)

    def _send_file(self, path: str, content: bytes, headers: dict[str, str], trouble: Trouble) -> None:
        if trouble.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        if trouble.short:
            content = content[:-1]
        status = 200
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found and not trouble.whole:
            start, end = int(found[1]), int(found[2] or len(content) - 1) + 1
            headers |= {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
            content, status = content[start:end], 206
        if self.hub.most_bytes is not None and len(content) > self.hub.most_bytes:
            return self._refuse(400, "TooLarge")
        if trouble.endless:
            return self._send_without_end(path)
        self._send(status, headers | {"Accept-Ranges": "bytes"}, content, trouble, path)

    def _send_without_end(self, path: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = bytes(1 << 20)
        for _ in range(200):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
            with self.hub.lock:
                self.hub.sent[path] = self.hub.sent.get(path, 0) + len(block)
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": code}, b"{}")

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, trouble: Trouble | None = None, path: str = ""
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(body)
        if trouble is not None:
            time.sleep(trouble.pause_s)
            end = end if trouble.cut is None else trouble.cut
        self.wfile.write(body[:end])
        if path:
            with self.hub.lock:
                self.hub.sent[path] = self.hub.sent.get(path, 0) + end
        if end < len(body):
            # Reset, as a lost connection is; no polite end.
            self.wfile.flush()
            time.sleep(0.2)  # what was sent arrives
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed


def blob_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def tree(repo: Repo, commit: str) -> list[dict]:
    """The files and folders of a commit, as the Hub lists them."""
    entries: dict[str, dict] = {}
    for path, content in repo.commits[commit].items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            entries[folder] = {"type": "directory", "oid": "d" * 40, "size": 0, "path": folder}
        entry = {"type": "file", "oid": blob_sha1(content), "size": len(content), "path": path}
        if path.endswith(repo.lfs):
            oid = hashlib.sha256(content).hexdigest()
            entry |= {"oid": "e" * 40, "lfs": {"oid": oid, "size": len(content), "pointerSize": 130}}
        entries[path] = entry
    return list(entries.values())


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

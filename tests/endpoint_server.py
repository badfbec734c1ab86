"""An OpenAI-compatible endpoint on the loopback that answers, or misbehaves, as a test tells it to."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any


@dataclass
class Reply:
    """What one request gets. `body` as JSON unless it is bytes; `cut` sends the promised length but half the body;
    `drop` closes the connection without a word; `delay_s` comes before, `trickle_s` after each byte."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    trickle_s: float = 0.0
    cut: bool = False
    drop: bool = False


def completion(content: Any = "ok", finish: str | None = "stop", used: int | None = 3, **message: Any) -> dict:
    """The body of a chat completion."""
    body = {"choices": [{"index": 0, "finish_reason": finish, "message": {"content": content, **message}}]}
    return body | ({} if used is None else {"usage": {"completion_tokens": used}})


@dataclass
class Endpoint:
    """State of the server: `reply` gives the answer to the n-th request (from 0) by its body."""

    url: str = ""
    reply: Callable[[int, dict], Reply] = lambda n, body: Reply(completion())
    requests: list[dict] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    hung_up: int = 0  # clients that went away before their answer
    lock: Lock = field(default_factory=Lock)
    over: Event = field(default_factory=Event)

    def reply_in_turn(self, *replies: Reply) -> None:
        """These, then ordinary answers."""
        self.reply = lambda n, body: replies[n] if n < len(replies) else Reply(completion())


@contextmanager
def serving() -> Iterator[Endpoint]:
    """A running endpoint; give its `url` as base_url."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with endpoint.lock:
                number = len(endpoint.requests)
                endpoint.requests.append(body)
                endpoint.headers.append(self.headers)
                endpoint.in_flight += 1
                endpoint.most_in_flight = max(endpoint.most_in_flight, endpoint.in_flight)
            try:
                self._send(endpoint.reply(number, body))
            finally:
                with endpoint.lock:
                    endpoint.in_flight -= 1

        def _send(self, reply: Reply) -> None:
            if not self._waited(reply.delay_s) or reply.drop:
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if reply.cut:
                content = content[: len(content) // 2]
                self.close_connection = True
            for start in range(0, len(content), 1 if reply.trickle_s else len(content)):
                self.wfile.write(content[start : start + 1] if reply.trickle_s else content)
                if reply.trickle_s and not self._waited(reply.trickle_s):
                    self.close_connection = True
                    return

        def _waited(self, seconds: float) -> bool:
            """Wait, unless the client hangs up or the server ends."""
            for _ in range(round(seconds / 0.02)):
                if endpoint.over.wait(0.02):
                    return False
                try:
                    gone = self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
                except BlockingIOError:
                    gone = False
                except ConnectionError:
                    gone = True
                if gone:
                    with endpoint.lock:
                        endpoint.hung_up += 1
                    return False
            return True

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.over.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""A small hub on this machine: what its clients ask for, as it answers, with faults to order."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 4096  # bytes from which a file is stored by its sha256


@dataclass
class FakeHub:
    """`cut` is how many bytes of a large file are sent before the connection ends, `cuts` how often that happens."""

    files: dict[str, bytes]
    repository: str = "someone/model"
    token: str | None = None
    ranges: bool = True
    cut: int = 0
    cuts: int = 0
    held: threading.Event | None = None  # what large files wait for after `cut` bytes
    broken: int = 0  # status that files are answered with
    broken_for: int = 10**9  # how many times
    elsewhere: str = ""  # another server that large files are sent from
    promised: int = 0  # size that large files are said to have
    spoiled: bool = False  # sends other bytes than it promised
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""

    def sent_ranges(self, path: str) -> list[str | None]:
        return [wanted for method, asked, wanted in self.asked if method == "GET" and asked.endswith(path)]


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, which the hub's library reads only when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def in_reach(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be the hub of this process, with an empty cache."""
    point_at(hub.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def names(content: bytes) -> tuple[str, str | None]:
    """The blob's name and, of a large file, its sha256."""
    sha256 = hashlib.sha256(content).hexdigest()
    if len(content) >= LARGE:
        return sha256, sha256
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), None


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        self.hub.tokens.add(self.headers.get("Authorization"))
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._send(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif path.startswith(f"/api/models/{self.hub.repository}/tree/"):
            self._json([self._tree_entry(name, content) for name, content in self.hub.files.items()])
        elif path.startswith(f"/api/models/{self.hub.repository}"):
            siblings = [self._sibling(name, content) for name, content in self.hub.files.items()]
            self._json({"id": self.hub.repository, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(f"/{self.hub.repository}/resolve/"):
            self._file(path.split("/", 5)[5])
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        blob, sha256 = names(content)
        size = self.hub.promised or len(content) if sha256 else len(content)
        lfs = {"sha256": sha256, "size": size, "pointerSize": 130} if sha256 else None
        return {"rfilename": name, "size": size, "blobId": blob, **({"lfs": lfs} if lfs else {})}

    def _tree_entry(self, name: str, content: bytes) -> dict[str, Any]:
        blob, sha256 = names(content)
        lfs = {"oid": sha256, "size": len(content), "pointerSize": 130} if sha256 else None
        return {"type": "file", "path": name, "size": len(content), "oid": blob, **({"lfs": lfs} if lfs else {})}

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        content = self.hub.files.get(name)
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.hub.broken and self.hub.broken_for and self.command == "GET":
            self.hub.broken_for -= 1
            return self._send(self.hub.broken, b"", {})
        if self.hub.elsewhere and len(content) >= LARGE:
            blob = names(content)[0]
            facts = {"X-Linked-ETag": f'"{blob}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": COMMIT}
            return self._send(302, b"", {**facts, "Location": f"{self.hub.elsewhere}{self.path}"})
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.hub.ranges:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{names(content)[0]}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if self.hub.spoiled:
            body = bytes(len(body))
        if self.hub.cuts and self.command == "GET" and len(content) >= LARGE:
            self.hub.cuts -= 1
            self._headers(206 if start else 200, len(body), headers)
            self.wfile.write(body[: self.hub.cut])
            self.close_connection = True
            return None
        if self.hub.held and self.command == "GET" and len(content) >= LARGE:
            self._headers(206 if start else 200, len(body), headers)
            self.wfile.write(body[: self.hub.cut])
            self.hub.held.wait(120)
            with suppress(OSError):  # the client has gone
                self.wfile.write(body[self.hub.cut :])
            return None
        return self._send(206 if start else 200, body, headers)

    def _headers(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._headers(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

"""A model hub of one repository, `some/model`, over HTTP: lists the files of a folder and hands them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "a" * 40


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of `folder`; yield the endpoint and the names of the files that were downloaded, as they are."""
    taken: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            names = sorted(path.name for path in folder.iterdir())
            if self.path.startswith("/api/models/some/model/tree/"):
                entries = [
                    {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": name}
                    for name in names
                ]
                return self._send(json.dumps(entries).encode(), body)
            if self.path.startswith("/api/models/some/model"):
                siblings = [{"rfilename": name} for name in names]
                found = {"id": "some/model", "sha": COMMIT, "siblings": siblings, "private": False}
                return self._send(json.dumps(found).encode(), body)
            name = self.path.rpartition("/")[2]
            if self.path.startswith("/some/model/resolve/") and name in names:
                if body:
                    taken.append(name)
                return self._send((folder / name).read_bytes(), body, name)
            self.send_error(404)
            return None

        def _send(self, content: bytes, body: bool, name: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{name}"')
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Small random checkpoints in a directory, and a hub on this machine that hands out such directories."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import load_file

from fastgenome.models.tiny import TinyConfig, create
from fastgenome.models.transformer import TransformerConfig

SHAPE = TransformerConfig(5, 32, 1, 4, 48, activation="geglu", final_norm=True, stem_stride=4, stem_k=3,
                          stem_window=10)  # fmt: skip
SEQUENCES = ["ACGTTGCATGCANNACGT", "TTTTACGACGATCAG"]


def write_tiny(
    directory: Path, *, seed: int = 0, legacy: bool = False, shape: TransformerConfig = SHAPE
) -> Path:
    """A model of the tiny family with random weights; `legacy` leaves it with pytorch_model.bin alone."""
    torch.manual_seed(seed)
    create(TinyConfig(shape, max_length=400, default_layers=(-1,))).save(directory)
    if legacy:
        weights = directory / "model.safetensors"
        torch.save(load_file(weights), directory / "pytorch_model.bin")
        weights.unlink()
    return directory


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Hub:
    """Speaks what huggingface_hub asks of the hub, for directories given as repositories.

    `repositories` has them by "owner/name" and branch or commit; a branch's commit is its digest. `requests`
    collects what was asked for, `fetched` the names of the files that were handed out.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Path] = {}
        self.requests: list[str] = []
        self.fetched: list[str] = []

    def add(self, repository: str, directory: Path, branch: str = "main") -> str:
        """Publish a directory; its commit."""
        commit = hashlib.sha1(f"{repository} {branch}".encode()).hexdigest()
        self.repositories[repository, branch] = self.repositories[repository, commit] = directory
        return commit

    def answer(self, path: str) -> tuple[bytes, dict[str, str]] | None:
        """Body and headers of the answer to a request; None for what is not there."""
        self.requests.append(path)
        path = path.partition("?")[0].strip("/")
        api = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/")
        if len(parts) < 4:
            return None
        repository, verb, revision = "/".join(parts[:2]), parts[2], parts[3]
        directory = self.repositories.get((repository, revision))
        if directory is None:
            return None
        commits = [key[1] for key, value in self.repositories.items() if value == directory]
        commit = next(name for name in commits if len(name) == 40)
        files = [file for file in sorted(directory.rglob("*")) if file.is_file()]
        if api and verb == "revision":
            siblings = [{"rfilename": str(file.relative_to(directory))} for file in files]
            return json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode(), {}
        if api and verb == "tree":
            tree = [
                {"type": "file", "path": str(file.relative_to(directory)), "size": file.stat().st_size,
                 "oid": hashlib.sha1(file.read_bytes()).hexdigest()}
                for file in files
            ]  # fmt: skip
            return json.dumps(tree).encode(), {}
        file = directory / "/".join(parts[4:])
        if verb != "resolve" or not file.is_file():
            return None
        return file.read_bytes(), {"ETag": f'"{sha256(file)}"', "X-Repo-Commit": commit}


@contextmanager
def running(hub: Hub) -> Iterator[str]:
    """Serve a hub on this machine; its address."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self, *, with_body: bool) -> None:
            found = hub.answer(self.path)
            body, headers = found or (b"", {"X-Error-Code": "RepoNotFound"})
            self.send_response(200 if found else 404)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)
                if "/resolve/" in self.path:
                    hub.fetched.append(self.path.rpartition("/")[2])

        def do_GET(self) -> None:
            self.respond(with_body=True)

        def do_HEAD(self) -> None:
            self.respond(with_body=False)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_below(folder: Path) -> set[str]:
    return {file for _, _, files in os.walk(folder) for file in files}

"""A hub on this machine: as much of the Hugging Face hub's protocol as sending and fetching a lens takes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Where the pages of repositories are, which nobody asks for; huggingface_hub knows no other place.
_PAGE = "https://huggingface.co"


class Hub:
    """What the hub holds, and what it was asked.

    ``repos`` is repository -> revision -> file -> content; ``sizes`` are claims about a file that are no truth.
    """

    def __init__(self):
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.private: dict[str, bool | None] = {}

    def files(self, repo, revision="main"):
        return self.repos[repo][revision]

    def commit(self, repo, revision):
        """Return the commit of a revision, or None."""
        found = self.repos[repo]
        for name, files in found.items():
            oid = hashlib.sha1(json.dumps({k: _oid(v) for k, v in files.items()}).encode()).hexdigest()
            if revision in (name, oid):
                return oid, files
        return None


def _oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _send(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status, code):
        self._send(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def _answer(self):
        hub, path = self.hub, self.path.split("?")[0].replace("%2F", "/")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if path == "/api/agent-harnesses":
            # Newer clients look up what runs them, whatever they are for.
            return self._send(404)
        hub.asked.append(f"{self.command} {path}")
        hub.tokens.add(self.headers.get("Authorization"))
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            # Older clients say the one, newer ones the other.
            hub.private[repo] = asked.get("private") or asked.get("visibility") == "private"
            hub.repos.setdefault(repo, {"main": {}})
            return self._send(200, {"url": f"{_PAGE}/{repo}", "name": repo, "id": repo})
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/(.+))?", path):
            repo, what, revision = found.groups()
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/(.+)/([^/]+)", path):
            repo, what, revision, file = found.groups()
        else:
            return self._send(404)
        if repo not in hub.repos:
            return self._refuse(404, "RepoNotFound")
        if repo in hub.gated:
            return self._refuse(403, "GatedRepo")
        if what == "branch":
            hub.repos[repo].setdefault(revision, dict(hub.repos[repo]["main"]))
            return self._send(200, {})
        if (commit := hub.commit(repo, revision or "main")) is None:
            return self._refuse(404, "RevisionNotFound")
        oid, files = commit
        sizes = {name: hub.sizes.get(name, len(content)) for name, content in files.items()}
        if what == "preupload":
            modes = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._send(200, {"files": modes})
        if what == "commit":
            for line in body.splitlines():
                said = json.loads(line)
                if said["key"] == "file":
                    files[said["value"]["path"]] = base64.b64decode(said["value"]["content"])
            oid, _ = hub.commit(repo, revision)
            url = f"{_PAGE}/{repo}/commit/{oid}"
            return self._send(200, {"success": True, "commitUrl": url, "commitOid": oid, "pullRequestUrl": None})
        if what == "tree":
            tree = [
                {"type": "file", "path": name, "size": sizes[name], "oid": _oid(content)}
                for name, content in files.items()
            ]
            return self._send(200, tree)
        if what == "resolve":
            if file not in files:
                return self._refuse(404, "EntryNotFound")
            return self._send(200, files[file], ETag=f'"{_oid(files[file])}"', X_Repo_Commit=oid)
        siblings = [
            {"rfilename": name, "size": sizes[name], "blobId": _oid(content)} for name, content in files.items()
        ]
        return self._send(200, {"id": repo, "modelId": repo, "sha": oid, "siblings": siblings, "tags": []})

    do_GET = do_HEAD = do_POST = _answer


@contextmanager
def serving():
    """Serve a hub on this machine within this context; yields it and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

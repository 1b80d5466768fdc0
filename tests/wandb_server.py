"""A server that takes and gives what W&B's client uploads and asks for, as far as cells need it.

It knows one team, "pride". What came is in `runs` and `artifacts`; `secrets` says which keys it
takes. Nobody but this machine can reach it.
"""

import base64
import gzip
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "k" * 40
TEAM = "pride"
DATE = "2026-01-01T00:00:00Z"


@dataclass
class Run:
    """What came of a run."""

    name: str
    project: str
    settings: list[dict[str, Any]] = field(default_factory=list)  # of every upsert
    lines: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    exit_codes: list[int] = field(default_factory=list)

    @property
    def history(self) -> list[dict[str, Any]]:
        """By the place of the line in the file."""
        found = self.lines["wandb-history.jsonl"]
        return [json.loads(found[place]) for place in sorted(found)]

    @property
    def summary(self) -> dict[str, Any]:
        """The last one."""
        lines = self.lines["wandb-summary.json"]
        return json.loads(lines[max(lines)]) if lines else {}


class Server(ThreadingHTTPServer):
    """Requests are answered in threads of their own."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients hang up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}  # by name: type, manifest
        self.files: dict[str, bytes] = {}  # by path
        self.asked: list[str] = []  # operations
        self.unknown: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, key: str = KEY) -> dict[str, str]:
        """For a client."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": key, "WANDB_ERROR_REPORTING": "false"}


@contextmanager
def serving() -> Iterator[Server]:
    """A server that answers as long as the context lasts."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value: Any, status: int = 200) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _known(self) -> bool:
        told = (self.headers.get("Authorization") or " ").split(" ", 1)[1]
        return base64.b64decode(told).decode() == f"api:{KEY}" if told else False

    def do_PUT(self) -> None:
        """A file."""
        self.server.files[self.path] = self._body()
        self._answer({})

    def do_GET(self) -> None:
        """A file."""
        found = self.server.files.get(self.path)
        self._answer(found if found is not None else {}, 200 if found is not None else 404)

    def do_POST(self) -> None:
        """Lines of a run, or a question."""
        body = self._body()
        if not self._known():
            self._answer({"errors": [{"message": "user is not logged in"}]}, 401)
        elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self._stream(self.server.runs[match[1]], json.loads(body))
        else:
            asked = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._graphql(name[1] if name else "", asked.get("variables") or {}, asked["query"])

    def _stream(self, run: Run, told: dict[str, Any]) -> None:
        for name, chunk in (told.get("files") or {}).items():
            for place, line in enumerate(chunk["content"], start=chunk["offset"]):
                run.lines[name][place] = line
        if told.get("complete"):
            run.exit_codes.append(told.get("exitcode", 0))
        self._answer({})

    def _graphql(self, name: str, told: dict[str, Any], query: str) -> None:
        self.server.asked.append(name)
        answer = getattr(self, f"_{name.lower()}", None)
        if answer is None:
            self.server.unknown.append(name)
            print("UNKNOWN", name, query, told)
            self._answer({"errors": [{"message": f"no such question: {name} {query} {told}"}]}, 400)
            return
        try:
            found = {"data": answer(told)}
        except Exception as error:
            print("ERR", name, repr(error), query, told, flush=True)
            self._answer({"errors": [{"message": repr(error)}]}, 400)
            return
        self._answer(found)

    def _viewer(self, _: dict[str, Any]) -> Any:
        return {"viewer": {"id": "1", "entity": TEAM, "username": TEAM, "flags": "{}", "email": "",
                           "teams": {"edges": [{"node": {"name": TEAM}}]}}}  # fmt: skip

    def _serverfeaturesquery(self, _: dict[str, Any]) -> Any:
        return {"serverInfo": {"features": []}}

    def _organizationcoreweaveorganizationid(self, _: dict[str, Any]) -> Any:
        return {"entity": {"organization": None}}

    def _runresumestatus(self, told: dict[str, Any]) -> Any:
        run, bucket = self.server.runs.get(told["name"]), None
        if run:
            tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
            lines = {f"{kind}LineCount": len(run.lines[f"wandb-{kind}.jsonl"])
                     for kind in ("history", "events")}  # fmt: skip
            bucket = {"id": run.name, "name": run.name, "displayName": run.name,
                      "summaryMetrics": json.dumps(run.summary), "logLineCount": 0, **lines,
                      "historyTail": tail, "eventsTail": "[]", "config": "{}", "tags": [],
                      "notes": None, "wandbConfig": json.dumps({"t": 1})}  # fmt: skip
        return {"model": {"id": "p", "name": told["project"],
                          "entity": {"id": "e", "name": TEAM}, "bucket": bucket}}  # fmt: skip

    def _upsertbucket(self, told: dict[str, Any]) -> Any:
        name = told["name"]
        run = self.server.runs.setdefault(name, Run(name, told["project"]))
        run.settings.append(told)
        project = {"id": "p", "name": told["project"], "entity": {"id": "e", "name": TEAM}}
        bucket = {"id": name, "name": name, "displayName": name, "description": None,
                  "config": None, "sweepName": None, "project": project,
                  "historyLineCount": len(run.history)}  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": len(run.settings) == 1}}

    def _createrunfiles(self, told: dict[str, Any]) -> Any:
        files = [{"name": n, "uploadUrl": f"{self.server.url}/put/{n}"} for n in told["files"]]
        return {"createRunFiles": {"runID": told["run"], "uploadHeaders": [], "files": files}}

    def _artifacttype(self, told: dict[str, Any]) -> Any:
        return {"project": {"artifact": None}}

    def _createartifact(self, told: dict[str, Any]) -> Any:
        asked = told["input"]
        name = asked["artifactCollectionName"]
        known = {"type": asked["artifactTypeName"], "metadata": asked["metadata"]}
        self.server.artifacts[name] = known | {"digest": asked["digest"]}
        artifact = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _createartifactmanifest(self, told: dict[str, Any]) -> Any:
        return self._manifest("createArtifactManifest", told["artifactID"])

    def _updateartifactmanifest(self, told: dict[str, Any]) -> Any:
        return self._manifest("updateArtifactManifest", told["artifactManifestID"])

    def _manifest(self, operation: str, name: str) -> Any:
        url = f"{self.server.url}/manifest/{name}"
        file = {"id": name, "uploadUrl": url, "uploadHeaders": []}
        return {operation: {"artifactManifest": {"id": name, "file": file}}}

    def _createartifactfiles(self, told: dict[str, Any]) -> Any:
        files = []
        for spec in told.get("files") or told["input"]["artifactFiles"]:
            path = f"/artifact/{spec['artifactID']}/{spec['name']}"
            node = {"id": path, "name": spec["name"], "displayName": spec["name"],
                    "uploadUrl": self.server.url + path, "uploadHeaders": [],
                    "storagePath": path, "uploadMultipartUrls": None,
                    "artifact": {"id": spec["artifactID"]}}  # fmt: skip
            files.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": files}}}

    def _commitartifact(self, told: dict[str, Any]) -> Any:
        self.server.artifacts[told["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": told["artifactID"], "digest": "d"}}}

    def _getdefaultentity(self, _: dict[str, Any]) -> Any:
        return {"viewer": {"id": "1", "entity": TEAM}}

    def _artifacttypeartifactcollections(self, told: dict[str, Any]) -> Any:
        names = [n for n, known in self.server.artifacts.items() if known["type"] == told["type"]]
        if not names:
            return {"project": {"artifactType": None}}
        project = {"id": "p", "internalId": "1", "name": told["project"], "entity": {"name": TEAM}}
        nodes = [
            {"__typename": "ArtifactSequence", "id": name, "name": name, "description": None,
             "createdAt": DATE, "updatedAt": DATE, "project": project,
             "type": {"name": told["type"]}, "tags": {"edges": []}}
            for name in names
        ]  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        found = {"totalCount": len(nodes), "pageInfo": page}
        found["edges"] = [{"node": node} for node in nodes]
        return {"project": {"artifactType": {"artifactCollections": found}}}

    def _artifactmembershipbyname(self, told: dict[str, Any]) -> Any:
        name = told["name"].partition(":")[0]
        known = self.server.artifacts[name]
        project = {"id": "p", "internalId": "1", "name": told["project"], "entity": {"name": TEAM}}
        collection = {"__typename": "ArtifactSequence", "name": name, "project": project}
        alias = {"__typename": "ArtifactAlias", "id": "a", "alias": "latest"}
        artifact = {"__typename": "Artifact", "id": name, "artifactSequence": collection,
                    "versionIndex": 0, "artifactType": {"name": known["type"]}, "description": None,
                    "metadata": known["metadata"], "ttlDurationSeconds": -2, "ttlIsInherited": True,
                    "tags": [], "historyStep": None, "state": "COMMITTED", "size": 1,
                    "digest": known["digest"], "commitHash": None, "fileCount": 1,
                    "createdAt": DATE, "updatedAt": DATE,
                    "aliases": [alias | {"artifactCollection": collection}]}  # fmt: skip
        membership = {"__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": 0,
                      "createdAt": DATE, "aliases": [alias], "artifactCollection": collection,
                      "artifact": artifact}  # fmt: skip
        return {"project": {"artifactCollectionMembership": membership}}

    def _fetchartifactmanifest(self, told: dict[str, Any]) -> Any:
        file = {"directUrl": f"{self.server.url}/manifest/{told['id']}"}
        return {"artifact": {"currentManifest": {"file": file}}}

    def _getartifactmembershipfileurls(self, told: dict[str, Any]) -> Any:
        base = f"/artifact/{told['collection']}/"
        nodes = [
            {"__typename": "File", "name": path.removeprefix(base),
             "directUrl": self.server.url + path}
            for path in self.server.files
            if path.startswith(base)
        ]  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        files = {"pageInfo": page, "edges": [{"node": node} for node in nodes]}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
        return {"project": {"artifactCollection": collection}}

    def _projectartifacttypes(self, told: dict[str, Any]) -> Any:
        kinds = {known["type"] for known in self.server.artifacts.values()}
        nodes = [{"__typename": "ArtifactType", "id": kind, "name": kind, "description": None,
                  "createdAt": DATE} for kind in sorted(kinds)]  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        found = {"pageInfo": page, "edges": [{"node": node} for node in nodes]}
        return {"project": {"artifactTypes": found}}

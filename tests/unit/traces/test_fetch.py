"""Downloads of published traces, from a server on this machine."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from servesim.errors import ServesimError
from servesim.traces import fetch as module
from servesim.traces.fetch import UNCHECKED, fetch
from servesim.traces.published import Published, published, published_trace
from servesim.workload.registries import READERS

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, whole or from a byte on, and can break off or ignore ranges."""

    asked: ClassVar[list[str | None]] = []
    ranges = True
    most = len(CONTENT)

    def do_GET(self) -> None:
        """Answer."""
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if self.path != "/trace.csv":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : max(start, self.most)])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of a running server."""
    monkeypatch.setattr(Handler, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def trace(server: str, **changes: object) -> Published:
    """Return a published trace on the server."""
    facts = {
        "url": f"{server}/trace.csv",
        "bytes": len(CONTENT),
        "sha256": DIGEST,
        "licence": "x",
        "description": "x",
    }
    return Published.model_validate(facts | changes)


def test_a_download_is_whole_and_checked(server: str, tmp_path: Path):
    """In a folder that was not there; progress ends at the size."""
    told: list[tuple[int, int | None]] = []
    path, downloaded = fetch(trace(server), tmp_path / "new", on_bytes=lambda *each: told.append(each))
    assert downloaded
    assert path == tmp_path / "new" / "trace.csv"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [each.name for each in path.parent.iterdir()] == ["trace.csv"]


def test_what_is_there_is_not_downloaded_again(server: str, tmp_path: Path):
    """It is checked instead, and never touched."""
    fetch(trace(server), tmp_path)
    assert fetch(trace(server), tmp_path) == (tmp_path / "trace.csv", False)
    assert Handler.asked == [None]
    (tmp_path / "trace.csv").write_bytes(b"mine")
    with pytest.raises(ServesimError, match=r"not the file that was published \(got 4 bytes\)"):
        fetch(trace(server), tmp_path)
    assert (tmp_path / "trace.csv").read_bytes() == b"mine"


def test_an_interrupted_download_goes_on(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A connection that breaks leaves a part; the rest is asked for by its first byte."""
    with monkeypatch.context() as patch:
        patch.setattr(Handler, "most", 300_000)
        with pytest.raises(ServesimError, match="cannot be reached"):
            fetch(trace(server), tmp_path)
    assert not (tmp_path / "trace.csv").exists()
    have = (tmp_path / "trace.csv.part").stat().st_size
    assert 0 < have <= 300_000
    fetch(trace(server), tmp_path)
    assert (tmp_path / "trace.csv").read_bytes() == CONTENT
    assert Handler.asked == [None, f"bytes={have}-"]


def test_a_server_without_ranges_starts_anew(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The part is overwritten, not appended to."""
    (tmp_path / "trace.csv.part").write_bytes(CONTENT[:1000])
    monkeypatch.setattr(Handler, "ranges", False)
    fetch(trace(server), tmp_path)
    assert (tmp_path / "trace.csv").read_bytes() == CONTENT


def test_a_complete_part_only_needs_its_name(server: str, tmp_path: Path):
    """The last piece had arrived; with an unknown size the server says that nothing is left."""
    for facts in ({}, {"bytes": None}):
        (tmp_path / "trace.csv").unlink(missing_ok=True)
        (tmp_path / "trace.csv.part").write_bytes(CONTENT)
        fetch(trace(server, **facts), tmp_path)
        assert (tmp_path / "trace.csv").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"sha256": "0" * 64}, f"got sha256 {DIGEST}"), ({"bytes": 1 << 30}, "the connection|not the file")],
)
def test_another_file_than_published_is_refused(
    server: str, tmp_path: Path, facts: dict[str, object], message: str
):
    """And does not get its name."""
    with pytest.raises(ServesimError, match=message):
        fetch(trace(server, **facts), tmp_path)
    assert not (tmp_path / "trace.csv").exists()


def test_a_wrong_download_does_not_stay_in_the_way(server: str, tmp_path: Path):
    """Otherwise every further try would find it complete and wrong."""
    (tmp_path / "trace.csv.part").write_bytes(b"?" * len(CONTENT))
    with pytest.raises(ServesimError, match="what was downloaded is removed"):
        fetch(trace(server), tmp_path)
    fetch(trace(server), tmp_path)
    assert (tmp_path / "trace.csv").read_bytes() == CONTENT


def test_without_a_known_checksum_one_is_asked_for(server: str, tmp_path: Path):
    """Given, it is checked; unchecked is a word that must be said."""
    unknown = trace(server, sha256=None, bytes=None)
    with pytest.raises(ServesimError, match="no checksum is known"):
        fetch(unknown, tmp_path)
    assert Handler.asked == []
    fetch(unknown, tmp_path / "a", sha256=DIGEST)
    fetch(unknown, tmp_path / "b", sha256=UNCHECKED)
    with pytest.raises(ServesimError, match="another checksum is known"):
        fetch(trace(server), tmp_path, sha256="1" * 64)


def test_without_a_connection_it_says_what_to_do(tmp_path: Path):
    """Where to download, where to put it, and that the command then checks it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServesimError, match="cannot be reached") as caught:
        fetch(trace(nobody), tmp_path)
    assert f"download {nobody}/trace.csv elsewhere, put it at {tmp_path / 'trace.csv'}" in str(caught.value)


def test_a_file_that_the_server_does_not_have(server: str, tmp_path: Path):
    """The server's answer is told."""
    with pytest.raises(ServesimError, match="got 404"):
        fetch(trace(server), tmp_path, url=f"{server}/other.csv")


def test_a_mirror_is_asked_instead(server: str, tmp_path: Path):
    """The name stays that of the published file."""
    there = trace("https://published.invalid", url="https://published.invalid/x.csv")
    path, _ = fetch(there, tmp_path, url=f"{server}/trace.csv")
    assert path.name == "x.csv"


def test_published_traces_are_facts():
    """Names, https, whole checksums, where they are from; readers that exist."""
    known = published()
    assert len(known) == len({each.url for each in known.values()})
    for name, each in known.items():
        assert re.fullmatch("[a-z0-9-]+", name)
        assert each.url.startswith("https://")
        assert (each.sha256 is None) == (each.pinned is None)
        assert each.reader is None or each.reader in READERS.builtin
    # As far as ../shared/traces/README.md quotes them.
    assert known["burstgpt-1"].bytes == 52_283_111
    assert str(known["burstgpt-1"].sha256).startswith("4bb37836")
    assert known["burstgpt-2-without-fails"].bytes == 142_376_815
    assert str(known["burstgpt-2-without-fails"].sha256).startswith("56193aa9")
    assert known["burstgpt-3"].bytes == 231_682_327
    assert str(known["burstgpt-3"].sha256).startswith("2299986a")
    with pytest.raises(ServesimError, match="unknown trace") as caught:
        published_trace("burstgpt3")
    assert "did you mean 'burstgpt-3'?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("azure-code-2023", "azure_llm/AzureLLMInferenceTrace_code.csv"),
        ("azure-conv-2023", "azure_llm/AzureLLMInferenceTrace_conv.csv"),
        ("mooncake-conversation", "mooncake/conversation_trace.jsonl"),
        ("ragpulse", "ragpulse/0_trace.jsonl"),
    ],
)
def test_pins_are_those_of_the_copies_that_are_here(name: str, file: str, shared):
    """Size and checksum of the file itself."""
    path = shared(f"traces/{file}")
    assert (path.stat().st_size, module.sha256_of(path)) == (
        published()[name].bytes,
        published()[name].sha256,
    )


def test_another_file_is_told_by_its_length(server: str, tmp_path: Path):
    """Nothing of it is kept, so that the next download is whole."""
    with pytest.raises(ServesimError, match=r"not the file that was published \(got 1,048,576 bytes\)"):
        fetch(trace(server, bytes=len(CONTENT) + 1), tmp_path)
    assert not list(tmp_path.iterdir())
    assert fetch(trace(server), tmp_path)[1]


@pytest.mark.parametrize("url", ["notaurl", "file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_only_web_addresses_are_taken(url: str, server: str, tmp_path: Path):
    """Files of this machine are none."""
    with pytest.raises(ServesimError, match=r"--url: no web address"):
        fetch(trace(server), tmp_path, url=url)


def test_a_checksum_is_looked_at_before_the_download(server: str, tmp_path: Path):
    """Capital letters are fine; what cannot be a checksum costs no download."""
    unknown = trace(server, sha256=None)
    with pytest.raises(ServesimError, match=r"--sha256: no checksum \(got 'abc'\)"):
        fetch(unknown, tmp_path, sha256="abc")
    assert not Handler.asked
    assert fetch(unknown, tmp_path, sha256=DIGEST.upper())[1]

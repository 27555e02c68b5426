"""Tests of what a result says of its input files."""

from __future__ import annotations

import os
from pathlib import Path

from servesim.results import provenance
from servesim.results.provenance import input_facts

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""SHA-256 of the three letters abc, the first example of FIPS 180-4."""


def test_a_file_is_told_by_name_size_and_digest(tmp_path: Path):
    """The folder is not part of it: a copy elsewhere is the same file."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text("abc")
        assert input_facts([(("workload", "sources", 0, "path"), tmp_path / folder / "t.csv")]) == [
            {"key": "workload.sources.0.path", "name": "t.csv", "size_bytes": 3, "sha256": ABC}
        ]


def test_a_very_large_file_is_told_by_its_size(tmp_path: Path, monkeypatch):
    """One byte over the limit is not read; at the limit it is."""
    (tmp_path / "t.csv").write_text("abc")
    files = [(("key",), tmp_path / "t.csv")]
    monkeypatch.setattr(provenance, "HASHED_BYTES_MAX", 3)
    assert input_facts(files)[0]["sha256"] == ABC
    monkeypatch.setattr(provenance, "HASHED_BYTES_MAX", 2)
    assert input_facts(files) == [{"key": "key", "name": "t.csv", "size_bytes": 3, "sha256": None}]


def test_what_is_no_file_is_not_read(tmp_path: Path):
    """A pipe would lose to the digest what the run has to read, and nothing is at the third path."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    facts = input_facts([(("key",), tmp_path / name) for name in ("pipe", "folder", "nothing")])
    assert [fact["name"] for fact in facts] == ["pipe", "folder", "nothing"]
    assert {(fact["size_bytes"], fact["sha256"]) for fact in facts} == {(None, None)}

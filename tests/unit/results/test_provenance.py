"""Tests of what a result says of its input files and the code of its plugins."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from servesim.policies.routers import RoundRobin
from servesim.results import provenance
from servesim.results.provenance import code_facts, input_facts

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


def test_the_code_of_a_plugin_is_a_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a module its file; of a class that derives from it both files. What comes with servesim has a version."""
    (tmp_path / "plain_mine.py").write_text("class Mine: ...\n")
    (tmp_path / "derived_mine.py").write_text("import plain_mine\nclass Derived(plain_mine.Mine): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    mine, derived = import_module("plain_mine").Mine, import_module("derived_mine").Derived
    digest = hashlib.sha256(b"class Mine: ...\n").hexdigest()
    fact = {"name": "plain_mine.py", "size_bytes": 16, "sha256": digest}
    assert code_facts([(("policies", "router"), mine)]) == [{"key": "policies.router", **fact}]
    assert [told["name"] for told in code_facts([(("x",), derived)])] == ["derived_mine.py", "plain_mine.py"]
    assert code_facts([(("x",), RoundRobin), (("y",), int)]) == []


def test_the_code_of_a_package_is_one_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All its Python files count, wherever the class is in it; it is told as it was when it was first asked for."""
    package = tmp_path / "package_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "routers.py").write_text("class Mine: ...\n")
    (package / "notes.txt").write_text("no code")
    monkeypatch.syspath_prepend(str(tmp_path))
    place = ("policies", "router")
    before = code_facts([(place, import_module("package_mine.routers").Mine)])
    assert [(fact["name"], fact["size_bytes"]) for fact in before] == [("package_mine", 16)]
    (package / "lengths.py").write_text("MEAN = 3\n")
    assert code_facts([(place, sys.modules["package_mine.routers"].Mine)]) == before
    again = importlib.reload(sys.modules["package_mine.routers"]).Mine
    (after,) = code_facts([(place, again)])
    assert after["size_bytes"] == 16 + 9 and after["sha256"] != before[0]["sha256"]


def test_classes_of_a_script_are_left_out(monkeypatch: pytest.MonkeyPatch):
    """In a notebook there is no file, and in a worker process another one."""
    mine = type("Mine", (), {"__module__": "__main__"})
    assert code_facts([(("router",), mine)]) == []

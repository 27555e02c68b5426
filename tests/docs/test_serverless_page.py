"""docs/model/serverless.md: its code runs from the repository's root."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest


def test_code_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands; it prints a table and the notes."""
    page = (root / "docs" / "model" / "serverless.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "page.py"
    path.write_text(code, encoding="utf-8")
    monkeypatch.chdir(root)
    log = runpy.run_path(str(path))["log"]
    assert log.functions.collect().height == 500

"""docs/how-to/see-a-timeline.md and export-to-vllm-bench.md: what they tell to type works, what they name is there."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from servesim.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    name: (ROOT / "docs" / "how-to" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("see-a-timeline", "export-to-vllm-bench")
}


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Work in a folder that looks like the repository to a scenario, and may be written to."""
    for name in ("scenarios", "traces"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_commands_work(page, workplace, capsys):
    """Each command of the first block ends with success and writes its file."""
    for line in blocks(page, "bash")[0].splitlines():
        words = shlex.split(line)
        assert words[0] == "servesim"
        assert main(words[1:]) == 0
    capsys.readouterr()
    assert (workplace / words[words.index("-o") + 1]).stat().st_size > 1000


def test_the_code_of_the_timeline_page_runs(workplace):
    """From Python, a timeline is written as from the command line."""
    path = workplace / "page.py"
    path.write_text(blocks("see-a-timeline", "python")[0], encoding="utf-8")
    runpy.run_path(str(path))
    assert (workplace / "trace.json.gz").exists()


def test_the_keys_of_the_export_page_exist(workplace, capsys):
    """Every key that the table explains is in the file."""
    assert (
        main(
            [
                "run",
                "scenarios/quickstart.yaml",
                "--set",
                "workload.max_requests=20",
                "--out",
                "run",
                "--quiet",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["export", "run", "--format", "vllm-bench", "--detailed"]) == 0
    values = json.loads(capsys.readouterr().out)
    rows = re.findall(r"^\| (`.*?) \|", PAGES["export-to-vllm-bench"], re.MULTILINE)
    keys = [key for row in rows for key in re.findall(r"`(\w+)(?:\.\.\.)?`", row)]
    assert len(keys) > 15
    assert [key for key in keys if not any(name.startswith(key) for name in values)] == []

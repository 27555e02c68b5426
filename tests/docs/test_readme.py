"""README.md and docs/: what they tell to type works, what they quote is printed, links resolve."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from servesim import catalog

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
QUOTED = {"compare": 1, "capacity": 2}
"""Which of the README's text blocks quotes the table that a command prints."""


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in *language*."""
    return [code for name, code in FENCE.findall(README) if name == language]


def setup_commands() -> list[str]:
    """Return the one-line commands of the first screen."""
    return [block.strip() for block in blocks("bash") if block.startswith(INSTALL)]


def servesim_commands() -> list[list[str]]:
    """Return the commands of each bash block that starts servesim."""
    found = [
        [line.rpartition(" && ")[2].removeprefix(".venv/bin/") for line in block.splitlines()]
        for block in blocks("bash")
    ]
    return [commands for commands in found if "scripts/test" not in commands[0]]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Return a folder that looks like the repository to a scenario, and may be written to."""
    for name in ("scenarios", "traces"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in *cwd* with the repository's servesim, and return what it printed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )


def without_host_facts(text: str) -> list[str]:
    """Return the lines of a summary without the wall time and memory in its first line."""
    return re.sub(r"^(\S+)  \(.*\)$", r"\1", text.strip(), count=1, flags=re.MULTILINE).splitlines()


def test_first_screen_has_the_two_commands() -> None:
    """The first 25 lines hold two commands of one line: run the quickstart, and pass the tests."""
    screen = "\n".join(README.splitlines()[:25])
    first, second = setup_commands()
    assert first in screen and second in screen
    assert first == f"{INSTALL} . && .venv/bin/servesim run scenarios/quickstart.yaml"
    assert second == f"{INSTALL} -e '.[dev]' && .venv/bin/python scripts/test"


def test_ci_runs_the_test_command() -> None:
    """.ci/run holds the README's test command literally, and both scripts can be executed."""
    assert setup_commands()[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert os.access(ROOT / "scripts" / "test", os.X_OK)


@pytest.mark.parametrize("commands", servesim_commands(), ids=lambda commands: commands[0])
def test_commands_run(commands: list[str], workplace: Path) -> None:
    """The servesim commands of each block of the README succeed, one after the other, and print what it quotes."""
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "servesim"
        done = python("-m", "servesim", *arguments, cwd=workplace)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() or "-o" in arguments
        if arguments[0] in QUOTED:
            assert blocks("text")[QUOTED[arguments[0]]].strip() in done.stdout


@pytest.mark.parametrize("name", QUOTED)
def test_quoted_tables_have_one_command(name: str) -> None:
    """So that the table above is known to be compared, and with its own command."""
    assert [block[0].split()[1] for block in servesim_commands()].count(name) == 1


def test_quoted_output_is_what_the_quickstart_prints() -> None:
    """The README quotes the quickstart's present output (else: python scripts/quote_quickstart.py)."""
    quoted, *_ = blocks("text")
    printed = python("-m", "servesim", "run", "scenarios/quickstart.yaml", cwd=ROOT).stdout
    assert without_host_facts(quoted) == without_host_facts(printed)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block_runs(code: str, workplace: Path) -> None:
    """Every Python block of the README runs and prints numbers."""
    done = python("-W", "error", "-c", code, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert all(float(word) > 0 for word in done.stdout.split())
    assert done.stdout.split()


def links(page: Path) -> list[str]:
    """Return the links of *page* that point into the repository."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors that headings of *page* have on code hosts: lower case, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    """Every relative link of a page leads to a file of the repository, and every anchor to a heading."""
    for target in links(page):
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(found), target


def test_every_page_is_in_the_index() -> None:
    """docs/index.md links to every other page below docs/."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    pages = {page for page in PAGES if page.is_relative_to(index.parent)} - {index}
    assert pages - linked == set()


def test_catalog_is_as_large_as_told() -> None:
    """The README's numbers of GPUs and model architectures are those of the catalog."""
    assert f"{len(catalog.gpu_names())} GPUs and {len(catalog.model_names())} model architectures" in README

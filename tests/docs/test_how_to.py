"""docs/how-to: the code on the pages runs, and what they promise is so."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import servesim
from servesim.policies import ROUTERS
from servesim.policies.api import ReplicaView, RequestView
from servesim.results.plots import Plots
from servesim.workload import registries

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "write-a-router.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    """Return the page's code blocks in *language*."""
    return [code for name, code in FENCE.findall(PAGE) if name == language]


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory: pytest.TempPathFactory):
    """Save the blocks that the page says to save, and make them importable for the tests of this file."""
    folder = tmp_path_factory.mktemp("pages")
    names = re.findall(r"[Ss]ave (?:it|this) as `(\w+\.py)`", PAGE)
    classes = [block for block in blocks("python") if "class " in block]
    assert len(names) == len(classes) == 2
    for name, code in zip(names, classes, strict=True):
        (folder / name).write_text(code, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(ROOT)
        yield folder


@pytest.mark.parametrize("index", range(len([b for b in blocks("python") if "class " not in b])))
def test_code_runs(index, tmp_path):
    """The blocks that use the classes run from the repository's root, assertions and checks included."""
    code = [block for block in blocks("python") if "class " not in block][index]
    path = tmp_path / "page.py"
    path.write_text(code, encoding="utf-8")
    runpy.run_path(str(path))


def test_the_router_has_ten_lines():
    """As the page's first paragraph makes one expect: not counting blank ones."""
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 10


def test_the_router_runs_and_differs_from_the_default():
    """It serves every request, and decides otherwise than round robin."""
    from most_room import MostRoom

    options = {"overrides": ["workload.max_requests=300"]}
    mine = servesim.run("scenarios/quickstart.yaml", router=MostRoom(), **options)
    default = servesim.run("scenarios/quickstart.yaml", **options)
    assert mine.summary["requests_completed"] == 300
    assert mine.requests["replica"].to_list() != default.requests["replica"].to_list()


@pytest.fixture
def command(modules, tmp_path):
    """Return the command line as a function; a package with the page's entry points is installed there."""
    package = tmp_path / "best_of-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: best-of\nVersion: 1.0\n")
    declared = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
    (package / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
            for group, named in declared.items()
        )
    )
    path = os.pathsep.join(map(str, (ROOT, modules, tmp_path)))

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "servesim", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_an_entry_point_gives_it_a_name(command, tmp_path):
    """`servesim plugins` lists it, a scenario can name it, and a wrong parameter is refused at its line."""
    listed = command("plugins")
    assert listed.returncode == 0
    assert "best_of" in listed.stdout
    quickstart = (ROOT / "scenarios" / "quickstart.yaml").read_text(encoding="utf-8")
    assert "  router: {name: round_robin}\n" in quickstart
    named = quickstart.replace("  router: {name: round_robin}\n", blocks("yaml")[0].splitlines()[1] + "\n")
    path = tmp_path / "scenario.yaml"
    path.write_text(named.replace("../traces", str(ROOT / "traces")), encoding="utf-8")
    done = command("run", str(path), "--set", "workload.max_requests=50", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["requests_completed"] == 50
    path.write_text(path.read_text().replace("choices: 2", "choises: 2"), encoding="utf-8")
    refused = command("validate", str(path))
    assert refused.returncode == 2
    assert re.search(r"scenario\.yaml:\d+:\d+: policies\.router\.choises", refused.stderr)
    assert "did you mean 'choices'?" in refused.stderr


def test_reports_from_python(tmp_path, monkeypatch):
    """The block of the page on reports writes the files that it names, and the page lists every figure."""
    page = (ROOT / "docs" / "how-to" / "read-a-report.md").read_text(encoding="utf-8")
    (code,) = [code for name, code in FENCE.findall(page) if name == "python"]
    for folder in ("scenarios", "traces"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    runpy.run_path("page.py")
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "latency.svg").is_file()
    figures = [name for name in vars(Plots) if not name.startswith("_")]
    assert [name for name in figures if f"`{name}`" not in page] == []


def test_what_it_says_a_router_sees_is_what_there_is():
    """Every property of the views is on the page, and the groups of entry points are the registries' own."""
    for view in (RequestView, ReplicaView):
        properties = [name for name, value in vars(view).items() if isinstance(value, property)]
        assert properties
        assert [name for name in properties if f"`{name}`" not in PAGE] == []
    for kind in (ROUTERS, registries.READERS, registries.GENERATORS):
        assert kind.group in PAGE


def test_the_page_on_capacity_runs(tmp_path, monkeypatch):
    """Its Python block, from the repository's root; what its last line shows is there."""
    page = (ROOT / "docs" / "how-to" / "find-capacity.md").read_text(encoding="utf-8")
    (code,) = [code for name, code in FENCE.findall(page) if name == "python"]
    path = tmp_path / "page.py"
    path.write_text(code, encoding="utf-8")
    monkeypatch.chdir(ROOT)
    found = runpy.run_path(str(path))["found"]
    assert found.unit == "requests/s" and found.value > 0

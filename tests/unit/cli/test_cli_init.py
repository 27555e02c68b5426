"""``servesim init``: the project passes at once, is in good style, and overwrites nothing."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from servesim.cli.init import COMMANDS, FILES, project_files
from servesim.plugin_folders import with_plugin_folders
from servesim.scenario import load_scenario
from servesim.scenario.document import read_document


@pytest.fixture
def project(servesim_main, tmp_path):
    """Return the folder of a new project."""
    folder = tmp_path / "my-policy"
    code, _, err = servesim_main("init", folder)
    assert (code, err) == (0, "")
    return folder


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in *cwd*."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_what_it_tells_to_type_passes(project, command):
    """Each command in a process of its own, in the folder, with nothing installed but servesim and pytest."""
    done = python(*shlex.split(command), cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout
    if " check " in command:
        assert done.stdout.endswith("3 passed: passed\n")


def test_the_gate_closes_when_the_router_gets_worse(project):
    """A router that piles everything up fails the tests, with the table of its check."""
    path = project / "least_work.py"
    path.write_text(path.read_text().replace("min(work)", "max(work)"))
    path = project / "scenario.yaml"
    text = path.read_text()
    assert "requests: 7200 " in text
    path.write_text(text.replace("requests: 7200 ", "requests: 1800 "))  # a minute shows it
    tested = python("pytest", "-q", cwd=project)
    assert tested.returncode == 1
    assert "it serves within the SLO" in tested.stdout


def test_it_prints_what_it_made_and_what_to_type(servesim_main, tmp_path, monkeypatch):
    """Every file, and the commands, which the README of the project repeats; no `cd` into where one is."""
    code, out, _ = servesim_main("init", tmp_path / "a b")
    assert code == 0
    made = [path.relative_to(tmp_path / "a b").as_posix() for path in (tmp_path / "a b").rglob("*")]
    assert {name for name in made if name in FILES} == set(FILES)
    assert all(f"\n  {name} " in out for name in FILES)
    assert out.endswith(f"next:\n  cd '{tmp_path}/a b'\n" + "".join(f"  {line}\n" for line in COMMANDS))
    assert "\n".join(COMMANDS) in (tmp_path / "a b" / "README.md").read_text()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, out, _ = servesim_main("init", ".")
    assert code == 0 and "cd " not in out


def test_the_same_files_every_time(servesim_main, tmp_path):
    """Byte by byte; only the name of the folder is in them, as one that a distribution may have."""
    for place in ("one", "two"):
        assert servesim_main("init", tmp_path / place / "My Router (v2)")[0] == 0
    one, two = (tmp_path / place / "My Router (v2)" for place in ("one", "two"))
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert 'name = "my-router-v2"' in (one / "pyproject.toml").read_text()
    assert not any("PROJECT_NAME" in text for text in project_files("x").values())


def test_nothing_is_overwritten(project, servesim_main):
    """A second time is refused, and so is any file in the way; what is there stays as it is."""
    (project / "least_work.py").write_text("mine")
    code, out, err = servesim_main("init", project)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {project}: not empty (got scenario.yaml, least_work.py, ")
    assert (project / "least_work.py").read_text() == "mine"


def test_a_single_file_in_the_way_leaves_the_folder_as_it_is(servesim_main, tmp_path):
    """Nothing is half written; a file where the folder should be is told."""
    (tmp_path / "checks").mkdir()
    code, _, err = servesim_main("init", tmp_path)
    assert code == 2 and "not empty (got checks)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["checks"]
    (tmp_path / "file").write_text("")
    code, _, err = servesim_main("init", tmp_path / "file")
    assert code == 2 and f"error: {tmp_path / 'file'}: not a folder" in err


def test_a_folder_with_other_things_is_taken(servesim_main, tmp_path):
    """A new repository with a virtual environment is where many begin."""
    for name in (".git", ".venv"):
        (tmp_path / name).mkdir()
    assert servesim_main("init", tmp_path)[0] == 0
    tops = {Path(name).parts[0] for name in FILES}
    assert {path.name for path in tmp_path.iterdir()} == {".git", ".venv", *tops}


def test_a_folder_that_cannot_be_written(servesim_main, tmp_path):
    """One line with the reason, and exit code 2."""
    (tmp_path / "file").write_text("")
    code, _, err = servesim_main("init", tmp_path / "file" / "below")
    assert code == 2
    assert err.startswith(f"error: {tmp_path}/file/below: cannot be written (")


def test_the_scenario_is_what_editors_expect(project, servesim_main):
    """It validates against the schema that knows the folder's plugins, and names every key once."""
    code, out, _ = servesim_main("--plugins", project, "schema")
    assert code == 0
    schema = json.loads(out)
    assert "router.least_work" in schema["$defs"]
    data = json.loads(json.dumps(read_document(project / "scenario.yaml").data))
    jsonschema.validate(data, schema)
    with with_plugin_folders([project]):
        assert load_scenario(project / "scenario.yaml").policies.router.parameters == {"waiting_weight": 4.0}


def test_the_workflow_types_what_the_readme_does(project):
    """It is YAML, and runs the tests and the check."""
    steps = read_document(project / ".github" / "workflows" / "servesim.yml").data["jobs"]["check"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands[0].startswith("pip install servesim") and commands[1] == "pytest"
    assert commands[2].startswith("servesim --plugins . check checks/*.yaml --junit check.xml --markdown ")


def test_the_how_to_page_tells_the_same(root):
    """Every file and command, in the same words."""
    page = (root / "docs" / "how-to" / "start-a-project.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in FILES)
    assert "cd my-policy\n" + "\n".join(COMMANDS) in page


def test_the_code_is_in_good_style(project, root):
    """Ruff and mypy have nothing to say, under servesim's own rules."""
    rules = str(root / "pyproject.toml")
    for command in (
        ["ruff", "check", "--no-cache", "--config", rules, "."],
        ["ruff", "format", "--no-cache", "--check", "--config", rules, "."],
        ["mypy", "--strict", "--no-error-summary", "--cache-dir", str(root / ".mypy_cache"), "."],
    ):
        done = python(*command, cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr

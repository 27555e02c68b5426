"""Plugins of folders that are not installed: how they are found, what can be wrong, and that all processes see them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import servesim
from servesim import registry
from servesim.cli import main
from servesim.errors import PluginError, ScenarioError, ServesimError
from servesim.experiments.backends import Processes
from servesim.plugin_folders import GROUPS, VARIABLE, folder_plugins, plugin_folders, with_plugin_folders
from servesim.policies import ROUTERS
from servesim.scenario.slots import REGISTRIES

SCENARIO = """
name: small
workload:
  generator: {name: poisson, rate_per_s: 20, requests: 30,
    prompt_tokens: {distribution: constant, value: 100}, output_tokens: {distribution: constant, value: 5}}
cluster:
  pools: [{name: main, model: llama-3.1-8b, gpu: h100-sxm, replicas: 3,
           latency: {name: constant, step_s: 0.01}}]
policies: {router: %s}
"""
ROUTER = '''
class Always:
    """Send every request to one replica."""

    def __init__(self, *, position: int = 1) -> None:
        self.position = position

    def reset(self, context):
        """Keep no state."""

    def route(self, request, replicas):
        """Return the position."""
        return self.position
'''


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is named, and what is put on the path leaves it after the test."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a folder with a router; modules have names of their own in each test."""

    def make(
        name: str, module: str, *, code: str = ROUTER, root: str = ".", point: str | None = None
    ) -> Path:
        path = tmp_path / name
        (path / root).mkdir(parents=True)
        (path / root / f"{module}.py").write_text(code, encoding="utf-8")
        (path / "pyproject.toml").write_text(
            f'[project.entry-points."servesim.routers"]\n{point or module} = "{module}:Always"\n'
        )
        return path

    return make


def write_scenario(path: Path, router: str) -> Path:
    path.write_text(SCENARIO % router, encoding="utf-8")
    return path


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "servesim", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_declared_plugin_has_a_name(folder: Callable[..., Path]) -> None:
    """It is listed, resolves to its class, and tells the folder that it is from; afterwards it is unknown again."""
    path = folder("mine", "always_named")
    with with_plugin_folders([path]):
        assert ROUTERS.names()[-1] == "always_named"
        assert ROUTERS.resolve("always_named").__name__ == "Always"
        assert ROUTERS.provider("always_named").origin == str(path)
        assert ROUTERS.build("always_named", {"position": 2}).position == 2
    assert VARIABLE not in os.environ
    with pytest.raises(PluginError, match="unknown router"):
        ROUTERS.resolve("always_named")


def test_a_module_may_lie_in_src(folder: Callable[..., Path]) -> None:
    """As in the layout that pip knows."""
    path = folder("mine", "always_in_src", root="src")
    with with_plugin_folders([path]):
        assert ROUTERS.resolve("always_in_src").__module__ == "always_in_src"
        assert sys.path[0] == str(path / "src")


def test_the_variable_lists_folders(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones start from the working directory, empty parts are none, each counts once; options come first."""
    first, second = folder("first", "always_first"), folder("second", "always_second")
    monkeypatch.chdir(first)
    monkeypatch.setenv(VARIABLE, os.pathsep.join(["../second", "", str(second)]))
    assert plugin_folders() == (second,)
    with with_plugin_folders([Path()]):
        assert plugin_folders() == (first, second)
        assert [plugin.name for plugin in folder_plugins()] == ["always_first", "always_second"]
    assert os.environ[VARIABLE] == os.pathsep.join(["../second", "", str(second)])


def test_a_scenario_cannot_name_a_folder(folder: Callable[..., Path]) -> None:
    """A scenario that lies beside a policy runs none of its code unless the user says so."""
    path = folder("theirs", "always_theirs", code="raise SystemExit('code of somebody else')")
    scenario = write_scenario(path / "scenario.yaml", "always_theirs")
    with pytest.raises(ScenarioError, match=r"unknown router \(got 'always_theirs'\)"):
        servesim.load_scenario(scenario)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (None, r"bad: no pyproject\.toml in it\. expected a table such as .*servesim\.routers"),
        ("[project\n", r"pyproject\.toml: not TOML \(.*line 1.*\)"),
        ("", r"pyproject\.toml: no plugins in it"),
        ('[project.entry-points]\n"servesim.routers" = 3', "no plugins in it"),
        ('[project.entry-points."other.group"]\na = "b:C"', "no plugins in it"),
        (
            '[project.entry-points."servesim.router"]\na = "b:C"',
            r"unknown kind of plugin \(got 'servesim\.router'\)\. expected one of .*\n  hint: .*'servesim\.routers'",
        ),
        (
            '[project.entry-points."servesim.routers"]\na = "module.py"',
            r"servesim\.routers: a: not a class of a module \(got 'module\.py'\)\. expected \"module:Class\"",
        ),
        ('[project.entry-points."servesim.routers"]\na = 1', r"a: not a class of a module \(got 1\)"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path, toml: str | None, message: str) -> None:
    """Before anything is imported, with the file and what is expected in it."""
    (tmp_path / "bad").mkdir()
    if toml is not None:
        (tmp_path / "bad" / "pyproject.toml").write_text(toml)
    with pytest.raises(ServesimError, match=message), with_plugin_folders([tmp_path / "bad"]):
        pass
    assert VARIABLE not in os.environ


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """From the option as from the variable, one line and exit code 2; a path with a colon would name two."""
    scenario = write_scenario(tmp_path / "s.yaml", "round_robin")
    assert main(["--plugins", str(tmp_path / "nowhere"), "validate", str(scenario)]) == 2
    assert f"error: {tmp_path / 'nowhere'}: no such folder." in capsys.readouterr().err
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    assert main(["validate", str(scenario)]) == 2
    assert f"error: {tmp_path / 'gone'}: no such folder." in capsys.readouterr().err
    assert main(["--plugins", f"{tmp_path}/a:b", "validate", str(scenario)]) == 2
    assert "the path has a ':'. expected one without" in capsys.readouterr().err


def test_a_plugin_that_fails_to_import(folder: Callable[..., Path], tmp_path: Path) -> None:
    """The place in the scenario, the target and the reason are told."""
    path = folder("mine", "always_broken", code="import a_library_that_is_not_installed\n")
    scenario = write_scenario(tmp_path / "s.yaml", "{name: always_broken}")
    with with_plugin_folders([path]), pytest.raises(ScenarioError) as caught:
        servesim.load_scenario(scenario)
    assert "policies.router.name: router 'always_broken' (always_broken:Always) failed to import: " in str(
        caught.value
    )
    assert "No module named 'a_library_that_is_not_installed'" in str(caught.value)


def test_a_folder_that_is_installed_too_counts_once(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same target twice is one provider; another target of the name is a second one, a built-in's, too."""
    path = folder("mine", "always_twice")
    point = EntryPoint("always_twice", "always_twice:Always", "servesim.routers")
    with with_plugin_folders([path]):
        monkeypatch.setattr(registry, "_installed", lambda: (point,))
        assert ROUTERS.names().count("always_twice") == 1
        assert ROUTERS.provider("always_twice").origin == str(path)
        other = EntryPoint("always_twice", "pathlib:Path", "servesim.routers")
        monkeypatch.setattr(registry, "_installed", lambda: (other,))
        with pytest.raises(
            PluginError, match=r"2 providers: always_twice:Always \(.*mine\), pathlib:Path \("
        ):
            ROUTERS.resolve("always_twice")
    taken = folder("taken", "always_taken", point="round_robin")
    with with_plugin_folders([taken]), pytest.raises(PluginError, match=r"2 providers: .* \(built-in\), "):
        ROUTERS.resolve("round_robin")


def test_a_module_of_another_folder_is_not_taken_for_it(folder: Callable[..., Path]) -> None:
    """Python loads one module of a name; which one it was must not be left to chance."""
    first, second = folder("first", "always_same"), folder("second", "always_same", point="other")
    with with_plugin_folders([first]):
        ROUTERS.resolve("always_same")
    with (
        with_plugin_folders([second]),
        pytest.raises(PluginError, match=r"another module has its name \(got .*first.always_same\.py\)"),
    ):
        ROUTERS.resolve("other")


def test_groups_are_those_of_the_registries() -> None:
    """A new kind of plugin is known to folders, too."""
    assert tuple(each.group for each in REGISTRIES) == GROUPS


def test_the_command_line_uses_a_folder(
    folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For this command only; `servesim plugins` tells where a plugin is from."""
    path = folder("mine", "always_cli")
    scenario = write_scenario(tmp_path / "s.yaml", "{name: always_cli, position: 2}")
    assert main(["--plugins", str(path), "validate", str(scenario)]) == 0
    assert main(["--plugins", str(path), "plugins"]) == 0
    assert f"always_cli        Send every request to one replica. [{path}]" in capsys.readouterr().out
    assert main(["validate", str(scenario)]) == 2
    hint = "plugins of a folder need --plugins DIR before the command"
    assert hint in capsys.readouterr().err


def test_workers_use_the_folders(folder: Callable[..., Path], tmp_path: Path) -> None:
    """Also when they were started before for something else; each folder gets workers of its own."""
    assert dict(Processes(2).run(abs, [-1, -2])) == {0: 1, 1: 2}
    for name, position in (("one", 1), ("two", 2)):
        path = folder(name, f"always_worker_{name}", code=ROUTER.replace("int = 1", f"int = {position}"))
        scenario = write_scenario(tmp_path / f"{name}.yaml", f"always_worker_{name}")
        with with_plugin_folders([path]):
            found = servesim.compare(
                scenario,
                vary={"policies.router": [f"always_worker_{name}", "round_robin"]},
                seeds=3,
                workers=2,
            )
        assert found.variants == [f"always_worker_{name}", "round_robin"]
    assert dict(Processes(2).run(abs, [-1, -2])) == {0: 1, 1: 2}


def test_a_sweep_computes_anew_when_the_code_of_a_plugin_changes(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Its old rows are other numbers under the same scenario; unchanged code reuses them."""
    path = folder("mine", "always_swept")
    write_scenario(tmp_path / "s.yaml", "{name: always_swept, position: 0}")
    (tmp_path / "sweep.yaml").write_text("scenario: s.yaml\npoints: [{workload.rate_scale: 50}]\n")
    command = ["--plugins", path, "sweep", tmp_path / "sweep.yaml", "--out", tmp_path / "o.parquet", "--json"]
    numbers, reused = [], []
    for code in (ROUTER, ROUTER, ROUTER.replace("return self.position", "return request.request_id % 3")):
        (path / "always_swept.py").write_text(code)
        done = run(*command)
        assert done.returncode == 0, done.stderr
        numbers.append(pl.read_parquet(tmp_path / "o.parquet")["queue_s_mean"][0])
        reused.append('"reused": 1' in done.stdout)
    assert reused == [False, True, False]
    assert numbers[0] == numbers[1] != numbers[2]


def test_pytest_has_a_setting(folder: Callable[..., Path], tmp_path: Path) -> None:
    """Tests may name what the folders declare; a folder that cannot be used is an error of usage."""
    path = folder("mine", "always_tested")
    (path / "test_it.py").write_text(
        "from servesim.policies import ROUTERS\n\n\ndef test_it():\n    assert ROUTERS.resolve('always_tested')\n"
    )
    declared = (path / "pyproject.toml").read_text()

    def tests(setting: str) -> subprocess.CompletedProcess[str]:
        (path / "pyproject.toml").write_text(
            f"{declared}[tool.pytest.ini_options]\nservesim_plugins = {setting}\n"
        )
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert "1 passed" in tests('["."]').stdout
    refused = tests('["nowhere"]')
    assert refused.returncode == 4
    assert f"ERROR: servesim_plugins: {path / 'nowhere'}: no such folder" in refused.stderr

"""The commands besides ``run``, and how fast the program starts."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import jsonschema
import pytest
from ruamel.yaml import YAML

import servesim.registry
from servesim import __version__
from servesim.cli.reference import cli_page
from servesim.scenario.slots import REGISTRIES

HEAVY = ("polars", "numpy", "pydantic", "matplotlib", "pandas", "pyarrow", "simpy", "ruamel.yaml")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_starting_imports_nothing_heavy(root, option):
    """The version and the help come at once, because no big library is imported for them."""
    code = (
        "import sys; from servesim.cli import main; code = main([sys.argv[1]]); "
        f"print(*[m for m in {HEAVY} if m in sys.modules], code, sep=',')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, option], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "0"
    assert run.stdout.startswith(f"servesim {__version__}\n" if option == "--version" else "Usage: servesim")


def test_python_dash_m_is_the_command_line(root):
    """`python -m servesim` does what `servesim` does, exit code included."""
    command = [sys.executable, "-m", "servesim"]
    run = subprocess.run([*command, "--version"], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == f"servesim {__version__}\n"
    assert subprocess.run([*command, "rum"], cwd=root, capture_output=True, check=False).returncode == 2


def test_validate_accepts_and_counts(servesim_main, scenario):
    """A good scenario is told by one line."""
    code, out, err = servesim_main("validate", scenario, "--set", "cluster.pools.main.replicas=3")
    assert (code, err) == (0, "")
    assert out.startswith(f"{scenario}: ok, 3 replicas on 3 GPUs, scenario ")


def test_validate_finds_mistakes_and_missing_traces(servesim_main, scenario):
    """What is wrong is named as for a run; a trace that is not there is named by its key."""
    code, out, err = servesim_main("validate", scenario, "--set", "seed=x")
    assert (code, out) == (2, "")
    assert err.startswith("error: --set seed=x: seed: not a whole number (got 'x').")
    trace = "workload={source: {reader: azure, path: gone.csv}}"
    code, _, err = servesim_main("validate", scenario, "--set", trace)
    assert code == 2
    gone = scenario.parent.resolve() / "gone.csv"
    assert err.startswith(f"error: --set {trace}: workload.source.path: no such file (got '{gone}')")


def test_validate_looks_into_merged_sources_and_tables(servesim_main, scenario):
    """Every file counts: traces of merged sources, and tables that lengths are drawn from."""
    lengths = "{distribution: empirical, file: lengths.csv}"
    generator = (
        f"{{name: constant, rate_per_s: 1, requests: 1, prompt_tokens: {lengths}, output_tokens: {lengths}}}"
    )
    sources = (
        f"workload={{sources: [{{source: {{reader: azure, path: a.csv}}}}, {{generator: {generator}}}]}}"
    )
    code, _, err = servesim_main("validate", scenario, "--set", sources)
    assert code == 2
    keys = [
        line.split(": no such file")[0].rsplit(": ")[-1] for line in err.splitlines() if "no such" in line
    ]
    assert keys == [
        "workload.sources.0.source.path",
        "workload.sources.1.generator.prompt_tokens.file",
        "workload.sources.1.generator.output_tokens.file",
    ]


def test_schema_prints_a_json_schema(servesim_main, root):
    """The printed schema accepts the quickstart."""
    code, out, err = servesim_main("schema")
    assert (code, err) == (0, "")
    data = YAML(typ="safe", pure=True).load(root / "scenarios" / "quickstart.yaml")
    jsonschema.validate(data, json.loads(out))


def test_plugins_lists_every_kind(servesim_main):
    """Text and JSON name every plugin with its parameters and defaults."""
    code, text, _ = servesim_main("plugins")
    assert code == 0
    code, out, _ = servesim_main("plugins", "--json")
    listing = json.loads(out)
    assert code == 0
    assert list(listing) == [
        *(registry.kind for registry in REGISTRIES),
        "length distribution",
        "time distribution",
    ]
    assert "length distributions\n  constant " in text and "  low: int, required\n" in text
    for registry in REGISTRIES:
        assert [entry["name"] for entry in listing[registry.kind]] == registry.names()
        assert f"{registry.kind}s\n" in text
    step = next(e for e in listing["latency model"] if e["name"] == "constant")["parameters"][0]
    assert (step["name"], step["required"], step["type"]) == ("step_s", True, "float")
    assert "  sjf " in text and "predictor: length predictor, required" in text
    assert "sigma: float = 0.5" in text


def test_a_broken_plugin_is_listed_with_its_error(servesim_main, monkeypatch):
    """One plugin that does not import leaves the others listed."""
    monkeypatch.setitem(REGISTRIES[0].builtin, "broken", "no.such.module:Thing")
    code, text, _ = servesim_main("plugins")
    assert code == 0
    assert "error: trace reader 'broken' (no.such.module:Thing) failed to import: ModuleNotFound" in text
    assert "round_robin" in text


def test_broken_entry_points_leave_the_others_usable(servesim_main, monkeypatch):
    """What does not import, is no class, or takes a taken name is left out of the schema, and told."""
    values = {"gone": "no_such_module:Router", "dumps": "json:dumps", "round_robin": "pathlib:Path"}
    points = tuple(EntryPoint(name, value, "servesim.routers") for name, value in values.items())
    monkeypatch.setattr(servesim.registry, "_installed", lambda: points)
    code, out, err = servesim_main("schema")
    routers = {name for name in json.loads(out)["$defs"] if name.startswith("router.")}
    assert code == 0 and "router.random" in routers
    assert not routers & {f"router.{name}" for name in values}
    reasons = ["has 2 providers", "is not a class (got a function)", "failed to import: ModuleNotFoundError"]
    lines = err.splitlines()
    assert len(lines) == len(reasons)
    for line, name, reason in zip(lines, ["round_robin", "dumps", "gone"], reasons, strict=True):
        assert line.startswith(f"warning: left out: router '{name}' ") and reason in line
    code, text, _ = servesim_main("plugins")
    assert code == 0 and all(f"error: router '{name}' " in text for name in values)


@pytest.mark.parametrize("command", ["plugins", "schema", "--version"])
def test_a_full_disk_is_told_in_one_line(root, command):
    """What cannot be written is the user's to mend: exit code 2, no traceback, no replay."""
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "servesim", command],
            cwd=root, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("error: stdout: cannot be written (No space left on device)")
    assert run.stderr.count("\n") == 1


def test_ctrl_c_is_told_in_one_line(servesim_main, scenario, monkeypatch):
    """Where a command has nothing to say of it: exit code 130, and the word alone."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("servesim.cli.validate.validate_scenario", interrupted)
    assert servesim_main("validate", scenario) == (130, "", "interrupted\n")


def test_the_reference_page_has_every_command():
    """The page is made from the commands: each, with its options."""
    page = cli_page()
    for command in ("run", "validate", "schema", "plugins"):
        assert f"## `servesim {command}`" in page
    for option in ("--set KEY=VALUE", "--out DIR", "--json", "--quiet", "--version"):
        assert f"| `{option}` |" in page

"""The public surface: what ``import servesim`` gives, and that it is all there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import servesim
from servesim import _version

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = [
    "InvariantError",
    "PluginError",
    "RunResult",
    "Scenario",
    "ScenarioError",
    "ServesimError",
    "TraceError",
    "__version__",
    "calibrate",
    "capacity",
    "check",
    "compare",
    "load_scenario",
    "run",
    "simulate",
    "sweep",
]
"""The promise to users: a name is added with its documentation, and removed with a major version only."""


def test_public_names_are_exactly_these():
    """`__all__` is the list above, in order, and short."""
    assert servesim.__all__ == PUBLIC
    assert len(PUBLIC) <= 20
    assert dir(servesim) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_can_be_imported(name):
    """Each resolves to something documented that calls itself by this name."""
    value = getattr(servesim, name)
    assert value is not None
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__


def test_unknown_name_is_an_attribute_error():
    """As for any module; hasattr works."""
    with pytest.raises(AttributeError, match="no attribute 'simulator'"):
        _ = servesim.simulator
    assert not hasattr(servesim, "simulator")


def test_version_is_the_installed_one():
    """The number in `_version.py` is the distribution's: built from it, and installed so where it is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert (ROOT / project["tool"]["hatch"]["version"]["path"]).samefile(_version.__file__)
    assert servesim.__version__ == _version.__version__
    try:
        installed = version("servesim")
    except PackageNotFoundError:
        pytest.skip("servesim is not installed here: the tests run from the source tree")
    assert installed == servesim.__version__


def test_errors_have_one_root():
    """Catching `ServesimError` catches every error that servesim raises on purpose."""
    for name in PUBLIC:
        if name.endswith("Error"):
            assert issubclass(getattr(servesim, name), servesim.ServesimError)


def test_testing_has_its_own_names():
    """What plugin authors use is in `servesim.testing`; importing it loads no test framework."""
    import servesim.testing as testing

    assert testing.__all__ == [
        "assert_results_equal",
        "check_policy",
        "make_request",
        "make_views",
        "step_by_step",
    ]
    assert all(getattr(testing, name).__doc__ for name in testing.__all__)
    code = "import servesim.testing, sys; print([m for m in ('pytest', 'hypothesis') if m in sys.modules])"
    assert python(code) == "[]"


def test_importing_servesim_loads_nothing_heavy():
    """``servesim --version`` starts at once: names are imported when they are first used."""
    heavy = ("numpy", "polars", "pydantic", "simpy", "matplotlib", "pandas", "pyarrow", "typer", "ruamel")
    code = f"import servesim, sys; print(servesim.__version__, [m for m in {heavy!r} if m in sys.modules])"
    assert python(code) == f"{servesim.__version__} []"


def test_a_run_loads_no_plotting_and_no_pandas():
    """A run in memory needs neither matplotlib nor pandas, which take a second to import."""
    code = (
        "import servesim, sys; "
        "servesim.run('scenarios/quickstart.yaml', overrides=['workload.max_requests=5']); "
        "print([m for m in ('matplotlib', 'pandas', 'typer') if m in sys.modules])"
    )
    assert python(code) == "[]"


def python(code: str) -> str:
    """Return what *code* prints in a fresh interpreter in the repository."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()

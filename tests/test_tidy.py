"""The layout of the code: who imports whom, how large things get, what they are called.

The rules are docs/how-it-works.md's picture and the size norms of CONTRIBUTING.md. An offender is listed by
name with what it measures now; lists may only shrink, so that an entry that is no longer needed fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "servesim"
MODULES = sorted(PACKAGE.rglob("*.py"))

IMPORTS = {
    "errors": set(),
    "rng": set(),
    "plugin_folders": {"errors"},
    "registry": {"errors", "plugin_folders"},
    "catalog": {"errors"},
    "profiles": {"errors"},
    "latency": {"catalog", "errors", "profiles", "registry"},
    "policies": {"errors", "registry", "rng"},
    "workload": {"errors", "registry", "rng"},
    "readers": {"errors", "rng", "workload"},
    "generators": {"errors", "registry", "rng", "workload"},
    "servegen": {"errors", "generators", "rng", "workload"},
    "serverless": {"errors", "rng", "workload"},
    "scenario": {
        *("catalog", "errors", "generators", "latency", "policies", "registry", "rng", "workload"),
    },
    "cluster": {"catalog", "errors", "latency", "policies", "registry", "rng", "scenario", "workload"},
    "results": {"cluster", "errors", "scenario", "workload"},
    "simulation": {
        *("catalog", "cluster", "errors", "latency", "policies", "registry", "results", "scenario"),
        "workload",
    },
    "experiments": {
        *("cluster", "errors", "plugin_folders", "results", "rng", "scenario", "simulation"),
        "workload",
    },
    "traces": {
        *("errors", "experiments", "readers", "results", "scenario", "servegen", "serverless", "workload"),
    },
    "checks": {"errors", "experiments", "results", "scenario", "traces", "workload"},
    "report": {"errors", "experiments", "results", "rng", "scenario"},
    "measurements": {"errors", "rng", "workload"},
    "validation": {"catalog", "errors", "measurements", "results", "scenario", "simulation"},
    "profiler": {"catalog", "errors", "latency", "profiles", "results", "rng"},
    "calibration": {
        *(
            "catalog",
            "cluster",
            "errors",
            "experiments",
            "latency",
            "measurements",
            "registry",
            "results",
            "rng",
        ),
        *("scenario", "validation"),
    },
}
"""What each part may import, besides itself and the version: to the left in workload, scenario, cluster,
results, simulation, experiments, traces, checks, report, measurements, validation, profiler, calibration. What is not
listed (the facade, cli, testing) stands at the end and may import everything."""

LAST = {"cli", "testing", "__init__", "__main__"}
"""What no part of the library may import."""

HOMES = {
    "simpy": {"cluster"},
    "ruamel": {"profiles", "scenario"},
    "yaml": set(),
    "typer": {"cli"},
    "rich": {"cli"},
    "hypothesis": {"testing"},
    **{name: {"profiler"} for name in ("flash_attn", "pynvml", "torch")},
    "pytest": {"testing"},
}
"""Library to the packages that may import it."""

INSIDE_FUNCTIONS = {
    *("flash_attn", "junitparser", "loky", "matplotlib", "pandas", "pynvml", "ray", "scipy", "torch"),
    "vl_convert",
}
"""Libraries so slow to import, or so optional, that only the functions that need them do."""

MODULE_LINES, FUNCTION_LINES, PARAMETERS = 600, 60, 8

LONG_MODULES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
MANY_PARAMETERS: dict[str, int] = {}
"""Offenders by name, with their size."""

BANNED_NAMES = re.compile(r"^(Base[A-Z]\w*|\w+Manager|\w+Store|\w*[Uu]tils?)$")
MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:work|tmp|home|root)/\w")


def name_of(path: Path) -> str:
    """Return a file's path below the repository."""
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    """Return the sub-package, or top-level module, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path, *, nested: bool = True) -> Iterator[str]:
    """Yield the full names that a module imports, everywhere or outside of functions only.

    What stands under ``if TYPE_CHECKING:`` counts as nested: it is not imported when the program runs.
    """
    todo: list[ast.AST] = [tree(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import. expected full names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        is_nested = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        if nested or not is_nested:
            todo.extend(ast.iter_child_nodes(node))


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield each function of a module with its qualified name."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}{child.name}", child
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from below(child, f"{prefix}{child.name}.")
            elif not isinstance(child, ast.expr):
                yield from below(child, prefix)

    return below(tree(path), f"{name_of(path)}:")


def assert_only_listed(measured: dict[str, int], listed: dict[str, int], limit: int, what: str) -> None:
    """Assert that what exceeds *limit* is listed, no larger than listed, and that every entry is needed."""
    offenders = {name: size for name, size in measured.items() if size > limit}
    grown = {name: size for name, size in offenders.items() if size > listed.get(name, limit)}
    assert not grown, f"{what}: more than {limit}: {grown}"
    settled = [name for name in listed if name not in offenders]
    assert not settled, f"{what}: no longer offenders, take them off the list: {settled}"


def test_parts_import_to_the_left_only():
    """Workload, scenario, cluster, results, report: a part knows nothing of what comes after it."""
    wrong = []
    for path in MODULES:
        part = part_of(path)
        if part in LAST or part == "_version":
            continue
        assert part in IMPORTS, f"{name_of(path)}: a part that is not in the picture. expected it in IMPORTS"
        for name in imported(path):
            words = name.split(".")
            if words[0] == "servesim" and words[1] not in IMPORTS[part] | {part, "_version", "__version__"}:
                wrong.append(f"{name_of(path)} imports {name}")
    assert not wrong


def test_every_part_is_in_the_picture():
    """Each sub-package and top-level module has its place, and each place its module."""
    parts = {part_of(path) for path in MODULES}
    assert set(IMPORTS) | LAST | {"_version"} == parts


def test_one_level_of_sub_packages():
    """A module is at most servesim/package/module.py."""
    assert [name_of(path) for path in MODULES if len(path.relative_to(PACKAGE).parts) > 2] == []


def test_libraries_stay_at_home():
    """SimPy in cluster, YAML in scenario, typer and rich in cli, hypothesis in testing."""
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in imported(path)
        if part_of(path) not in HOMES.get(name.split(".")[0], {part_of(path)})
    ]
    assert not wrong


def test_libraries_are_used_where_they_are_allowed():
    """The rule above is about something: SimPy, ruamel and typer are imported in their homes."""
    used = {(part_of(path), name.split(".")[0]) for path in MODULES for name in imported(path)}
    assert {("cluster", "simpy"), ("scenario", "ruamel"), ("cli", "typer")} <= used


def test_slow_libraries_are_imported_inside_functions():
    """Plotting and pandas are imported when they are used, not when servesim is."""
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in imported(path, nested=False)
        if name.split(".")[0] in INSIDE_FUNCTIONS
    ]
    assert not wrong


def test_modules_are_small():
    """At most 600 lines; 80 to 300 are usual."""
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert_only_listed(lines, LONG_MODULES, MODULE_LINES, "lines of a module")


def test_functions_are_small():
    """At most 60 lines, the docstring not counted; 30 are usual."""
    lines = {}
    for path in MODULES:
        for name, function in functions(path):
            assert function.end_lineno is not None
            length = function.end_lineno - function.lineno + 1
            if ast.get_docstring(function) is not None:
                docstring = function.body[0]
                assert docstring.end_lineno is not None
                length -= docstring.end_lineno - docstring.lineno + 1
            lines[name] = length
    assert_only_listed(lines, LONG_FUNCTIONS, FUNCTION_LINES, "lines of a function")


def test_functions_take_few_parameters():
    """At most 8, self and cls not counted; 5 are usual. Those of commands are options, as many as users need."""
    counts = {}
    commands = ("app", "profile_options", "trace")
    for path in MODULES:
        if name_of(path) in [f"servesim/cli/{name}.py" for name in commands]:
            continue
        for name, function in functions(path):
            arguments = function.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            counts[name] = sum(argument.arg not in ("self", "cls") for argument in every)
    assert_only_listed(counts, MANY_PARAMETERS, PARAMETERS, "parameters of a function")


def test_names_say_what_a_thing_is():
    """No utils, Base..., ...Manager or ...Store: neither modules, nor classes."""
    wrong = [name_of(path) for path in MODULES if BANNED_NAMES.match(path.stem)]
    wrong += [
        f"{name_of(path)}: {node.name}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and BANNED_NAMES.match(node.name)
    ]
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_says_what_is_in_it(path):
    """Every module has a docstring."""
    assert ast.get_docstring(tree(path)), f"{name_of(path)}: no docstring"


def test_only_the_command_line_prints():
    """The library returns; it neither prints nor exits."""
    wrong = [
        f"{name_of(path)}:{node.lineno}: {ast.unparse(node.func)}"
        for path in MODULES
        if part_of(path) not in ("cli", "__main__")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "quit")
    ]
    assert not wrong


def test_no_randomness_without_a_named_stream():
    """Random generators are made in servesim.rng alone, and the kernel does not read the wall clock."""
    wrong = [
        f"{name_of(path)}: {name}"
        for path in MODULES
        for name in imported(path)
        if name.split(".")[0] == "random"
        or (
            name.split(".")[0] in ("time", "datetime") and part_of(path) in ("cluster", "policies", "latency")
        )
    ]
    wrong += [
        f"{name_of(path)}:{node.lineno}: {ast.unparse(node.func)}"
        for path in MODULES
        if part_of(path) != "rng"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and re.match(r"(np|numpy)\.random\.", ast.unparse(node.func))
    ]
    assert not wrong


def tracked(*folders: str) -> list[Path]:
    """Return the text files under version control in these folders; without git, all files there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    texts = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".cfg", ".ipynb", ".sh", ""}
    return sorted(
        path for path in paths if path.is_file() and path.suffix in texts and path != Path(__file__)
    )


def test_no_paths_of_one_machine():
    """Files work wherever the repository is: none names a place outside of it."""
    files = tracked(
        "servesim", "docs", "tests", "scripts", "scenarios", "notebooks", "benchmarks", "README.md"
    )
    assert len(files) > len(MODULES)
    wrong = [
        f"{name_of(path)}: {match.group()}"
        for path in files
        for match in MACHINE_PATHS.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_the_checks_see_what_they_look_for():
    """The patterns match what they ban and spare the rest; lists complain about more and about less."""
    assert all(
        map(BANNED_NAMES.match, ("utils", "BaseRouter", "ReplicaManager", "RequestStore", "time_util"))
    )
    assert not any(map(BANNED_NAMES.match, ("Based", "base", "RequestStream", "storage", "Managed")))
    slash = "/"  # apart, so that this file holds no such path
    assert all(map(MACHINE_PATHS.search, (f"see {slash}work/x", f'"{slash}tmp/a"', f"({slash}home/me)")))
    assert not any(map(MACHINE_PATHS.search, (f"a{slash}work{slash}b", "../tmp/a", "work/x", "$HOME/home/x")))
    with pytest.raises(AssertionError, match="more than 1"):
        assert_only_listed({"a": 2}, {}, 1, "sizes")
    with pytest.raises(AssertionError, match="take them off"):
        assert_only_listed({"a": 1}, {"a": 2}, 1, "sizes")

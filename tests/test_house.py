"""The rules of the house: who may import whom, what no file may contain, and what an import must not load."""

import ast
import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "fourier_circuits"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "transformer_lens", "plotly")

FLOORS = {
    "arrays": set(),
    "fourier": {"arrays", "fourier"},
    "analysis": {"arrays", "fourier", "analysis"},
    "figures": {"arrays", "fourier", "analysis", "figures"},
    "task": {"arrays"},
    "model": {"arrays", "task", "model"},
    "training": {"arrays", "task", "model", "training"},
}
"""What each floor may import. Every other file is a verb, which may import all of these but figures, and verbs."""
ROOF = {"cli", "report", "__main__"}
LAZY = "__init__"
"""The package's own `__init__`, which names everything and imports nothing until asked (`test_import_is_lazy`)."""


def home_of(module: str) -> str:
    """`fourier_circuits.model.read` -> `model`."""
    return module.split(".")[1] if "." in module else LAZY


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Everything imported anywhere in a file, also inside functions; relative imports made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            if base == "fourier_circuits":
                yield from (f"fourier_circuits.{alias.name}" for alias in node.names)
            else:
                yield base


def wrong_arrows(source: str, module: str) -> list[str]:
    """What a file imports against the rules."""
    home, wrong = home_of(module), []
    if home == LAZY:
        return []
    for name in imports(ast.parse(source), module):
        top = name.split(".")[0]
        if top == "plotly" and home != "figures" and home not in ROOF:
            wrong.append(name)
        if top == "transformer_lens" and (home != "model" or module == "fourier_circuits.model.factored"):
            wrong.append(name)
        if top != "fourier_circuits" or home in ROOF:
            continue
        target = home_of(name)
        if home in FLOORS:
            allowed = target in FLOORS[home]
        else:
            allowed = target != "figures" and target not in ROOF and target != LAZY
        if not allowed:
            wrong.append(name)
    return wrong


def forbidden(source: str, is_cli: bool) -> list[str]:
    """What no file may contain, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        line = f" in line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Assert):
            found.append("assert" + line)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            found += [f"from __future__ import {a.name}" + line for a in node.names if a.name == "annotations"]
        if isinstance(node, ast.Call) and not is_cli:
            if isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append("print" + line)
            if isinstance(node.func, ast.Attribute) and node.func.attr == "show":
                found.append(".show()" + line)
    return found


def test_there_are_files_to_check():
    assert {"arrays.py", "task.py", "ablation.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_import_arrows(path):
    assert wrong_arrows(path.read_text(), module_of(path)) == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_forbidden(path):
    assert forbidden(path.read_text(), is_cli="cli" in path.parts) == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_is_at_most_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("arrays", "from fourier_circuits.task import GridTask"),
        ("task", "import fourier_circuits.fourier.basis"),
        ("fourier.grid", "from fourier_circuits.analysis.losses import full_loss"),
        ("fourier.grid", "from fourier_circuits.model.read import task_of"),
        ("fourier.grid", "from ..task import GridTask"),
        ("analysis.losses", "def f():\n    from fourier_circuits.model import read"),
        ("analysis.losses", "from fourier_circuits import ablation"),
        ("analysis.losses", "import plotly.graph_objects as go"),
        ("model.read", "from fourier_circuits.training.config import RunConfig"),
        ("model.read", "from fourier_circuits import fourier"),
        ("model.factored", "import transformer_lens"),
        ("model.factored", "from transformer_lens import utils"),
        ("training.train", "from transformer_lens import HookedTransformer"),
        ("training.train", "from fourier_circuits.ablation import ablate"),
        ("figures.style", "from fourier_circuits.task import ModularAddition"),
        ("ablation", "from fourier_circuits.figures.style import layout"),
        ("ablation", "from fourier_circuits.cli import app"),
        ("ablation", "import transformer_lens.utils"),
        ("ablation", "from plotly import express"),
        ("cli", "import transformer_lens"),
    ],
)
def test_a_wrong_arrow_is_found(module, source):
    assert wrong_arrows(source, f"fourier_circuits.{module}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("figures.style", "import plotly\nfrom fourier_circuits.analysis.losses import full_loss"),
        ("model.read", "import transformer_lens\nfrom ..task import GridTask\nfrom .factored import tables"),
        ("ablation", "from fourier_circuits.identification import key_frequencies\nimport fourier_circuits.model.read"),
        ("report", "import plotly\nfrom fourier_circuits.figures.style import layout"),
    ],
)
def test_a_right_arrow_is_not_found(module, source):
    assert wrong_arrows(source, f"fourier_circuits.{module}") == []


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    assert x",
        "from __future__ import annotations",
        "print(1)",
        "figure.show()",
        "def f(g):\n    g.a().show()",
    ],
)
def test_a_forbidden_thing_is_found(source):
    assert forbidden(source, is_cli=False)


# -------------------------------------------------------------------------------------------- what an import loads


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )


def loaded(*arguments: str) -> set[str]:
    """The heavy packages that a Python process imports."""
    done = python(*arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    if done.returncode or not lines:
        raise RuntimeError(f"{arguments} failed:\n{done.stderr[-2000:]}")
    names = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    return names & set(HEAVY)


def test_import_is_lazy():
    assert loaded("-c", "import fourier_circuits; fourier_circuits.__all__; dir(fourier_circuits)") == set()


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["reproduce", "--help"]])
def test_help_is_lazy(command):
    assert loaded("-m", "fourier_circuits", *command) == set()


@pytest.mark.parametrize("name", HEAVY)
def test_the_lazy_check_can_fail(name, tmp_path):
    """With an empty package of that name, so as not to wait for the real one."""
    (tmp_path / f"{name}.py").touch()
    assert loaded("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {name}") == {name}


def test_a_public_name_loads_what_it_needs():
    assert "torch" in loaded("-c", "from fourier_circuits import fourier_basis")


def best_seconds(*arguments: str, tries: int = 5) -> float:
    """The fastest of several runs, since other processes can only slow one down."""
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, check=True, timeout=60)
        times.append(time.perf_counter() - start)
        if times[-1] < 0.5:
            break
    return min(times)


@pytest.mark.parametrize("arguments", [("-c", "import fourier_circuits"), ("-m", "fourier_circuits", "--help")])
def test_it_starts_within_half_a_second(arguments):
    assert best_seconds(*arguments) < 0.5


def test_the_clock_can_fail():
    assert best_seconds("-c", "import time; time.sleep(0.5)", tries=1) >= 0.5


# ------------------------------------------------------------------------------------------------ the public names


def test_every_public_name_resolves():
    package = importlib.import_module("fourier_circuits")
    unresolved = {}
    for name in package.__all__:
        try:
            getattr(package, name)
        except (ImportError, AttributeError) as error:
            unresolved[name] = str(error)
    assert unresolved == {}
    assert set(package.__all__) <= set(dir(package))


def test_public_names_are_those_a_type_checker_sees():
    """The names under `if TYPE_CHECKING` are the lazy ones, from the same modules."""
    package = importlib.import_module("fourier_circuits")
    seen = {}
    for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fourier_circuits"):
            seen |= {alias.asname or alias.name: node.module.removeprefix("fourier_circuits.") for alias in node.names}
    assert seen == package._HOME


def test_an_unknown_public_name_lists_the_known_ones():
    package = importlib.import_module("fourier_circuits")
    with pytest.raises(AttributeError, match="has no attribute 'ablat'; it has .*ablate"):
        package.ablat  # noqa: B018


def test_every_module_imports():
    for path in FILES:
        if path.name != "__main__.py":
            importlib.import_module(module_of(path))

"""The ladder, the heavy packages, and the public surface, read from the sources themselves."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "optimizers": {"optimizers"},
    "geomopt": {"optimizers", "geomopt"},
    "sims": {"optimizers", "geomopt", "sims"},
}
HEAVY = {
    "pyvista", "vtk", "vtkmodules", "ray", "botorch", "matplotlib", "trame", "anny",
    "kaolin", "nvdiffrast", "trimesh", "imageio", "cma", "gpytorch", "linear_operator", "PyNomad",
    "cocoex", "pybobyqa", "pypardiso", "nvmath", "h5py", "zarr",
}  # fmt: skip
PUBLIC = [
    "optimizers", "geomopt.geometry", "geomopt.linear", "geomopt.render", "geomopt.reconstruct",
    "geomopt.runs", "sims.acoustics", "sims.acoustics.auralize", "sims.acoustics.metrics",
    "sims.acoustics.surrogates", "sims.pde", "sims.pde.data", "sims.pde.metrics",
    "sims.pde.networks", "sims.pde.spectral", "sims.pde.surrogates", "sims.pde.training",
    "sims.thin_shell",
]  # fmt: skip


def imported(tree: ast.AST, *, inside_functions: bool) -> set[str]:
    """Top-level names of the packages that a module imports."""
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the ladder can be read from them"
            names.add((node.module or "").split(".")[0])
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if for_types or (function and not inside_functions):
            continue
        pending += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_only_point_down_the_ladder(package):
    ours = set(MAY_IMPORT)
    for file in (ROOT / package).rglob("*.py"):
        upward = (imported(ast.parse(file.read_text()), inside_functions=True) & ours) - MAY_IMPORT[
            package
        ]
        assert not upward, f"{file.relative_to(ROOT)} imports {sorted(upward)}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_heavy_packages_are_imported_only_inside_functions(package):
    for file in (ROOT / package).rglob("*.py"):
        heavy = imported(ast.parse(file.read_text()), inside_functions=False) & HEAVY
        assert not heavy, f"{file.relative_to(ROOT)} imports {sorted(heavy)} at module level"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_documented_and_annotated(module):
    surface = importlib.import_module(module)
    assert surface.__doc__
    assert surface.__all__
    for name in surface.__all__:
        value = getattr(surface, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, f"{module}.{name} has no docstring"
        if inspect.isfunction(value):
            missing = [
                parameter.name
                for parameter in inspect.signature(value).parameters.values()
                if parameter.annotation is inspect.Parameter.empty
            ]
            assert not missing, f"{module}.{name} does not annotate {missing}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imported_packages_are_ours_and_not_a_namesake(package):
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / package


def test_the_optimizers_import_without_warp_or_any_optional_package():
    code = "import sys, optimizers; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())
    assert not loaded & (HEAVY | {"warp", "geomopt", "sims"})


def test_the_optimizers_import_in_a_moment_beside_torch():
    """Under 1.5 s of CPU time, which a scheduler cannot stretch."""
    code = (
        "import time, torch; begin = time.process_time(); import optimizers; "
        "print(time.process_time() - begin)"
    )
    seconds = float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True))
    assert seconds < 1.5

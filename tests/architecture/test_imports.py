"""Every module imports, and no process drags in what belongs to the other."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

FOREIGN = {
    "app.main": ("torch", "transformers", "sae_lens"),
    "core.cli.main": ("torch", "transformers", "sae_lens", "fastapi", "app", "worker"),
    "worker.main": ("fastapi", "starlette", "jinja2"),
}


def modules(package: str) -> list[str]:
    """Names of a package and of everything in it."""
    root = importlib.import_module(package)
    inside = pkgutil.walk_packages(root.__path__, prefix=f"{package}.")
    return [package, *(module.name for module in inside)]


@pytest.mark.parametrize("package", ["core", "app", "worker"])
def test_every_module_imports(package):
    for name in modules(package):
        if not name.endswith("__main__"):
            importlib.import_module(name)


@pytest.mark.parametrize("door", FOREIGN)
def test_a_door_does_not_load_what_belongs_elsewhere(door):
    code = (
        f"import sys, {door}\n"
        f"found = sorted(set({FOREIGN[door]!r}) & set(sys.modules))\n"
        "sys.exit(f'loads {found}' if found else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert run.returncode == 0, run.stderr

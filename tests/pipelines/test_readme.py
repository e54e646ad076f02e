"""What the README says holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_quick_start_is_two_lines_each_in_a_block_of_its_own():
    start = README.split("## Quick start")[1].split("\n## ")[0]
    lines = re.findall(r"```bash\n(.*?)```", start, flags=re.DOTALL)
    assert [len(line.strip().splitlines()) for line in lines] == [1, 1]
    assert lines[0].strip().endswith("geomopt run reconstruct")
    assert lines[1].strip().endswith("pytest")


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run_as_they_stand(code, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(code)
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, timeout=300)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_command_it_names_is_one():
    from geomopt.cli import main

    for verb in sorted(set(re.findall(r"^geomopt (\w+)", README, flags=re.MULTILINE))):
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0


def test_the_table_of_methods_is_that_of_the_guide():
    from optimizers import METHODS
    from optimizers.recommend import GUIDE

    rows = re.findall(
        r"^\| `([\w-]+)` \| (.*) \| (gradients|values) \|$", README, flags=re.MULTILINE
    )
    needs = {name: "gradients" if kind.order else "values" for name, kind in METHODS.items()}
    assert rows == [(name, when, needs[name]) for name, when in GUIDE.items()]

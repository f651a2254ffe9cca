"""What `import cryo_fewshot` shows, that it loads nothing heavy, and the README's example of it."""

import re
import runpy
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import cryo_fewshot as cf

README = Path(__file__).resolve().parents[1] / "README.md"
NAMES = """
Adaptation Encoder3D Episodes Microscope PooledEncoder3D Schedule SimulatedData SubtomogramSet UserError
adapted_logits baseline_logits build_recogniser combined_logits confusion correct_counts embed episode_loss fit
load_encoder mean_and_interval open_particles predict prototype_logits prototypes sample_episodes save_encoder
simulate_set split_classes squared_distances
""".split()


def test_the_package_shows_its_public_names_and_no_other():
    assert dir(cf) == cf.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_what_its_module_defines_and_is_documented(name):
    found = getattr(cf, name)
    assert found.__name__ == name
    assert found.__module__.startswith("cryo_fewshot.")
    assert found.__doc__


def test_a_source_tree_that_is_not_installed_is_imported_too(monkeypatch):
    def missing(name: str):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert runpy.run_path(cf.__file__)["__version__"] == "0+source"


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Encoder2D'; it has Adaptation, Encoder3D"):
        cf.Encoder2D  # noqa: B018


def test_a_bare_import_loads_nothing_heavy():
    code = "import sys, cryo_fewshot; print(sorted({'torch', 'numpy', 'scipy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=README.parent)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_readmes_example_trains_both_methods(capsys):
    section = README.read_text(encoding="utf-8").split("## Use the package", 1)[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = re.findall(r"^(ProtoNet3D|ProtoNet-CE): (\d\.\d\d) \+- \d\.\d\d$", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, _ in printed] == ["ProtoNet3D", "ProtoNet-CE"]
    assert all(float(accuracy) > 0.6 for _, accuracy in printed)  # chance is 0.33

"""Do the tests notice when the code is wrong? A random sample of mutants, each against the tests of its own file.

Defaults and constants of all files are held by one test, which runs after them.

A mutant is the code with one small change, such as `<` for `<=`, made by Cosmic Ray. A mutant that the tests pass has
survived: read its line, and write the test that kills it, or find that the change does not matter. Everything happens
in a copy; the working tree stays as it is.

    python scripts/mutants.py --sample 200 --seed 0
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("cryo_fewshot")
ROOMS = (".", "recognition", "averaging", "particles")
"""The method at the root, and the wings that people's own data go through."""
INTERFACE = "tests/test_interface.py"
BASELINE_LIMIT = 300
"""Seconds after which the tests of a file count as too slow to be run against mutants."""


def mirrored_tests(module: Path) -> list[str]:
    """The tests of a module: `tests/wing/test_module.py`, and `test_module_*.py` where they fill several files."""
    folder = Path("tests") / module.relative_to(PACKAGE).parent
    return sorted(map(str, [*folder.glob(f"test_{module.stem}.py"), *folder.glob(f"test_{module.stem}_*.py")]))


def test_command(tests: list[str]) -> str:
    """Run these tests, and that of all defaults, until one fails."""
    return f"{sys.executable} -m pytest -q -x -p no:cacheprovider {' '.join(tests)} {INTERFACE}"


def mutations_of(module: Path) -> Iterator[MutationSpec]:
    """Each change that an operator of Cosmic Ray can make to the module."""
    tree = get_ast_from_path(module)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or "BitOr" in name:  # `|` stands in annotations, which nothing executes
            continue
        positions = [place for node in ast_nodes(tree) for place in operator().mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            yield MutationSpec(module, name, occurrence, start, end)


def time_limits(modules: list[Path]) -> dict[Path, float]:
    """Seconds for the tests of a mutant of each module: thrice what they take unchanged, and ten to start.

    A module without tests of its own, or whose tests fail unchanged, is named and left out.
    """
    limits = {}
    for module in modules:
        tests = mirrored_tests(module)
        if not tests:
            print(f"left out: {module} has no tests of its own", flush=True)
            continue
        started = time.perf_counter()
        outcome, _ = run_tests(test_command(tests), BASELINE_LIMIT)
        if outcome != TestOutcome.SURVIVED:
            print(f"left out: {module}, whose unchanged code fails {' '.join(tests)}", flush=True)
            continue
        limits[module] = 10 + 3 * (time.perf_counter() - started)
    return limits


def try_mutants(sample: list[MutationSpec], limits: dict[Path, float]) -> None:
    """Run the tests on each mutant, and report how many are killed and which survive."""
    counts, survivors = Counter(), []
    for number, mutation in enumerate(sample, 1):
        module = mutation.module_path
        result = mutate_and_test([mutation], test_command(mirrored_tests(module)), limits[module])
        if result.test_outcome == TestOutcome.INCOMPETENT:
            sys.exit(f"the tests of {module} could not be run: {result.output}")
        outcome = "killed" if result.is_killed else "survived"
        counts[outcome] += 1
        place = f"{module}:{mutation.start_pos[0]}"
        print(f"{number}/{len(sample)} {outcome:<9} {place} {mutation.operator_name.split('/')[-1]}", flush=True)
        if not result.is_killed:
            survivors.append((place, result.diff))
    print(f"\n{counts['killed']} killed, {counts['survived']} survived.")
    for place, diff in sorted(survivors):
        changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        print("\n".join(["", place, *changed]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice")
    parser.add_argument("--only", nargs="*", type=Path, help="modules such as cryo_fewshot/episodes.py; default: all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "_build", "results", "__pycache__"))
        os.chdir(copy)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(copy), str(copy / "notebooks"), os.getenv("PYTHONPATH", "")])
        modules = given.only or sorted(path for room in ROOMS for path in (PACKAGE / room).glob("*.py"))
        modules = [module for module in modules if not module.stem.startswith("__")]
        mutations = [mutation for module in modules if mirrored_tests(module) for mutation in mutations_of(module)]
        sample = random.Random(given.seed).sample(mutations, min(given.sample, len(mutations)))
        print(f"{len(sample)} of {len(mutations)} mutants of {len(modules)} modules", flush=True)
        chosen = {mutation.module_path for mutation in sample}
        limits = time_limits([module for module in modules if module in chosen or not mirrored_tests(module)])
        try_mutants([mutation for mutation in sample if mutation.module_path in limits], limits)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()

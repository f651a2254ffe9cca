"""What keeps the project: workflows, container and licence files say what is true of this checkout."""

import json
import re
import tomllib

import pytest

pytest.importorskip("yaml", reason="the book's packages are not installed")

import yaml

from cryo_fewshot.files import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))


def called_targets(text: str) -> set[str]:
    """Targets of `make` that a text calls."""
    return set(re.findall(r"(?:^|[\s\"])make\"?,? \"?([a-z]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_there_is(path):
    workflow = yaml.safe_load(path.read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    assert all(re.fullmatch(r"[\w./-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    assert called_targets(commands) <= TARGETS
    assert all((REPOSITORY / script).is_file() for script in re.findall(r"^\.ci/\w+", commands, flags=re.MULTILINE))
    needed = {name for job in workflow["jobs"].values() for name in [job.get("needs")] if name}
    assert needed <= set(workflow["jobs"])


def test_the_container_copies_and_calls_what_there_is():
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert copied and all((REPOSITORY / name).exists() for name in copied)
    commands = "\n".join(line for line in lines if line.startswith(("RUN make", "CMD")))
    assert called_targets(commands) == {"setup", "reproduce"}
    container = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text())
    assert (REPOSITORY / ".devcontainer" / container["build"]["dockerfile"]).resolve() == REPOSITORY / "Dockerfile"


def test_licences_versions_and_the_environment_agree():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    reuse = tomllib.loads((REPOSITORY / "REUSE.toml").read_text())
    named = {part for note in reuse["annotations"] for part in note["SPDX-License-Identifier"].split(" AND ")}
    assert named == {path.stem for path in (REPOSITORY / "LICENSES").iterdir()}
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert "-c requirements.lock" in environment["dependencies"][-1]["pip"]
    lock = (REPOSITORY / "requirements.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lock)


def test_both_locks_have_the_same_versions_and_only_what_torch_brings_is_in_one_alone():
    text = (REPOSITORY / "requirements.hashes.lock").read_text().lower().replace("_", "-")
    hashed = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}\b", text, flags=re.MULTILINE))
    lock = (REPOSITORY / "requirements.lock").read_text().lower().replace("_", "-").split()
    plain = dict(line.split("==") for line in lock)
    assert {name: hashed.get(name) for name in plain} == plain
    assert all(re.match("nvidia-|cuda-|triton$|setuptools$|wheel$", name) for name in hashed.keys() - plain.keys())
    assert "setuptools" in hashed  # which builds the package where nothing else may be fetched
    assert "://" not in text  # of no particular registry

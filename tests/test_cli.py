"""The command line: the calls by other means, old names of options, and one line for bad input."""

import json

import numpy as np
import pytest
from studies.demonstration import write_particles
from typer.testing import CliRunner

from cryo_fewshot import cli
from cryo_fewshot.cli_inputs import opened
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition.classify import classify
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction import notebooks
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope

CLASSES = ["1OEL", "3KUY"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Labelled and unlabelled particles for the pretrained encoder: paths by name."""
    folder, paths = tmp_path_factory.mktemp("files"), {}
    for name, n, seed in (("labelled", 4, 1), ("all", 6, 0)):
        found = simulate_set(
            SimulatedData(n_per_class=n, microscope=Microscope(binning=2), seed=seed), {0.3: n}, CLASSES
        )
        labels = {"labels": np.array(CLASSES)[found.labels]} if name == "labelled" else {}
        paths[name] = folder / f"{name}.npz"
        np.savez(paths[name], volumes=found.volumes.numpy(), voxel_size_nm=2.0, **labels)
    recipe = SimulatedData(n_per_class=2, microscope=Microscope(binning=2))
    paths["star"], _ = write_particles(folder / "star", recipe, CLASSES, {0.3: 2}, with_labels=True)
    return paths


def command(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_classify_writes_what_the_call_writes(files, tmp_path):
    settings = Settings(n_averaged=0, rotations=2, false_accept_rate=0.1, junk=("3KUY",), transductive=True)
    classify(*(open_particles(files[name]) for name in ("labelled", "all")), tmp_path / "call", settings=settings)
    result = command(
        *("classify", "--support", files["labelled"], "--query", files["all"], "--out", tmp_path / "typed"),
        *("--averages", 0, "--rotations", 2, "--false-accept", 0.1, "--junk", "3KUY", "--transductive"),
    )
    assert result.exit_code == 0, result.output
    assert "left out in turn" in result.output
    for name in ("particles.star", "run.json"):
        assert (tmp_path / "call" / name).read_bytes() == (tmp_path / "typed" / name).read_bytes()
    assert json.loads((tmp_path / "typed" / "run.json").read_text())["query"]["n"] == 12


@pytest.mark.parametrize("words", [["--turns", "2"], ["--turns=2"]])
def test_the_old_name_of_rotations_is_taken_with_a_notice(words, files, tmp_path):
    given = ["--support", files["labelled"], "--query", files["all"], "--averages", 0]
    old = command("classify", *given, "--out", tmp_path / "old", *words)
    new = command("classify", *given, "--out", tmp_path / "new", "--rotations", 2)
    assert old.exit_code == new.exit_code == 0, old.output
    assert "--turns is now called --rotations" in old.stderr and old.stderr.count("\n") == 1 + new.stderr.count("\n")
    assert "--turns" not in new.output
    assert (tmp_path / "old" / "run.json").read_bytes() == (tmp_path / "new" / "run.json").read_bytes()


@pytest.mark.parametrize("option", ["--support", "--labelled"])
def test_train_takes_its_particles_by_both_names(option, tmp_path):
    result = command("train", option, tmp_path / "nowhere.star", "--out", tmp_path / "mine")
    assert isinstance(result.exception, UserError) and "no such file" in str(result.exception)
    assert ("now called --support" in result.stderr) == (option == "--labelled")


def test_old_names_are_taken_only_where_they_were_known():
    result = command("train", "--turns", "2")
    assert result.exit_code == 2 and "now called" not in result.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--contrast": "grey"}, "use dark, bright or detect"),
        ({"--shard": "9/3"}, "the third of eight"),
        ({"--query": "nowhere.star"}, "no such file"),
        ({"--support": "star", "--label-column": "rlnNothing"}, "rlnNothing"),
        ({"--junk": "stones"}, "(--junk)"),
        ({"--rotations": "3"}, "(--rotations)"),
        ({"--averages": "3"}, "(--averages)"),
        ({"--false-accept": "0.5"}, "(--false-accept-rate)"),
        ({"--fdr": "5"}, "(--fdr)"),
    ],
)
def test_wrong_words_on_the_command_line_are_one_line(changes, message, files, tmp_path):
    words = {"--support": files["labelled"], "--query": files["all"], "--out": tmp_path / "out"} | changes
    words["--support"] = files.get(words["--support"], words["--support"])
    result = command("classify", *(part for pair in words.items() for part in pair))
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception) and "\n" not in str(result.exception)


def test_main_prints_bad_input_as_one_line_and_exits_with_2(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["cryo-fewshot", "train", "--support", "nowhere", "--out", str(tmp_path / "mine")])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("cryo-fewshot: nowhere: no such file")


def test_a_notebook_runs_with_typed_parameters_into_a_folder_of_its_own(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(notebooks, "run_notebook", lambda *inputs: calls.append(inputs) or inputs[2])
    monkeypatch.setenv("CRYO_FEWSHOT_RESULTS", str(tmp_path))
    assert command("notebook", "table1", "n_shot=3").exit_code == 0
    assert command("notebook", "table1", "--output", tmp_path / "mine").exit_code == 0
    assert calls == [
        ("table1", {"n_shot": 3}, tmp_path / "notebooks" / "table1.ipynb"),
        ("table1", {}, tmp_path / "mine" / "table1.ipynb"),
    ]


def test_an_option_for_one_input_leaves_the_other_alone(monkeypatch, tmp_path):
    calls = {}

    class NoParticles(list):
        notes = ()

    def opened(path, **options):
        calls[path] = options
        if path == "s":
            raise UserError("enough")
        return NoParticles()

    monkeypatch.setattr("cryo_fewshot.particles.opening.open_particles", opened)
    words = ["classify", "--support", "s", "--query", "q", "--out", tmp_path, "--contrast", "dark", "--mirror"]
    command(*words, "--query-voxel-size-nm", 2, "--support-contrast", "bright", "--support-root", tmp_path)
    assert calls["q"]["file_voxel_size_nm"] == 2 and "file_voxel_size_nm" not in calls["s"]
    assert calls["q"]["dark_protein"] is True and calls["s"]["dark_protein"] is False
    assert "root" not in calls["q"] and calls["s"]["root"] == str(tmp_path)
    assert calls["q"]["mirror"] and calls["s"]["mirror"]
    command(*words[:-1], "--query-mirror", "--voxel-size-nm", 1, "--support-voxel-size-nm", 1.5)
    assert calls["q"]["mirror"] and "mirror" not in calls["s"]
    assert calls["q"]["file_voxel_size_nm"] == 1 and calls["s"]["file_voxel_size_nm"] == 1.5
    command("train", "--support", "q", "--out", tmp_path, "--support-root", "a", "--box-nm=30", "--contrast", "detect")
    assert calls["q"] == {"root": "a", "box_nm": 30.0, "dark_protein": None}
    result = command(*words[:-3], "--contrast", "light")
    assert isinstance(result.exception, UserError) and "use dark, bright or detect" in str(result.exception)


def test_inspect_says_what_a_run_says_and_draws_a_sheet(files, tmp_path):
    from PIL import Image

    result = command("inspect", files["labelled"], files["star"], "--picture", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    for name in ("labelled", "star"):
        assert all(note in result.output.splitlines() for note in open_particles(files[name]).notes)
    assert "2 classes in rlnClassName: 1OEL (2), 3KUY (2)" in result.output
    assert Image.open(tmp_path / "sheet.png").size[0] > 400
    assert "no labels" in command("inspect", files["all"]).output


def test_the_remedy_for_one_input_leaves_the_other_alone(files, tmp_path):
    np.savez(tmp_path / "no_size.npz", volumes=np.random.default_rng(0).normal(size=(3, 20, 20, 20)))
    given = {"--support": files["labelled"], "--query": files["all"]}
    for name in given:
        words = [word for pair in (given | {name: tmp_path / "no_size.npz"}).items() for word in pair]
        result = command("classify", *words, "--out", tmp_path / "out")
        assert f"({name}-voxel-size-nm)" in str(result.exception)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("voxel-size-nm", 1.8, "overridden by the 1.8 nm"), ("contrast", "bright", "but bright was given")],
)
def test_an_option_for_both_inputs_that_contradicts_the_files_of_one_is_refused(files, tmp_path, option, value, said):
    """It may be meant for the other; given for one alone it counts, and is said."""
    words = ["classify", "--support", files["labelled"], "--query", files["all"], "--out", tmp_path / "out"]
    error = str(command(*words, f"--{option}", value).exception)
    assert said in error and f"--{option} is for both inputs: give --support-{option} or --query-{option}" in error
    assert not (tmp_path / "out").exists()
    readings = {"query": {"file_voxel_size_nm": 1.8} if option == "voxel-size-nm" else {"dark_protein": False}}
    assert any(said in note for note in opened("query", files["all"], readings | {"shared": {}}).notes)

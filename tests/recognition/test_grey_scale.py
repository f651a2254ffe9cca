"""Grey values count where two inputs share a scale, and are left out, with the reason, where they do not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition.classify import classify
from cryo_fewshot.recognition.descriptors import relative_grey
from cryo_fewshot.recognition.grey_scale import common_grey_scale
from cryo_fewshot.recognition.settings import Settings

RNG = np.random.default_rng(0)


def scale_of(support, query):
    grey = [particles.read_with_grey(range(len(particles)), 12, 3.0)[1] for particles in (support, query)]
    return common_grey_scale(support, query, *grey)


@pytest.mark.parametrize("dark", [True, False])
def test_a_tomogram_of_another_scale_gives_the_same_grey_values(dark, tmp_path):
    volume = RNG.normal(size=(30, 40, 40)) + 0.1 * np.arange(40)
    pd.DataFrame({"x": [10, 25], "y": [20, 20], "z": [15, 15]}).to_csv(tmp_path / "places.csv", index=False)
    found = []
    for factor, offset in ((1.0, 0.0), (7.0, 300.0)):
        write_mrc(tmp_path / f"{offset}.mrc", (factor * volume + offset).astype(np.float32), 3.0)
        particles = open_particles(
            tmp_path / f"{offset}.mrc", coordinates=tmp_path / "places.csv", box_nm=36, dark_protein=dark
        )
        grey = particles.read_with_grey(range(2), 12, 3.0)[1]
        scale = scale_of(particles, replace(particles))
        found.append(relative_grey(grey, *scale.query.T))
    assert torch.allclose(*found, atol=1e-3)
    brighter = (found[0][1] - found[0][0])[[0, 2]]  # the ramp rises with x; where protein is bright it is inverted
    assert (brighter > 0.3).all() if dark else (brighter < -0.3).all()


def test_classify_keeps_the_scale_of_a_tomogram_and_looks_at_its_background(tmp_path, encoder_path, tomogram):
    volume, table = tomogram(np.random.default_rng(3))
    write_mrc(tmp_path / "tomo.mrc", volume, 3.0)
    few = table.groupby("class").head(3)
    few.to_csv(tmp_path / "few.csv", index=False)
    table.drop(few.index).to_csv(tmp_path / "all.csv", index=False)
    support, query = (
        open_particles(tmp_path / "tomo.mrc", coordinates=tmp_path / name, label_column="class", dark_protein=True)
        for name in ("few.csv", "all.csv")
    )
    lines, truth = [], table.drop(few.index)["class"].to_numpy()
    settings = Settings(n_averaged=0, n_background=4)
    fitted = classify(support, query, tmp_path / "a", encoder_path=encoder_path, settings=settings, say=lines.append)
    assert (fitted.table["class"] == truth).mean() > 0.95
    assert any("fitted" in line and "units of each tomogram" in line for line in lines)
    assert len(fitted.background) == 2 and any("2 others are decoys" in line for line in lines)
    lines.clear()
    own = Settings(n_averaged=0, n_background=0, adapt=False)
    plain = classify(support, query, tmp_path / "b", encoder_path=encoder_path, settings=own, say=lines.append)
    assert plain.background is None and not any("fitted" in line or "decoys" in line for line in lines)
    np.testing.assert_allclose(plain.table["score"], fitted.table["score"], atol=1e-4)
    assert (fitted.table["p_value"] > plain.table["p_value"] - 1e-4).all(), "background can only make it higher"
    as_high = [
        ((fitted.background["class"] == name) & (fitted.background["score"] >= score)).mean()
        for name, score in fitted.table[["class", "score"]].itertuples(index=False)
    ]
    assert (fitted.table["p_value"] >= as_high).all()


class Files(list):
    """So many particles of files."""

    source, dark_protein = None, True

    def __init__(self, n):
        super().__init__(range(n))


def grey_of(means, contrasts):
    return torch.tensor([[m, c, 0.0] for m, c in zip(means, contrasts, strict=True)])


@pytest.mark.parametrize(
    ("spread", "ratio", "said"),
    [
        (0.155, 1.0, "as the files have them"),
        (0.145, 1.0, "support were normalised one by one"),
        (0.155, 1.49, "as the files have them"),
        (0.155, 1.51, "contrast of support and query differs (1.51 and 1)"),
        (0.155, 1 / 1.51, "contrast of support and query differs (0.662 and 1)"),
    ],
)
def test_scales_are_one_up_to_a_ratio_of_contrasts(spread, ratio, said):
    """Box means in deviations within a box, of the given spread; a particle that cannot be used does not count."""
    means = np.array([-1.0, 1.0, -1.0, 1.0]) * spread / np.std([-1, 1, -1, 1], ddof=1)
    support = grey_of([*means * ratio, np.nan], [ratio] * 5)
    query = grey_of(5 + means * 2, [1.0] * 4)
    particles = [Files(len(grey)) for grey in (support, query)]
    scale = common_grey_scale(*particles, support, query)
    assert said in scale.words
    if "files" in said:
        assert torch.equal(scale.support, torch.tensor([[float(query[:, 0].median()), 1.0]]).expand(5, 2).float())
        assert scale.query.shape == (4, 2)
        assert torch.equal(scale.of_background(Files(3)), scale.query[:1].expand(3, 2))
    else:
        assert scale.support is scale.query is scale.of_background(Files(3)) is None

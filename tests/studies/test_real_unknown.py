"""Unknown classes of a labelled tomogram, on numbers whose classes are known."""

from types import SimpleNamespace

import numpy as np
import torch
from studies.real_unknown import RealUnknown, unknown_frame, unknown_text

from cryo_fewshot.recognition.benchmark import LabelledTomogram


def test_decoys_keep_out_an_unknown_class_that_looks_like_them(calibration, particles, monkeypatch):
    """Of four classes one has no labels; background boxes are particles of it."""
    x, labels = particles(4, 3, n=80)
    features = torch.cat([x, torch.randn(len(x), 2, generator=torch.Generator().manual_seed(0))], dim=1)
    names, apart = np.unique(labels), np.arange(len(x))
    nearest = features[labels == names[3]]
    data = LabelledTomogram(
        labels=labels,
        tomograms=np.zeros(len(x), int),
        centres=np.column_stack([20 * apart, 0 * apart, 40 + 0 * apart]),  # one odd column, no two boxes overlap
        edge=10,
        features=features,
        widths=(1, 1),
        volumes=torch.zeros(len(x), 1, 1, 1),
        background=nearest[:40],
    )
    monkeypatch.setattr("studies.real_unknown.LABELLED", {"three": tuple(names[:3])})
    monkeypatch.setattr("studies.real_unknown.RIBOSOME", names[0])
    entry = {"spec": {"false_accept_rate": 0.05, "fdr": 0.1}}
    entry["result"] = RealUnknown(encoder="", boxes="", shots=(5,), n_draws=3).run(
        None, SimpleNamespace(calibration=calibration), data
    )
    without, with_background = entry["result"]["rows"]
    assert [row["background"] for row in (without, with_background)] == [False, True]
    assert with_background["false_accepts"] <= min(0.1, without["false_accepts"])
    assert with_background["kept"] > 0.9 and with_background["fdr"] <= 0.1 and with_background["unknown"] > 0.2
    assert len(unknown_frame(entry)) == 2 and "promises hold" in unknown_text(entry)
    broken = {"spec": entry["spec"], "result": {"rows": [row | {"fdr": 0.3} for row in entry["result"]["rows"]]}}
    assert "do not hold" in unknown_text(broken)

"""How far the share told from decoys depends on what was drawn."""

import numpy as np
import pytest
import torch
from studies import twins
from studies.twins import DecoyDraws, draws_text


class BrightIsReal:
    """Takes a volume for real where its middle is bright; all but one real particle is."""

    def __call__(self, volumes):
        return volumes[:, 4, 4, 4, None]

    def logits(self, support, queries):
        return torch.cat([queries, 1 - queries], dim=1)


def test_hits_are_counted_by_particle_and_the_interval_over_particles_is_theirs(monkeypatch):
    volumes = torch.zeros(8, 8, 8, 8)
    volumes[1:, 4, 4, 4] = 1
    monkeypatch.setattr(twins.spectra, "phase_randomised", lambda group, seed: torch.zeros_like(group))
    spec = DecoyDraws(encoder="", particles="", n_shot=2, n_phases=3, n_draws=20)
    found = spec.run(None, BrightIsReal(), volumes)
    assert found["by_particle"] == [0.5] + [1.0] * 7  # its decoy is right
    assert found["right"] == pytest.approx(15 / 16, abs=0.02)
    low, middle, high = found["particles"]
    assert low < middle < high == 1.0 and low == pytest.approx(13 / 16, abs=0.07)
    assert set(np.round(found["draws"], 3)) <= {0.917, 1.0}
    entry = {"spec": {"n_shot": 2, "n_phases": 3, "n_draws": 20}, "result": found}
    said = draws_text(entry, entry, target=0.9)
    assert "holds the 90%" in said and f"With 2 labelled ones it is {found['right']:.1%}" in said
    assert "right in 50%, 100%" in said and "does not hold the 50%" in draws_text(entry, target=0.5)

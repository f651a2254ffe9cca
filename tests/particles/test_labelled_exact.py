"""Of a labelled set, the volumes of the classes that are asked for."""

import pytest
import torch

from cryo_fewshot.particles.labelled import measured_data

pytest.importorskip("mrcfile")


@pytest.mark.parametrize(("names", "count"), [((0,), 9), ((1,), 9), ((1, 0), 2), ((0, 1), 1)])
def test_volumes_are_those_of_each_class_in_turn(names, count, classes):
    data = measured_data(classes, name="own", snr=0.1, split_sizes=(1, 1, 0), box=10)
    names = [data.class_names[i] for i in names]
    found = data.subtomograms({0.1: count}, names, "cpu")
    parts = [data.whole.volumes[data.whole.labels == data.class_names.index(name)][:count] for name in names]
    assert torch.equal(found.volumes, torch.cat(parts)) and found.class_names == tuple(names)
    assert found.labels.tolist() == [i for i, part in enumerate(parts) for _ in part]
    assert [data.count_of(name, count) for name in names] == [len(part) for part in parts]

"""Which classes each of the cross-fit trainings leaves out."""

from dataclasses import replace

import pytest
from studies.cell_trainings import cross_fit_specs, family_folds

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.pretraining import TEST_CLASSES, pretrained_spec
from cryo_fewshot.simulation.datasets import EMPTY
from cryo_fewshot.simulation.on_the_fly import homologous_family


def test_every_complex_is_left_out_once_with_its_family():
    spec = pretrained_spec()
    folds = cross_fit_specs(spec, 4)
    left_out = [name for fold in folds for name in fold.selection]
    assert sorted(left_out) == sorted({*spec.classes, *spec.selection} - {EMPTY})
    assert {len(fold.selection) for fold in folds} == {11, 12}
    test_families = set(map(homologous_family, TEST_CLASSES))
    for fold in folds:
        met, held = (set(map(homologous_family, names)) for names in (fold.classes, fold.selection))
        assert not met & held and not test_families & (met | held)
        assert EMPTY in fold.classes and set(fold.classes) | set(fold.selection) == {*spec.classes, *spec.selection}


def test_folds_are_the_same_for_the_same_seed_and_differ_with_it():
    spec = pretrained_spec()
    assert cross_fit_specs(spec) == cross_fit_specs(spec)
    assert cross_fit_specs(spec) != cross_fit_specs(replace(spec, seed=1))


@pytest.mark.parametrize("k", [1, 4])
def test_too_few_families_are_refused(k):
    with pytest.raises(UserError, match=f"k={k} parts of 3 families"):
        family_folds(("1PMA", "3IPM", "1OEL", "1BXN"), k)

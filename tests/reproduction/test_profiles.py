"""Profiles: what a word stands for, and parameters of notebooks as numbers."""

import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.profiles import (
    PAPER_SNRS,
    PROFILES,
    mix_34,
    mix_100,
    numbers,
    profile_named,
    single,
)


def test_the_paper_profile_has_the_papers_protocol():
    paper = profile_named("paper")
    assert paper.data.box == 40 and paper.data.voxel_size_nm == 1 and paper.data.n_per_class == 100
    assert paper.split_sizes == (10, 5, 8) and paper.n_query == 15 and paper.n_blocks == 4 and paper.width == 64
    assert paper.n_validation_episodes == 25 and paper.encoder_schedule.patience == 20
    assert paper.encoder_schedule.n_epochs == 100 and paper.encoder_schedule.steps_per_epoch == 25


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(
        UserError, match="profile 'fast' is unknown: use one of smoke, quick, cpu, extended, finished, paper"
    ):
        profile_named("fast")


def test_the_precision_of_a_published_profile_is_fixed_and_of_the_others_settled():
    assert {PROFILES[name].precision for name in ("cpu", "extended", "finished", "paper")} == {"bf16"}
    assert profile_named("quick").precision in ("fp32", "bf16")


def test_mixes_hold_the_samples_that_their_names_say():
    profile = profile_named("cpu")
    assert single(0.05, profile) == ((0.05, 100),)
    assert mix_100(profile) == tuple((snr, 100) for snr in PAPER_SNRS)
    assert mix_34(profile) == ((0.1, 34), (0.05, 33), (0.03, 33))


def test_parameters_that_are_no_numbers_are_refused():
    assert numbers("snrs", "0.1,0.05", float) == [0.1, 0.05]
    assert numbers("n_shot", 3, int) == [3]
    with pytest.raises(UserError, match=r"snrs='high': give numbers"):
        numbers("snrs", "high", float)

"""Evaluations as specs: heads, episodes, and what their result depends on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.evaluation_specs import FITS, WEIGHTS, Evaluation, keyword_defaults
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, spec_name
from cryo_fewshot.reproduction.training_specs import AdaptationRun
from cryo_fewshot.training import Schedule

from .conftest import RUN

SCHEDULE = Schedule(n_epochs=1, steps_per_epoch=2, learning_rate=1e-3)
ADAPTATION = AdaptationRun(encoder=RUN, schedule=SCHEDULE)
EVALUATION = Evaluation(encoder=RUN, head="prototype", snr=0.5, n_query=3, n_episodes=30)


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(Store(tmp_path_factory.mktemp("store")), torch.device("cpu"))


def test_counts_confusion_and_accuracy_say_the_same(runner):
    result = runner(EVALUATION)["result"]
    correct, confusion = np.array(result["n_correct"]), np.array(result["confusion"])
    assert result["n_queries"] == 15 and correct.shape == (30,)
    assert result["accuracy"] == pytest.approx(correct.mean() / 15)
    assert np.trace(confusion) == correct.sum() and confusion.sum() == 30 * 15
    predictions = EVALUATION.predictions(runner)
    assert (predictions == np.arange(5)[:, None]).sum(axis=(1, 2)).tolist() == result["n_correct"]


def test_all_methods_and_snrs_meet_the_same_episodes():
    same = [EVALUATION, replace(EVALUATION, snr=0.1), replace(EVALUATION, head="combined", adaptation=ADAPTATION)]
    assert len({evaluation.episodes().digest for evaluation in same}) == 1
    assert replace(EVALUATION, episode_seed=1).episodes().digest != EVALUATION.episodes().digest


@pytest.mark.parametrize("head", ["adapted", "combined", "product", "weighted", "z-scored", "finetuned", "cosine"])
def test_every_head_gives_a_way_to_each_query(runner, head):
    adaptation = None if head in ("finetuned", "cosine") else ADAPTATION
    result = runner(replace(EVALUATION, head=head, adaptation=adaptation))["result"]
    assert 0.1 < result["accuracy"] <= 1


def test_the_weight_of_the_adapted_distance_is_the_best_on_validation_episodes(runner, monkeypatch):
    scores = iter([0.2, 0.5, 0.4, 0.5, *[0.1] * 7])
    monkeypatch.setattr("cryo_fewshot.reproduction.evaluation_specs.mean_accuracy", lambda *_: next(scores))
    evaluation = replace(EVALUATION, head="weighted", adaptation=ADAPTATION)
    head, _ = evaluation._head(runner, evaluation.embeddings(runner))
    assert head.keywords == {"weight": WEIGHTS[1]}


def test_steps_and_rate_of_the_linear_layer_are_chosen_on_validation_episodes_of_the_tests_shots(runner, monkeypatch):
    tuned, looked_at = replace(EVALUATION, head="tuned", n_shot=1), []

    def scored(embeddings, episodes, head):
        looked_at.append(episodes)
        return float(head.keywords == {"n_steps": 50, "learning_rate": 3e-2})

    monkeypatch.setattr("cryo_fewshot.reproduction.evaluation_specs.mean_accuracy", scored)
    chosen = replace(tuned, head="finetuned", linear_fit=(50, 3e-2))
    assert tuned.run(runner)["n_correct"] == chosen.run(runner)["n_correct"]
    one_shot = replace(RUN, n_shot=1).validation_episodes(runner.volumes(RUN, "validation"))
    assert [episodes.digest for episodes in looked_at] == [one_shot.digest] * len(FITS)


def test_an_encoder_trained_on_is_the_one_that_embeds(runner):
    onwards = replace(ADAPTATION, loss="prototype", encoder_too=True, schedule=replace(SCHEDULE, learning_rate=1e-2))
    longer = replace(EVALUATION, adaptation=onwards)
    assert not torch.equal(longer.embeddings(runner), EVALUATION.embeddings(runner))
    assert torch.equal(longer.embeddings(runner, RUN), EVALUATION.embeddings(runner))


def test_settings_of_a_head_are_part_of_the_name(monkeypatch):
    baseline = replace(EVALUATION, head="finetuned")
    assert baseline.settings == {"n_steps": 100, "learning_rate": 1e-2, "seed": 0}
    assert EVALUATION.settings == {}
    name = spec_name(baseline)
    monkeypatch.setattr(
        "cryo_fewshot.reproduction.evaluation_specs.PLAIN_HEADS", {"finetuned": lambda a, b, *, n_steps=5: 0}
    )
    assert spec_name(baseline) != name


def test_keyword_defaults_leave_out_what_must_be_given():
    def head(support, queries, *, model, rate=0.1):
        return support

    assert keyword_defaults(head) == {"rate": 0.1} and keyword_defaults(None) == {}


def test_unknown_heads_and_missing_attention_are_refused(runner):
    with pytest.raises(UserError, match="head 'magic' is unknown: use one of prototype"):
        runner(replace(EVALUATION, head="magic"))
    with pytest.raises(UserError, match="head 'combined' needs an adaptation"):
        runner(replace(EVALUATION, head="combined"))

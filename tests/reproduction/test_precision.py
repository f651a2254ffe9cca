"""Training in bf16, and on a GPU without waiting for it."""

from dataclasses import replace

import pytest
import torch

from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.reproduction.evaluation_specs import Evaluation
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.training import Schedule

from .conftest import RUN


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_epoch_does_not_wait_for_the_gpu(tmp_path):
    runner = Runner(Store(tmp_path))
    run = replace(RUN, width=8, schedule=Schedule(n_epochs=1, steps_per_epoch=4))
    encoder = Encoder3D(12, 2, 8).to(runner.device).train()
    base = runner.volumes(run, "base")
    losses = run.episode_losses(encoder, base, epoch=0)
    next(losses)  # the epoch's episodes go to the device
    torch.cuda.set_sync_debug_mode("error")
    try:
        for loss in losses:
            loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_training_in_fp32_and_bf16_is_equally_accurate(tmp_path):
    runner, scores = Runner(Store(tmp_path), torch.device("cpu")), []
    schedule = Schedule(n_epochs=3, steps_per_epoch=8, learning_rate=1e-3)
    size = {"data": replace(RUN.data, n_per_class=20), "snr_counts": ((0.5, 20),), "width": 16, "n_query": 10}
    for precision in ("fp32", "bf16"):
        run = replace(RUN, **size, n_validation_episodes=20, schedule=schedule, precision=precision)
        evaluation = Evaluation(encoder=run, head="prototype", snr=0.5, n_query=10, n_episodes=200)
        scores.append(runner(evaluation)["result"])
    fp32, bf16 = scores
    assert fp32["episodes"] == bf16["episodes"]
    assert min(fp32["accuracy"], bf16["accuracy"]) > 0.4  # chance is 0.2
    # The intervals are those of the episodes drawn; two trainings of other seeds differ by some points more.
    assert abs(fp32["accuracy"] - bf16["accuracy"]) < fp32["ci95"] + bf16["ci95"] + 0.03

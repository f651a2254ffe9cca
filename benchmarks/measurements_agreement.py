"""What rounding changes: how many queries are predicted as from plain embeddings."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from engines import EMBED, EightBitEncoder, openvino_installed
from measuring import BOX, trained_like_encoder
from torch.nn.functional import normalize

from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.evaluation import predict
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.recognition.pretraining import TEST_CLASSES
from cryo_fewshot.reproduction.cells import encoder_run
from cryo_fewshot.reproduction.profiles import profile_named, single
from cryo_fewshot.reproduction.runner import open_runner
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.subtomograms import SubtomogramSet
from cryo_fewshot.weights import load_encoder

Chosen = Callable[[], tuple[str, Encoder3D, SubtomogramSet]]


def papers_encoder() -> tuple[str, Encoder3D, SubtomogramSet]:
    """A trained encoder of the published results where they are at hand, and test volumes for it."""
    profile = profile_named("cpu")
    runner, run = open_runner("cpu"), encoder_run(profile, single(0.1, profile), 5)
    if runner.store.get(run, with_tensors=True) is not None:
        return "trained", runner.encoder(run), runner.volumes(run, "novel")
    data = SimulatedData()
    return "initial", trained_like_encoder()[0], simulate_set(data, {0.1: 40}, data.class_names[10:18])


def pretrained_encoder() -> tuple[str, Encoder3D, SubtomogramSet]:
    """The encoder that comes with the package, and volumes of classes that it was not trained on."""
    data = SimulatedData(microscope=Microscope(binning=2))
    return "shipped", load_encoder()[0], simulate_set(data, {0.1: 100}, TEST_CLASSES)


def agreement(choose: Chosen, precision: str, engine: str = "torch", eight_bit: bool = False) -> dict:
    """Share of 10,000 queries that are predicted as from plain embeddings, accuracy of either, error of embeddings.

    Eight bits are adjusted on simulated volumes of other classes.
    """
    if engine == "openvino" and not openvino_installed():
        return {"not_run": "OpenVINO is not installed"}
    weights, encoder, particles = choose()
    episodes = sample_episodes(particles.labels, range(8), n_way=5, n_shot=5, n_query=20, n_episodes=100, seed=0)
    with torch.no_grad():
        plain = torch.cat([encoder.eval()(part) for part in particles.volumes.split(100)])  # nothing folded
    if eight_bit:
        data = SimulatedData(microscope=Microscope(binning=BOX // particles.volumes.shape[1]))
        encoder = EightBitEncoder(encoder, simulate_set(data, {0.1: 10}, data.class_names[:10]).volumes)
    fast = EMBED[engine](encoder, particles.volumes, precision)
    error = float(torch.linalg.norm(fast - plain) / torch.linalg.norm(plain))
    if weights == "shipped":  # as its users have them
        plain, fast = normalize(plain, dim=-1), normalize(fast, dim=-1)
    expected, found = (predict(embeddings, episodes, prototype_logits) for embeddings in (plain, fast))
    truth = np.arange(5)[None, :, None]
    return {
        "weights": weights,
        "queries": int(found.size),
        "equal": float(np.mean(found == expected)),
        "accuracy_reference": float(np.mean(expected == truth)),
        "accuracy": float(np.mean(found == truth)),
        "relative_error": error,
    }


# The names are those of stored results: "shipped" is the pretrained encoder.
_papers, _pretrained = partial(agreement, papers_encoder), partial(agreement, pretrained_encoder)
MEASUREMENTS = {
    "agreement_fp32": partial(_papers, "fp32"),
    "agreement_bf16": partial(_papers, "bf16"),
    "agreement_openvino_bf16": partial(_papers, "bf16", "openvino"),
    "agreement_openvino_eight_bit": partial(_papers, "bf16", "openvino", eight_bit=True),
    "agreement_shipped_bf16": partial(_pretrained, "bf16"),
    "agreement_shipped_openvino_bf16": partial(_pretrained, "bf16", "openvino"),
    "agreement_shipped_openvino_eight_bit": partial(_pretrained, "bf16", "openvino", eight_bit=True),
}

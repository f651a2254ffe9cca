"""On a GPU, where there is one: its limit, training, embedding, simulation."""

from functools import partial

import torch
from measurements_cpu import package_step, reference_step
from measuring import N_VOLUMES, repeated_on_gpu, trained_like_encoder

from cryo_fewshot.encoder import embed
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set


def arithmetic_bf16() -> dict:
    """The most that the device multiplies and adds."""

    def prepare():
        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        return lambda: a @ a

    result = repeated_on_gpu(prepare)
    return result | ({"tflops": 2 * 8192**3 / result["seconds"] / 1e12} if "seconds" in result else {})


def train_with_reference() -> dict:
    """A training step of the plain reference."""

    def prepare():
        torch.set_default_device("cuda")
        return reference_step()

    return repeated_on_gpu(prepare)


def train(precision: str) -> dict:
    """A training step of the package."""
    return repeated_on_gpu(lambda: package_step(precision, "cuda"))


def embed_bf16() -> dict:
    """A thousand volumes at a time."""

    def prepare():
        encoder, volumes = trained_like_encoder()
        encoder, volumes = encoder.to("cuda"), volumes.to("cuda").repeat(10, 1, 1, 1)
        return lambda: embed(encoder, volumes, "bf16")

    return repeated_on_gpu(prepare, per=10 * N_VOLUMES)


def simulate() -> dict:
    """A hundred subtomograms of every class."""
    data = SimulatedData()
    names = data.class_names
    return repeated_on_gpu(lambda: lambda: simulate_set(data, {0.1: 100}, names, "cuda"), 3, per=100 * len(names))


MEASUREMENTS = {
    "gpu_limit_arithmetic_bf16": arithmetic_bf16,
    "gpu_train_reference": train_with_reference,
    "gpu_train_fp32": partial(train, "fp32"),
    "gpu_train_bf16": partial(train, "bf16"),
    "gpu_embed_bf16": embed_bf16,
    "gpu_simulate_package": simulate,
}

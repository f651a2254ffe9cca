"""On a CPU: the machine's limits, embedding, training, evaluation, simulation, and streams of volumes."""

import resource
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import reference
import torch
from engines import EMBED, EightBitEncoder, openvino_installed
from measuring import BOX, DIM, HALF_BOX, N_VOLUMES, plain_copy, repeated, trained_like_encoder
from torch.nn import functional as F

from cryo_fewshot.adaptation import Adaptation, combined_logits
from cryo_fewshot.device import autocast, fast_precision, keep_freed_memory
from cryo_fewshot.encoder import Encoder3D, embed_stream
from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.evaluation import predict
from cryo_fewshot.protonet import prototype_logits


def matrix_product(dtype: torch.dtype) -> dict:
    """The most that the machine multiplies and adds."""
    a = torch.randn(2048, 2048).to(dtype)
    result = repeated(lambda: a @ a, 5)
    return result | {"tflops": 2 * 2048**3 / result["seconds"] / 1e12}


def arithmetic_fp32() -> dict:
    """As a convolution of 1x1x1, which another library computes: here its product is the faster one."""
    layer = torch.nn.Conv3d(2048, 2048, 1, bias=False).requires_grad_(False)
    layer.to(memory_format=torch.channels_last_3d)
    a = torch.randn(1, 2048, 1, 32, 64).to(memory_format=torch.channels_last_3d)
    product, convolution = matrix_product(torch.float32), repeated(lambda: layer(a), 5)
    convolution["tflops"] = 2 * 2048**3 / convolution["seconds"] / 1e12
    return max(product, convolution, key=lambda result: result["tflops"])


def memory_copy() -> dict:
    """Bytes read and written per second."""
    a, b = torch.zeros(2, 2**27).unbind()
    result = repeated(lambda: b.copy_(a), 5)
    return result | {"gb_per_second": 2 * a.nbytes / result["seconds"] / 1e9}


def embed_with_reference(box: int = BOX) -> dict:
    """Embedding by the plain reference."""
    encoder, volumes = trained_like_encoder(box)
    network = plain_copy(encoder)
    return repeated(lambda: reference.embed(network, volumes), 8, per=N_VOLUMES)


def embed(precision: str, n: int = N_VOLUMES, box: int = BOX, engine: str = "torch", eight_bit: bool = False) -> dict:
    """Embedding n volumes at a time, and the error relative to the reference's embeddings."""
    if engine == "openvino" and not openvino_installed():
        return {"not_run": "OpenVINO is not installed"}
    keep_freed_memory()
    encoder, volumes = trained_like_encoder(box)
    fast = EightBitEncoder(encoder, volumes[:20]) if eight_bit else encoder
    volumes = volumes[:n]
    embedded = partial(EMBED[engine], fast, volumes, precision)
    result = repeated(embedded, 5, per=n)
    expected, found = reference.embed(plain_copy(encoder), volumes), embedded()
    return result | {"relative_error": float(torch.linalg.norm(found - expected) / torch.linalg.norm(expected))}


def train_with_reference() -> dict:
    """A training step of the plain reference."""
    torch.manual_seed(0)
    return repeated(reference_step(), 4, per=100)


def reference_step() -> Callable[[], None]:
    """The reference's training step on one episode of 100 volumes, on torch's default device."""
    network, volumes = reference.encoder(), torch.randn(5, 20, BOX, BOX, BOX)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    return lambda: reference.training_step(network, optimizer, volumes[:, :5], volumes[:, 5:])


def package_step(precision: str, device: str = "cpu") -> Callable[[], None]:
    """The package's training step on one episode of 100 volumes, as its runner does it."""
    torch.manual_seed(0)
    encoder, volumes = Encoder3D(BOX).train().to(device), torch.randn(100, BOX, BOX, BOX, device=device)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-4)
    target = torch.arange(5, device=device).repeat_interleave(15)

    def step():
        with autocast(volumes.device, precision):
            embeddings = encoder(volumes).unflatten(0, (5, 20))
        loss = F.cross_entropy(prototype_logits(embeddings[:, :5], embeddings[:, 5:].flatten(0, 1)), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def train(precision: str) -> dict:
    """A training step of the package."""
    keep_freed_memory()
    return repeated(package_step(precision), 4, per=100)


def evaluate_with_reference() -> dict:
    """ProtoNet-CE on one episode, by the plain reference."""
    encoder, volumes = trained_like_encoder()
    network, attention = plain_copy(encoder), Adaptation(DIM)
    episode = volumes.unflatten(0, (10, 10))[:5].repeat(1, 2, 1, 1, 1)
    torch.manual_seed(0)
    return repeated(lambda: reference.combined_accuracy(network, attention, episode[:, :5], episode[:, 5:]), 2)


def evaluate() -> dict:
    """ProtoNet-CE on 10,000 episodes drawn from embeddings."""
    keep_freed_memory()
    torch.manual_seed(0)
    model, embeddings = Adaptation(DIM), torch.randn(800, DIM)
    labels = np.repeat(np.arange(8), 100)
    episodes = sample_episodes(labels, range(8), n_way=5, n_shot=5, n_query=15, n_episodes=10_000, seed=0)

    def predicted():
        with torch.no_grad():
            predict(model.project(embeddings), episodes, partial(combined_logits, model))

    return repeated(predicted, 2, per=len(episodes))


def simulate() -> dict:
    """Twenty subtomograms of every class."""
    from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set  # as in `measuring`

    keep_freed_memory()
    data = SimulatedData()
    names = data.class_names
    return repeated(lambda: simulate_set(data, {0.1: 20}, names), 3, per=20 * len(names))


def stream(n: int, stub: bool = False) -> dict:
    """Volumes of 20^3, made batch by batch and forgotten after embedding.

    The stub is an encoder of one block and one channel on 8^3, which leaves the cost of everything else.
    The peak memory at a hundredth of the way and at the end: equal where the stream runs in constant memory.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    encoder = Encoder3D(8, 1, 1).eval() if stub else Encoder3D(HALF_BOX, 3).eval()
    size = 50
    batch = torch.randn(size, *(encoder.box,) * 3)
    precision = "fp32" if stub else fast_precision()
    next(iter(embed_stream(encoder, [batch], precision)))  # the start is not counted
    started, peaks = time.perf_counter(), []
    for number, _ in enumerate(embed_stream(encoder, (batch.clone() for _ in range(n // size)), precision)):
        if number in (n // size // 100, n // size - 1):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    return {"seconds": (time.perf_counter() - started) / n, "early_peak_gb": peaks[0], "late_peak_gb": peaks[-1]}


_openvino = partial(embed, engine="openvino")
MEASUREMENTS = {
    "limit_arithmetic_fp32": arithmetic_fp32,
    "limit_arithmetic_bf16": partial(matrix_product, torch.bfloat16),
    "limit_memory_copy": memory_copy,
    "embed_reference": embed_with_reference,
    "embed_reference_20": partial(embed_with_reference, HALF_BOX),
    "embed_fp32": partial(embed, "fp32"),
    "embed_bf16": partial(embed, "bf16"),
    "embed_bf16_one_by_one": partial(embed, "bf16", n=1),
    "embed_bf16_20": partial(embed, "bf16", box=HALF_BOX),
    "embed_openvino_fp32": partial(_openvino, "fp32"),
    "embed_openvino_bf16": partial(_openvino, "bf16"),
    "embed_openvino_bf16_one_by_one": partial(_openvino, "bf16", n=1),
    "embed_openvino_bf16_20": partial(_openvino, "bf16", box=HALF_BOX),
    "embed_openvino_eight_bit": partial(_openvino, "bf16", eight_bit=True),
    "embed_openvino_eight_bit_20": partial(_openvino, "bf16", box=HALF_BOX, eight_bit=True),
    "train_reference": train_with_reference,
    "train_fp32": partial(train, "fp32"),
    "train_bf16": partial(train, "bf16"),
    "evaluate_reference": evaluate_with_reference,
    "evaluate_package": evaluate,
    "simulate_package": simulate,
    "stream_1000": partial(stream, 1_000),
    "stream_10000": partial(stream, 10_000),
    "stream_100000": partial(stream, 100_000),
    "stream_stub_1000": partial(stream, 1_000, stub=True),
    "stream_stub_1000000": partial(stream, 1_000_000, stub=True),
}

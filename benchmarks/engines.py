"""OpenVINO as an optional engine for embedding on a CPU (extra [engine]); the same network, other machine code."""

import copy
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import nn

from cryo_fewshot.encoder import Encoder3D, FoldedBlock, embed
from cryo_fewshot.errors import UserError
from cryo_fewshot.fused import at_a_time

_HINTS = {"fp32": "f32", "bf16": "bf16"}


def openvino_installed() -> bool:
    """Whether the optional engine can be imported; nothing of it is imported here."""
    return find_spec("openvino") is not None


@torch.no_grad()
def openvino_embed(encoder, volumes: torch.Tensor, precision: str = "fp32", chunk: int | None = None) -> torch.Tensor:
    """`cryo_fewshot.encoder.embed` computed by OpenVINO, within rounding of it; on a CPU only."""
    network = _compiled(encoder, tuple(volumes.shape[1:]), precision, torch.get_num_threads())
    parts = volumes.float().split(chunk or at_a_time(volumes, 1))
    return torch.cat([torch.from_numpy(network(part.contiguous().numpy())[0]) for part in parts])


EMBED = {"torch": embed, "openvino": openvino_embed}
"""What embeds volumes, by the name of its engine."""


@lru_cache(maxsize=4)
def _compiled(encoder: torch.nn.Module, shape: tuple[int, ...], precision: str, threads: int) -> Callable:
    """An encoder for volumes `(n, *shape)`, with the weights of its first call; in 'bf16' it rounds less than torch."""
    from openvino import Core, convert_model

    model = convert_model(encoder.folded(), example_input=torch.zeros(2, *shape))
    model.reshape([-1, *shape])
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    return Core().compile_model(model, "CPU", settings)


class EightBitEncoder(nn.Module):
    """An encoder in evaluation form whose second block multiplies eight-bit integers where the engine can.

    OpenVINO gains by it; torch computes the same rounding, as slowly as without. `embed` takes it as any encoder.

    Parameters
    ----------
    encoder : with a folded form of at least two blocks
    volumes : `(n, d, h, w)`, about a hundred like those to be embedded. Embeddings depend on them: a set that is
        embedded in parts needs the same ones for all parts.
    """

    @torch.no_grad()
    def __init__(self, encoder: Encoder3D, volumes: torch.Tensor):
        super().__init__()
        self.network = encoder.folded()
        if len(self.network.blocks) < 2:
            raise UserError("the encoder has a single block: eight bits are for the second one")
        first, second = self.network.blocks[:2]
        features = first(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
        self.network.blocks[1] = EightBitBlock(second, features)
        self.requires_grad_(False)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, d, h, w)` as `(n, embedding_dim)` float32."""
        return self.network(volumes)

    def folded(self) -> "EightBitEncoder":
        """A copy: this is the evaluation form already."""
        return copy.deepcopy(self)


class EightBitBlock(FoldedBlock):
    """A block that rounds weights and features to multiples of a step, and takes the mean error off its bias.

    The bias: Nagel et al. 2019, arXiv:1906.04721. Steps with less squared error, which cut off the largest features,
    and features brought to one size were worse or no better (benchmarks/NOTES.md).

    Parameters
    ----------
    block : in evaluation form
    features : what it is given, `(n, channels, d, h, w)`, not negative
    """

    @torch.no_grad()
    def __init__(self, block: FoldedBlock, features: torch.Tensor):
        nn.Module.__init__(self)
        self.weight, self.bias = block.weight, nn.Parameter(block.bias.clone())
        self.register_buffer("steps", (self.weight.abs().amax((1, 2, 3, 4)) / 127).clamp_min(1e-30))
        self.step = max(float(features.max()) / 255, 1e-30)
        error = self.before_relu(features) - block.before_relu(features)
        self.bias -= error.mean((0, 2, 3, 4))

    def before_relu(self, features: torch.Tensor) -> torch.Tensor:
        """What ReLU is applied to."""
        zeros = torch.zeros_like(self.steps, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(self.weight.float(), self.steps.float(), zeros, 0, -127, 127)
        rounded = torch.fake_quantize_per_tensor_affine(features.float(), self.step, 0, 0, 255)
        return self.pooled(rounded.to(features.dtype), weight.to(features.dtype)) + self.bias.view(-1, 1, 1, 1)

"""The 3D encoder of ProtoNet3D, and its folded form for fast inference."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .engines import ENGINES, openvino_network, settled
from .errors import UserError

aten = torch.ops.aten


class NormPoolReLU(torch.autograd.Function):
    """BatchNorm of a batch, MaxPool(2) and ReLU as one step of training, for a CPU: torch's own kernels, less memory.

    Bit for bit what the three layers compute, forward and backward. Two things differ. Pooling keeps the number format
    of its input, where autocast would widen a bf16 volume to fp32 first, which changes no value. And the normalised
    volume and the places of the maxima are freed as soon as they are of no more use.
    """

    @staticmethod
    def forward(ctx, features, weight, bias, running_mean, running_var, momentum: float, eps: float):
        with torch.autocast(features.device.type, enabled=False):
            normed, mean, inverse_std = aten.native_batch_norm(
                features, weight, bias, running_mean, running_var, True, momentum, eps
            )
            pooled, places = aten.max_pool3d_with_indices(normed, [2, 2, 2], [2, 2, 2])
        del normed
        result = pooled.relu_()
        ctx.save_for_backward(features, weight, mean, inverse_std, result)
        ctx.eps, ctx.places = eps, places
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        features, weight, mean, inverse_std, result = ctx.saved_tensors
        places, ctx.places = ctx.places, None
        gradient = aten.threshold_backward(gradient, result, 0)
        # Of its second argument, this reads the shape only.
        gradient = aten.max_pool3d_with_indices_backward(
            gradient, features, [2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1], False, places
        )
        del places
        gradients = aten.native_batch_norm_backward(
            gradient, features, weight, None, None, mean, inverse_std, True, ctx.eps, [True] * 3
        )
        return *gradients, None, None, None, None


class ConvBlock(nn.Sequential):
    """Conv3d(3x3x3) - BatchNorm - MaxPool(2) - ReLU.

    The paper writes ReLU before the pooling; the two commute exactly, and ReLU after it touches an eighth of the
    voxels.
    """

    def __init__(self, in_channels: int, width: int):
        super().__init__(
            nn.Conv3d(in_channels, width, kernel_size=3, padding=1),
            nn.BatchNorm3d(width),
            nn.MaxPool3d(2),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(n, channels, d, h, w)` to `(n, width, d // 2, h // 2, w // 2)`."""
        convolution, norm, pool, relu = self
        features = convolution(features)
        # In fp32 the freed buffers are large enough to go back to the system, and to be asked for again: half as fast.
        if features.device.type != "cpu" or features.dtype != torch.bfloat16 or not self.training:
            return relu(pool(norm(features)))
        norm.num_batches_tracked.add_(1)
        return NormPoolReLU.apply(
            features, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps
        )


class Encoder3D(nn.Module):
    """ConvBlocks, then flatten (Li et al. 2020, "Implementation details").

    Parameters
    ----------
    box : edge of the cubic input in voxels
    n_blocks : four in the paper, whose 40^3 input ends as 64 channels of 2^3: 512 dimensions
    width : channels of each block
    """

    def __init__(self, box: int = 40, n_blocks: int = 4, width: int = 64):
        super().__init__()
        if box >> n_blocks < 1:
            raise UserError(f"box={box} is too small for n_blocks={n_blocks} halvings: use fewer blocks")
        self.box, self.n_blocks, self.width = box, n_blocks, width
        self.blocks = nn.Sequential(*(ConvBlock(1 if i == 0 else width, width) for i in range(n_blocks)))
        self.to(memory_format=torch.channels_last_3d)

    @property
    def embedding_dim(self) -> int:
        return self.width * (self.box >> self.n_blocks) ** 3

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, box, box, box)` as `(n, embedding_dim)` float32."""
        if volumes.shape[1:] != (self.box,) * 3:
            raise UserError(f"volumes of shape {tuple(volumes.shape[1:])}: this encoder takes boxes of {self.box}^3")
        features = self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
        return features.contiguous().flatten(1).float()

    def folded(self) -> "FoldedEncoder":
        """The encoder in evaluation form."""
        return FoldedEncoder(self)


class FoldedEncoder(nn.Module):
    """The encoder in evaluation form: BatchNorm folded into the convolution, its bias added after the pooling.

    Same result as `Encoder3D.eval()` up to rounding, as adding a per-channel constant and ReLU commute with max.
    """

    def __init__(self, encoder: Encoder3D):
        super().__init__()
        weights, biases = [], []
        for convolution, norm, _, _ in encoder.blocks:
            scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
            weights.append(convolution.weight.detach() * scale.view(-1, 1, 1, 1, 1))
            biases.append(norm.bias.detach() + scale * (convolution.bias.detach() - norm.running_mean))
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)
        self.requires_grad_(False).to(memory_format=torch.channels_last_3d)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, d, h, w)` as `(n, embedding_dim)` float32."""
        features = volumes[:, None].contiguous(memory_format=torch.channels_last_3d)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            features = nn.functional.conv3d(features, weight, padding=1)
            features = nn.functional.max_pool3d(features, 2)
            features = torch.relu(features + bias.view(-1, 1, 1, 1))
        return features.contiguous().flatten(1).float()


@torch.no_grad()
def embed(
    encoder: Encoder3D,
    volumes: torch.Tensor,
    precision: str = "fp32",
    chunk: int | None = None,
    engine: str = "torch",
) -> torch.Tensor:
    """Embed volumes `(n, d, h, w)` with the encoder in evaluation form: `(n, embedding_dim)` float32, same device.

    Parameters
    ----------
    precision : 'fp32' or 'bf16'
    chunk : volumes at a time; small on a CPU, so that activations stay in cache, and large on a GPU
    engine : 'torch', whose results are those that the book stores; 'openvino', which agrees within rounding; or
        'auto', the latter where it is installed. What is not to be had falls back to torch and is logged once.
    """
    return torch.cat(list(embed_stream(encoder, [volumes], precision, chunk, engine)))


@torch.no_grad()
def embed_stream(
    encoder: Encoder3D,
    batches: Iterable[torch.Tensor],
    precision: str = "fp32",
    chunk: int | None = None,
    engine: str = "torch",
) -> Iterator[torch.Tensor]:
    """Embed batches of volumes one after the other, in constant memory: yields `(n, embedding_dim)` for each."""
    for name, value, known in (("precision", precision, ("fp32", "bf16")), ("engine", engine, ENGINES)):
        if value not in known:
            raise UserError(f"{name}='{value}' is unknown: use one of {', '.join(known)}")
    forward = None
    for batch in batches:
        forward = forward or _network(encoder, batch, precision, engine)
        size = chunk or (1024 if batch.is_cuda else 4 * max(1, 40**3 // batch[0].numel()))
        yield torch.cat([forward(part) for part in batch.split(size)])


def _network(encoder: Encoder3D, batch: torch.Tensor, precision: str, engine: str) -> Callable:
    """What embeds a chunk of volumes like those of the batch."""
    folded = encoder.folded().to(batch.device)
    if settled(engine, batch.device) == "openvino":
        return openvino_network(folded, tuple(batch.shape[1:]), precision)
    number_format = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    folded = folded.to(number_format)
    return lambda volumes: folded(volumes.to(number_format))

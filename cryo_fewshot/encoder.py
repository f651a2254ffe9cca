"""The 3D encoders, in the form that is trained and folded for inference, and the embedding of volumes."""

import copy
from collections.abc import Iterable, Iterator
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from .errors import UserError
from .fused import NormPoolReLU, at_a_time, block_of_volumes


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
        if self.training and convolution.in_channels == 1 and not features.requires_grad:
            norm.num_batches_tracked.add_(1)
            return block_of_volumes(convolution, norm, features)
        features = convolution(features)
        if features.device.type != "cpu" or not self.training:
            return relu(pool(norm(features)))
        norm.num_batches_tracked.add_(1)
        return NormPoolReLU.apply(
            features, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps
        )


class FoldedBlock(nn.Module):
    """A ConvBlock in evaluation: BatchNorm folded into the convolution, whose bias is added after the pooling.

    Same result up to rounding, as adding a per-channel constant and ReLU commute with max.
    """

    def __init__(self, convolution: nn.Conv3d, norm: nn.BatchNorm3d):
        super().__init__()
        both = folded(convolution, norm)
        self.weight, self.bias = both.weight, both.bias

    def before_relu(self, features: torch.Tensor) -> torch.Tensor:
        """The block without its ReLU."""
        return self.pooled(features, self.weight) + self.bias.view(-1, 1, 1, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(n, channels, d, h, w)` to `(n, width, d // 2, h // 2, w // 2)`."""
        return torch.relu(self.before_relu(features))

    @staticmethod
    def pooled(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Convolution and pooling, without bias."""
        # One volume of one channel comes out row-major in fp32, whose pooling takes ten times as long.
        features = F.conv3d(features, weight, padding=1).contiguous(memory_format=torch.channels_last_3d)
        return F.max_pool3d(features, 2)


@torch.no_grad()
def folded(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> nn.Conv3d:
    """The convolution that does what a convolution and its BatchNorm do in evaluation."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    both = copy.deepcopy(convolution)
    both.weight.copy_(convolution.weight * scale.view(-1, 1, 1, 1, 1))
    both.bias.copy_(norm.bias + scale * (convolution.bias - norm.running_mean))
    return both


class _Encoder(nn.Module):
    """What both encoders share: `blocks` that halve a box, and a form for evaluation."""

    box: int
    blocks: nn.Sequential

    def features(self, volumes: torch.Tensor) -> torch.Tensor:
        """What the blocks make of volumes `(n, box, box, box)`: `(n, channels, d, d, d)`."""
        if volumes.shape[1:] != (self.box,) * 3:
            raise UserError(f"volumes of shape {tuple(volumes.shape[1:])}: this encoder takes boxes of {self.box}^3")
        return self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))

    def folded(self) -> Self:
        """A copy for evaluation, BatchNorm folded into the convolutions: `eval()` up to rounding."""
        copied = copy.deepcopy(self).eval()
        copied.blocks = nn.Sequential(*(FoldedBlock(block[0], block[1]) for block in self.blocks))
        return copied.requires_grad_(False).to(memory_format=torch.channels_last_3d)


class Encoder3D(_Encoder):
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
        return self.features(volumes).contiguous().flatten(1).float()


class PooledEncoder3D(_Encoder):
    """ConvBlocks that halve the box, a plain and a residual convolution at the coarsest grid, global average pooling.

    Parameters
    ----------
    box : edge of the cubic input in voxels
    widths : channels of each ConvBlock, and last those of the coarsest grid, the dimension of the embedding

    With box 20 and widths (32, 64, 128) a volume takes 145 million multiplications, with `Encoder3D(20, 3)` 138.
    """

    def __init__(self, box: int = 20, widths: tuple[int, ...] = (32, 64, 128)):
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise UserError(f"widths={widths}: give channels for at least one block and for the coarsest grid")
        if box >> (len(widths) - 1) < 1:
            raise UserError(f"box={box} is too small for {len(widths) - 1} halvings: give fewer widths")
        self.box, self.widths = box, tuple(widths)
        *halving, last = self.widths
        self.blocks = nn.Sequential(*(ConvBlock(*pair) for pair in zip([1, *halving[:-1]], halving, strict=True)))
        self.coarse = nn.ModuleList(
            nn.Sequential(nn.Conv3d(width, last, kernel_size=3, padding=1), nn.BatchNorm3d(last))
            for width in (halving[-1], last)
        )
        self.to(memory_format=torch.channels_last_3d)

    @property
    def embedding_dim(self) -> int:
        return self.widths[-1]

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, box, box, box)` as `(n, embedding_dim)` float32."""
        widened, residual = self.coarse
        features = torch.relu(widened(self.features(volumes)))
        features = torch.relu(features + residual(features))
        return features.float().mean((2, 3, 4))

    def folded(self) -> Self:
        """As of `Encoder3D`; each layer of the coarsest grid becomes one convolution too."""
        copied = super().folded()
        copied.coarse = nn.ModuleList(folded(*pair) for pair in self.coarse)
        return copied.requires_grad_(False).to(memory_format=torch.channels_last_3d)


@torch.no_grad()
def embed(encoder: Encoder3D, volumes: torch.Tensor, precision: str = "fp32", chunk: int | None = None) -> torch.Tensor:
    """Embed volumes `(n, d, h, w)` with the encoder in evaluation form: `(n, embedding_dim)` float32, same device.

    Parameters
    ----------
    encoder : `Encoder3D`, or any other that has a folded form
    precision : 'fp32' or 'bf16'
    chunk : volumes at a time; small on a CPU, so that activations stay in cache, and large on a GPU
    """
    return torch.cat(list(embed_stream(encoder, [volumes], precision, chunk)))


@torch.no_grad()
def embed_stream(
    encoder: Encoder3D, batches: Iterable[torch.Tensor], precision: str = "fp32", chunk: int | None = None
) -> Iterator[torch.Tensor]:
    """Embed batches of volumes one after the other, in constant memory: yields `(n, embedding_dim)` for each."""
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if precision not in formats:
        raise UserError(f"precision='{precision}' is unknown: use one of {', '.join(formats)}")
    folded = None
    for batch in batches:
        if folded is None:
            folded = encoder.folded().to(batch.device).to(formats[precision])
        parts = batch.split(chunk or at_a_time(batch, 4))
        yield torch.cat([folded(part.to(formats[precision])) for part in parts])

"""An encoder of the same cost as the paper's whose embedding is a mean over positions.

A pose and a shift change where features lie, not which there are, so the mean over positions keeps what tells classes
apart and drops most of what does not. The arithmetic that the paper spends on the finest grids is spent on channels of
the coarsest one.
"""

import torch
from torch import nn

from .block import ConvBlock, FoldedBlock, folded
from .errors import UserError


class PooledEncoder3D(nn.Module):
    """ConvBlocks that halve the box, a convolution and a residual one at the coarsest grid, the mean over positions.

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
        self.coarse = nn.ModuleList(_convolution_and_norm(n, last) for n in (halving[-1], last))
        self.to(memory_format=torch.channels_last_3d)

    @property
    def embedding_dim(self) -> int:
        return self.widths[-1]

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, box, box, box)` as `(n, embedding_dim)` float32."""
        if volumes.shape[1:] != (self.box,) * 3:
            raise UserError(f"volumes of shape {tuple(volumes.shape[1:])}: this encoder takes boxes of {self.box}^3")
        features = self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
        widened, residual = self.coarse
        features = torch.relu(widened(features))
        features = torch.relu(features + residual(features))
        return features.float().mean((2, 3, 4))

    def folded(self) -> "FoldedPooledEncoder":
        """The encoder in evaluation form."""
        return FoldedPooledEncoder(self)


class FoldedPooledEncoder(nn.Module):
    """The encoder in evaluation form, as `encoder.FoldedEncoder` is for the paper's: BatchNorm folded away."""

    def __init__(self, encoder: PooledEncoder3D):
        super().__init__()
        self.blocks = nn.Sequential(*(FoldedBlock(block[0], block[1]) for block in encoder.blocks))
        self.widened, self.residual = (nn.ParameterList(folded(*pair)) for pair in encoder.coarse)
        self.requires_grad_(False).to(memory_format=torch.channels_last_3d)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, d, h, w)` as `(n, embedding_dim)` float32."""
        features = self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
        features = torch.relu(nn.functional.conv3d(features, *self.widened, padding=1))
        features = torch.relu(features + nn.functional.conv3d(features, *self.residual, padding=1))
        return features.float().mean((2, 3, 4))


def _convolution_and_norm(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(in_channels, width, kernel_size=3, padding=1), nn.BatchNorm3d(width))

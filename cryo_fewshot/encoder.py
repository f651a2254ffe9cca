"""The 3D encoder of ProtoNet3D, and its folded form for fast inference."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from .errors import UserError


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
def embed(encoder: Encoder3D, volumes: torch.Tensor, precision: str = "fp32", chunk: int | None = None) -> torch.Tensor:
    """Embed volumes `(n, d, h, w)` with the encoder in evaluation form: `(n, embedding_dim)` float32, same device.

    Chunks are small on a CPU, so that activations stay in cache, and large on a GPU.
    """
    return torch.cat(list(embed_stream(encoder, [volumes], precision, chunk)))


@torch.no_grad()
def embed_stream(
    encoder: Encoder3D, batches: Iterable[torch.Tensor], precision: str = "fp32", chunk: int | None = None
) -> Iterator[torch.Tensor]:
    """Embed batches of volumes one after the other, in constant memory: yields `(n, embedding_dim)` for each."""
    number_format = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    folded = None
    for batch in batches:
        if folded is None:
            folded = FoldedEncoder(encoder).to(batch.device, number_format)
        size = chunk or (1024 if batch.is_cuda else 4 * max(1, 40**3 // batch[0].numel()))
        yield torch.cat([folded(part.to(number_format)) for part in batch.split(size)])

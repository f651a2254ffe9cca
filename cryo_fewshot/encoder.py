"""The 3D encoder of ProtoNet3D, and its folded form for fast inference."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from .block import ConvBlock, FoldedBlock, at_a_time
from .engines import ENGINES, openvino_network, settled
from .errors import UserError


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
    """The encoder in evaluation form, BatchNorm folded into the convolutions: `Encoder3D.eval()` up to rounding."""

    def __init__(self, encoder: Encoder3D):
        super().__init__()
        self.blocks = nn.Sequential(*(FoldedBlock(block[0], block[1]) for block in encoder.blocks))
        self.requires_grad_(False).to(memory_format=torch.channels_last_3d)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, d, h, w)` as `(n, embedding_dim)` float32."""
        features = self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
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
    encoder : `Encoder3D`, or any other that has a folded form
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
        if forward is None:
            in_openvino = settled(engine, batch.device) == "openvino"
            forward = _network(encoder, batch, precision, in_openvino)
            size = chunk or at_a_time(batch, 1 if in_openvino else 4)
        yield torch.cat([forward(part) for part in batch.split(size)])


def _network(encoder: Encoder3D, batch: torch.Tensor, precision: str, in_openvino: bool) -> Callable:
    """What embeds a chunk of volumes like those of the batch."""
    folded = encoder.folded().to(batch.device)
    if in_openvino:
        return openvino_network(folded, tuple(batch.shape[1:]), precision)
    number_format = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    folded = folded.to(number_format)
    return lambda volumes: folded(volumes.to(number_format))

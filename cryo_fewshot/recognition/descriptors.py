"""Plain numbers of a particle beside its embedding: radial profile, power per Fourier shell, and grey values."""

import torch

from ..fourier import distances

GREY = 3
"""Numbers of a particle's grey values, see `Particles.read_with_grey`."""


def descriptors(volumes: torch.Tensor) -> torch.Tensor:
    """Radial profile and log power of standardised volumes `(n, b, b, b)`: `(n, b - 3)` float32.

    First the means over shells of radius 0 to b // 2 - 2 voxels about the centre, then the logarithm of the mean power
    in Fourier shells 1 to b // 2 - 2. A dozen such numbers tell much of what is seen at 3 nm, and an encoder that was
    trained on simulated particles does not hold all of it.
    """
    box = volumes.shape[-1]
    n_shells = box // 2 - 1
    full, half = torch.fft.fftfreq(box) * box, torch.fft.rfftfreq(box) * box
    frequencies = (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2).sqrt()
    power = torch.fft.rfftn(volumes.cpu(), dim=(1, 2, 3)).abs().square()
    profile = _shell_means(volumes.cpu(), distances(box), n_shells)
    return torch.cat([profile, _shell_means(power, frequencies, n_shells)[:, 1:].clamp(min=1e-9).log()], dim=1)


def log_power(numbers: torch.Tensor) -> torch.Tensor:
    """The columns of `descriptors` that are the power per Fourier shell."""
    return numbers[:, -((numbers.shape[1] - 1) // 2) :]


def relative_grey(grey: torch.Tensor, centre: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Grey values `(n, 3)` of boxes in standard deviations of their tomograms; centre, spread `(n,)` of these.

    Mean and middle count from the tomogram's mean; of the boxes' own spread the logarithm is taken.
    """
    mean, deviation, middle = grey.T
    log_spread = (deviation / spread).clamp(min=1e-6).log()
    return torch.stack([(mean - centre) / spread, log_spread, (middle - centre) / spread], dim=1)


def _shell_means(values: torch.Tensor, radii: torch.Tensor, n_shells: int) -> torch.Tensor:
    """Means of `(n, ...)` over the shells of radius 0 to n_shells - 1, `(n, n_shells)`."""
    shells = radii.round().long().flatten()
    masks = torch.stack([(shells == shell).float() for shell in range(n_shells)], dim=1)
    return values.flatten(1) @ (masks / masks.sum(0))

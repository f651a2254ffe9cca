"""Lipid bilayers as sheets of beads: flat, bent to a tube, or closed to a vesicle."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

REACH_NM = 48.0
"""Radius of a sheet along itself: a vesicle of 15 nm closes, a flat sheet leaves every box."""
LEAFLET_KDA_PER_NM2 = 0.8
"""Protein that scatters, beyond water, about as much as a square nanometre of lipid heads does."""
_N_BEADS = 2400


@dataclass(frozen=True)
class Sheets:
    """m bilayers, each in its own frame.

    owner `(m,)` : sample that each lies in; foot_nm `(m, 3)` : point of the middle surface that the frame starts from,
    zyx from the centre of the box; frame `(m, 3, 3)` : columns are two tangents and the normal there, zyx;
    curvature_per_nm `(m,)` : 1 / radius, positive where the sheet bends towards its normal, never 0; is_tube `(m,)` :
    bent along the first tangent only; thickness_nm `(m,)` between the leaflets; contrast `(m,)`, 1 for lipid heads as
    `LEAFLET_KDA_PER_NM2`.
    """

    owner: np.ndarray
    foot_nm: np.ndarray
    frame: np.ndarray
    curvature_per_nm: np.ndarray
    is_tube: np.ndarray
    thickness_nm: np.ndarray
    contrast: np.ndarray

    def __len__(self) -> int:
        return len(self.owner)

    def beads(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Positions `(b, 3)` zyx in nm, masses `(b,)` in kDa and samples `(b,)` of all leaflets' beads."""
        sheet = _disc(str(device)).expand(len(self), -1, -1)
        place, normal, area = self._surface(sheet)
        half = 0.5 * self._on(device, self.thickness_nm)[:, None, None] * normal
        positions = torch.stack([place - half, place + half], dim=1)
        mass = math.pi * REACH_NM**2 / _N_BEADS * LEAFLET_KDA_PER_NM2 * self._on(device, self.contrast)
        masses = (mass[:, None] * area)[:, None].expand(-1, 2, -1)
        owner = torch.as_tensor(self.owner, device=device)[:, None, None].expand_as(masses)
        return positions.flatten(0, 2), masses.flatten(), owner.flatten()

    def points(self, which: np.ndarray, along_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the middle surfaces and the normals there, `(p, 3)` zyx each.

        which `(p,)` : sheets; along_nm `(p, 2)` : distances from the foot along the two tangents, on the sheet
        """
        chosen = Sheets(**{name: value[which] for name, value in vars(self).items()})
        place, normal, _ = chosen._surface(torch.from_numpy(along_nm).float()[:, None])
        return place[:, 0].numpy(), normal[:, 0].numpy()

    def _surface(self, along: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Points and normals `(m, b, 3)` zyx, and area for area of the flat sheet `(m, b)`, of places `(m, b, 2)`."""
        device = along.device
        curvature = self._on(device, self.curvature_per_nm)[:, None]
        tube = torch.as_tensor(self.is_tube, device=device)[:, None]
        u, v = along.unbind(-1)
        length = torch.where(tube, u.abs(), along.norm(dim=-1)).clamp(min=1e-6)
        angle = curvature * length
        across, height = angle.sin() / curvature, (1 - angle.cos()) / curvature
        # A bent direction is shortened by across / length; a tube keeps the other as it is.
        shrink = across / length
        local = torch.stack([u * shrink, torch.where(tube, v, v * shrink), height], dim=-1)
        lean = -angle.sin() / length
        normal = torch.stack([u * lean, torch.where(tube, 0.0, v * lean), angle.cos()], dim=-1)
        area = torch.where(tube, 1.0, shrink) * (angle.abs() < math.pi)
        frame = self._on(device, self.frame).transpose(1, 2)
        return local @ frame + self._on(device, self.foot_nm)[:, None], normal @ frame, area

    @staticmethod
    def _on(device: torch.device | str, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)


@lru_cache(maxsize=4)
def _disc(device: str) -> torch.Tensor:
    """Places `(1, _N_BEADS, 2)` in nm that fill a disc evenly, as the seeds of a sunflower."""
    index = torch.arange(_N_BEADS, dtype=torch.float64) + 0.5
    radius, angle = REACH_NM * (index / _N_BEADS).sqrt(), index * math.pi * (3 - 5**0.5)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).float()[None].to(device)

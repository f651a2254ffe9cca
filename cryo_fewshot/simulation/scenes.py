"""Complexes in their surroundings: what is drawn around each, and the volumes made of it; see `surroundings`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import UserError
from .density import spectra_of_placed
from .imaging import (
    finished_volumes,
    frequencies_per_nm,
    imaged,
    noise_powers,
    signal_power,
    standardised,
    with_noise,
)
from .membranes import Sheets
from .microscope import Acquisition, Microscope, draw_acquisition
from .structures import complex_beads
from .surroundings import BACKGROUND, Surroundings, radial_gain, texture_gain, widened

GOLD = "gold"
_GOLD_RADIUS_NM, _GOLD_KDA_PER_NM3 = 5.0, 8.0  # a 10 nm bead, ten times as dense as protein for electrons
_CORNERS = np.array([[z, y, x] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) / 3**0.5


def simulate_surrounded(
    class_names: Sequence[str],
    seeds: torch.Tensor,
    snr: float,
    microscope: Microscope,
    surroundings: Surroundings,
    rng: np.random.Generator,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Simulate one sample for each class name in its surroundings, `(n, b, b, b)`, b = microscope.final_box.

    The SNR is that of the complex alone, over the finished box: surroundings come on top. Where no complex is, a random
    one sets the scale and is not drawn.

    class_names : complexes or `BACKGROUND`; seeds `(n,)` int64, of pose, shift, defocus and noise; rng : of the rest
    """
    wide = widened(microscope, surroundings)
    scene = _Scene(class_names, draw_acquisition(seeds, microscope), wide, surroundings, rng)
    signal = scene.signal(device)
    local_snr = snr * (microscope.box / wide.box) ** 3
    spectrum = with_noise(signal, seeds, local_snr, scene.acquisition, wide)
    frequencies = frequencies_per_nm(wide, device)
    if surroundings.textures and (drawn := rng.integers(len(surroundings.textures) + 1)):
        noise = with_noise(torch.zeros_like(signal), seeds, local_snr, scene.acquisition, wide)
        powers = noise_powers(scene.acquisition, wide, device)
        spectrum += noise * (texture_gain(powers, frequencies, surroundings.textures[drawn - 1]) - 1)
    gain = radial_gain(frequencies, wide.final_voxel_size_nm, surroundings, rng)
    volumes = finished_volumes(spectrum * gain, wide)
    cut = (wide.final_box - microscope.final_box) // 2
    volumes = volumes[:, cut:-cut, cut:-cut, cut:-cut] if cut else volumes
    return standardised(_without_outside(volumes, surroundings.edges, rng))


def _without_outside(volumes: torch.Tensor, share: float, rng: np.random.Generator) -> torch.Tensor:
    """Volumes of which a share lies partly outside the tomogram: up to 0.4 of one axis becomes the mean."""
    n, box = len(volumes), volumes.shape[-1]
    missing = np.where(rng.random(n) < share, rng.uniform(0.05, 0.4, n), 0) * box
    axes, flipped = rng.integers(3, size=n), rng.random(n) < 0.5
    if not missing.any():
        return volumes
    line = np.where(flipped[:, None], np.arange(box)[::-1], np.arange(box))
    inside = torch.from_numpy(line >= missing[:, None]).to(volumes.device)
    inside = torch.stack([inside | torch.from_numpy(axes != axis).to(inside.device)[:, None] for axis in range(3)])
    return volumes * inside[0, :, :, None, None] * inside[1, :, None, :, None] * inside[2, :, None, None, :]


@dataclass(frozen=True)
class _Packed:
    """Beads of several complexes on one device, each a tensor."""

    mass: np.ndarray
    radius_nm: np.ndarray  # of a ball with the complex's radius of gyration
    positions_xyz: list[torch.Tensor]
    masses: list[torch.Tensor]


@lru_cache(maxsize=16)
def _packed(names: tuple[str, ...], device: str) -> _Packed:
    found = [_gold() if name == GOLD else complex_beads(name) for name in names]
    return _Packed(
        mass=np.array([masses.sum() for _, masses in found]),
        radius_nm=np.array([np.sqrt(5 / 3 * np.average((p**2).sum(1), weights=m)) for p, m in found]),
        positions_xyz=[torch.from_numpy(p[:, ::-1].copy()).float().to(device) for p, _ in found],
        masses=[torch.from_numpy(m).float().to(device) for _, m in found],
    )


def _gold() -> tuple[np.ndarray, np.ndarray]:
    line = np.arange(-5.0, 6.0)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.linalg.norm(grid, axis=1) <= _GOLD_RADIUS_NM]
    return grid, np.full(len(grid), _GOLD_KDA_PER_NM3)


def _directions(n: int, rng: np.random.Generator) -> np.ndarray:
    normals = rng.normal(size=(n, 3))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _rotations(n: int, rng: np.random.Generator) -> np.ndarray:
    """Matrices `(n, 3, 3)` of xyz, uniform on SO(3)."""
    return _matrices(rng.normal(size=(n, 4)))


def _matrices(quaternions: np.ndarray) -> np.ndarray:
    """Matrices `(n, 3, 3)` of quaternions `(n, 4)` xyzw of any length; scipy takes no empty batch."""
    return Rotation.from_quat(quaternions).as_matrix() if len(quaternions) else np.zeros((0, 3, 3))


class _Scene:
    """Where everything lies in the boxes of a group of samples that share a microscope."""

    def __init__(
        self,
        class_names: Sequence[str],
        drawn: Acquisition,
        microscope: Microscope,
        surroundings: Surroundings,
        rng: np.random.Generator,
    ):
        self.settings, self.microscope, self.rng, self.n = surroundings, microscope, rng, len(class_names)
        kinds = np.array(class_names)
        self.is_empty, self.is_membrane, self.is_crowd = (kinds == name for name in BACKGROUND)
        self.has_centre = ~(self.is_empty | self.is_membrane | self.is_crowd)
        others = sorted(set(kinds[self.has_centre]) - set(surroundings.complexes))
        self.names = (*surroundings.complexes, *others, GOLD)
        self.library = _packed(self.names, "cpu")
        self.n_drawn = len(surroundings.complexes) or len(others)
        if not self.n_drawn:
            raise UserError("background alone has no scale: name complexes in Surroundings.complexes")
        self.by_mass = np.argsort(self.library.mass[: self.n_drawn], kind="stable")
        any_complex = rng.integers(self.n_drawn, size=self.n)
        number = {name: index for index, name in enumerate(self.names)}
        self.centre = np.array([number.get(k, c) for k, c in zip(kinds, any_complex, strict=True)])
        # Nothing lies nearer to the centre of a crowd than a gap of random size.
        self.radius = np.where(self.is_crowd, rng.uniform(4, 10, self.n), self.library.radius_nm[self.centre])
        self.acquisition = Acquisition(drawn.quaternions, self._picked(drawn.shifts_nm), drawn.defocus_um)
        self.placed: list[tuple[np.ndarray, ...]] = []  # complex, sample, position zyx from the centre of the box
        self._draw_neighbours()
        self.sheets = self._draw_membranes()
        self._draw_gold()

    def _picked(self, shifts: np.ndarray) -> np.ndarray:
        off = self.rng.random(self.n) < self.settings.off_centre
        away = _directions(self.n, self.rng) * self.settings.off_centre_nm * self.rng.random((self.n, 1)) ** (1 / 3)
        return np.where(off[:, None], away, shifts)

    def _neighbours_of(self, samples: np.ndarray) -> np.ndarray:
        """A random complex for each sample, at most ten times as heavy as its own."""
        ordered = self.library.mass[self.by_mass]
        n_light = np.searchsorted(ordered, 10 * self.library.mass[self.centre[samples]]).clip(1)
        return self.by_mass[(self.rng.random(len(samples)) * n_light).astype(int)]

    def _draw_neighbours(self) -> None:
        s, rng = self.settings, self.rng
        crowded = self.is_crowd | (~self.is_empty & (rng.random(self.n) < s.neighbours))
        low, high = s.n_neighbours
        counts = np.where(crowded, rng.integers(low, high + 1, self.n), 0) + 2 * self.is_crowd
        samples = np.repeat(np.arange(self.n), counts.clip(max=8))
        if not len(samples):
            return
        # Towards corners of a turned cube, so that two neighbours of a sample seldom overlap.
        corner = np.concatenate([rng.permutation(8)[:count] for count in counts.clip(max=8)])
        turn = _rotations(self.n, rng)
        direction = np.einsum("pij,pj->pi", turn[samples], _CORNERS[corner])
        number = self._neighbours_of(samples)
        distance = self.radius[samples] + self.library.radius_nm[number] + rng.uniform(*s.gap_nm, len(samples))
        self.placed.append((number, samples, self.acquisition.shifts_nm[samples] + direction * distance[:, None]))

    def _draw_membranes(self) -> Sheets:
        s, rng = self.settings, self.rng
        owner = np.flatnonzero(self.is_membrane | (~self.is_empty & (rng.random(self.n) < s.membranes)))
        m = len(owner)
        frame, thickness = _rotations(m, rng), rng.uniform(3.5, 5, m)
        spacing = np.where(rng.random(m) < s.paired, rng.uniform(*s.pair_nm, m), 0)
        distance, curvature = self._bilayers(owner, thickness, spacing)
        tube, contrast = rng.random(m) < 0.5, rng.uniform(0.6, 1.4, m)
        pairs = np.flatnonzero(spacing)
        # The second of a pair is parallel: its radius differs by the spacing.
        second = 1 / (1 / curvature[pairs] - spacing[pairs])
        second = np.where(np.abs(second) * s.vesicle_nm > 1, curvature[pairs], second)
        every = np.concatenate([np.arange(m), pairs])
        distance = np.concatenate([distance, distance[pairs] + spacing[pairs]])
        sheets = Sheets(
            owner=owner[every],
            foot_nm=self.acquisition.shifts_nm[owner[every]] + frame[every][:, :, 2] * distance[:, None],
            frame=frame[every],
            curvature_per_nm=np.concatenate([curvature, second]),
            is_tube=tube[every],
            thickness_nm=thickness[every],
            contrast=contrast[every],
        )
        self._decorate(sheets)
        return sheets

    def _bilayers(self, owner: np.ndarray, thickness: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance of bilayers from the centres of their samples, along their normals, and their curvature, `(m,)`."""
        s, rng, m, central = self.settings, self.rng, len(owner), self.is_membrane[owner]
        outside = self.radius[owner] + thickness / 2 + rng.uniform(*s.gap_nm, m).clip(0)
        # The centre of the class membrane lies in a bilayer, or anywhere between two.
        inside = np.where(spacing > 0, -spacing * rng.random(m), rng.uniform(0, 6, m))
        distance = np.where(central, inside, outside)
        # Bent towards the complex, a vesicle is wide enough to hold it.
        radius = s.vesicle_nm / rng.uniform(1e-3, 1, m)
        towards = ~central & (rng.random(m) < 0.5)
        radius = np.where(towards, np.maximum(radius, distance + self.radius[owner]), radius)
        return distance, np.where(towards | (central & (rng.random(m) < 0.5)), -1, 1) / radius

    def _decorate(self, sheets: Sheets) -> None:
        """Complexes in and on some of the sheets, 10 to 24 nm along them from the point next to the centre."""
        rng = self.rng
        which = np.repeat(np.arange(len(sheets)), 3 * (rng.random(len(sheets)) < self.settings.decorated))
        if not len(which):
            return
        along, angle = rng.uniform(10, 24, len(which)), rng.uniform(0, 2 * np.pi, len(which))
        place, normal = sheets.points(which, along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))
        samples = sheets.owner[which]
        number = self._neighbours_of(samples)
        height = rng.uniform(-1, 1, len(which)) * (self.library.radius_nm[number] + sheets.thickness_nm[which] / 2)
        self.placed.append((number, samples, place + normal * height[:, None]))

    def _draw_gold(self) -> None:
        rng = self.rng
        samples = np.flatnonzero(rng.random(self.n) < self.settings.gold)
        distance = rng.uniform(self.radius[samples] + _GOLD_RADIUS_NM, 28)
        place = self.acquisition.shifts_nm[samples] + _directions(len(samples), rng) * distance[:, None]
        self.placed.append((np.full(len(samples), self.names.index(GOLD)), samples, place))

    def signal(self, device: torch.device | str) -> torch.Tensor:
        """Spectra `(n, n_signal)` in which the complex alone has unit power over the simulated box."""
        beads = self._complexes(device)
        if len(self.sheets):
            positions, masses, owner = self.sheets.beads(device)
            beads = tuple(map(torch.cat, zip(beads, (positions, masses, owner + self.n), strict=True)))
        centre, rest = self._imaged(*beads).split(self.n)
        power, louder = signal_power(centre, self.microscope), signal_power(rest, self.microscope)
        dimmed = (self.settings.loudest * power / louder.clamp(min=1e-30)).sqrt().clamp(max=1)
        there = torch.as_tensor(self.has_centre, dtype=torch.float32, device=device)
        return (centre * there[:, None] + rest * dimmed[:, None]) * power.rsqrt()[:, None]

    def _complexes(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Beads of all complexes: positions zyx in nm, masses, and the volume of each.

        Volume i is sample i's own complex, volume n + i what surrounds it.
        """
        library = _packed(self.names, str(device))
        number, samples, place = (np.concatenate(parts) for parts in zip(*self.placed, strict=True))
        turns = np.concatenate([_matrices(self.acquisition.quaternions), _rotations(len(number), self.rng)])
        number = np.concatenate([self.centre, number])
        volume = np.concatenate([np.arange(self.n), self.n + samples])
        place = np.concatenate([self.acquisition.shifts_nm, place])
        positions, masses = (torch.cat([part[i] for i in number]) for part in (library.positions_xyz, library.masses))
        counts = torch.tensor([len(library.masses[i]) for i in number])
        which = torch.repeat_interleave(counts.to(device), output_size=int(counts.sum()))  # placed complex of each bead
        pose = np.concatenate([turns.reshape(-1, 9), place[:, ::-1]], axis=1)
        turn, move = torch.from_numpy(pose).float().to(device)[which].split([9, 3], dim=1)
        xyz = torch.einsum("bij,bj->bi", turn.view(-1, 3, 3), positions) + move
        return xyz.flip(1), masses, torch.from_numpy(volume).to(device)[which]

    def _imaged(self, positions: torch.Tensor, masses: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """Spectra `(2 n, n_signal)` of the volumes, in the beads' scale."""
        inside = (positions.abs() < self.microscope.width_nm / 2 - 1).all(dim=1)  # the rest would wrap around
        if positions.device.type == "cpu":
            positions, masses, owner = positions[inside], masses[inside], owner[inside]
        else:
            masses = masses * inside  # counting those inside would wait for the GPU
        spectra = spectra_of_placed(positions, masses, owner, 2 * self.n, self.microscope)
        twice = Acquisition(*(np.concatenate([part, part]) for part in vars(self.acquisition).values()))
        return imaged(spectra, twice, self.microscope)

"""How classes scatter in the user's own data, found without further labels.

The geometry that an encoder comes with was measured on simulated particles. Real ones scatter otherwise, along other
axes and about another mean, and plain numbers (`descriptors`) tell much that the encoder was never taught. So the
scatter within classes of all of these together is estimated anew, from the labelled particles and the unlabelled ones
that are to be classified. Class centres rest on the labelled particles alone, as before.

Where these are of another source than the labelled ones (simulated, of another microscope, filtered otherwise), how
they differ would be taken for scatter: the encoder's geometry is then the better one, and stays.

The constants were chosen on the even half of a real tomogram and on simulated classes that the encoder was not trained
on, at 1 and 5 labels, also where the unlabelled particles hold unknown classes, a single class, or few particles.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from .descriptors import log_power
from .plda import PLDA

FEWEST = 50
"""Particles below which the geometry stays the encoder's own, each labelled one that repeats its class counting 5."""
OF_LABELLED = 5
OTHER_SOURCE = {"power per Fourier shell": 0.3, "noise": 0.4}
"""How far beyond all labelled classes a query of the same source hardly ever lies, in logarithms.

Measured on classes that the encoder was not trained on, with one and five labels for two and five of them, unknown
classes among the query too: 99 of 100 choices stay below.
"""
HELD_BY_LABELS = 3
"""Labels per class from which a difference in noise alone does no harm: they show the scatter themselves."""
N_STEPS = 15
BLOCK_WEIGHTS = (0.5, 0.7)
"""Lengths of the blocks of columns behind the embedding, of 1, in the first step's distances: profile, grey values."""
PRIOR_WEIGHT = 30.0
"""Weight, in particles, of the prior that all columns scatter alike within a class."""
PRIOR_SHARE = 0.4
"""Of the total variance, that the prior takes to lie within a class."""
UNKNOWN_FREQUENCY = 0.001
"""Of particles of unknown classes, while the scatter is estimated."""
SMALLEST_BETWEEN = 0.05


def lifted(space: PLDA, n_columns: int) -> PLDA:
    """The same geometry for embeddings with `n_columns` more numbers behind them, which do not count."""
    nothing = np.zeros((max(0, n_columns), space.axes.shape[1]))
    return replace(space, mean=np.r_[space.mean, nothing[:, 0]], axes=np.r_[space.axes, nothing])


def reason_not_to_fit(
    log_snr: Callable[[torch.Tensor], torch.Tensor],
    widths: Sequence[int],
    support: torch.Tensor,
    members: torch.Tensor,
    unlabelled: torch.Tensor,
    one_source: bool = False,
) -> str:
    """Why the encoder's own geometry suits better than `space_of_data`, for the user; empty where it does not.

    log_snr : of the calibration
    widths, support, members, unlabelled : of `space_of_data`; one_source : the two are known to be of one source
    """
    kept = "how classes scatter is taken from the encoder's card"
    unlabelled = unlabelled[torch.isfinite(unlabelled).all(dim=1)]
    n_way = members.shape[1]
    if not len(unlabelled) or len(unlabelled) + OF_LABELLED * (len(support) - n_way) < FEWEST:
        return f"too few particles that can be used ({len(unlabelled)}) beside {len(support)} labelled ones: {kept}"
    if one_source or not widths:
        return ""
    of_class = [support[members[:, c] > 0] for c in range(n_way)]
    powers = [log_power(part[:, -sum(widths) :][:, : widths[0]]).mean(0) for part in (*of_class, unlabelled)]
    looks = torch.stack([log_snr(part) for part in (*of_class, unlabelled)])[:, None]
    # The more classes the wider their range; beyond five it was not measured.
    beyond = {
        "power per Fourier shell": _beyond(torch.stack(powers)) * (min(n_way, 5) / 2) ** 0.5,
        "noise": _beyond(looks),
    }
    if len(support) >= HELD_BY_LABELS * n_way:
        del beyond["noise"]
    for what, value in beyond.items():
        if value > OTHER_SOURCE[what]:
            return (
                f"the query's {what} is beyond that of every labelled class, so it is of another source or filtered "
                f"otherwise: {kept}; label particles of the query's own source"
            )
    return ""


def _beyond(rows: torch.Tensor) -> float:
    """How far the last row lies outside the range of the others, mean over columns."""
    known, found = rows[:-1], rows[-1]
    return float(((found - known.amax(0)).clamp(min=0) + (known.amin(0) - found).clamp(min=0)).mean())


@torch.no_grad()
def space_of_data(
    space: PLDA, widths: Sequence[int], support: torch.Tensor, members: torch.Tensor, unlabelled: torch.Tensor
) -> PLDA:
    """Geometry of the classes of one data set, by expectation-maximisation over a scatter that all classes share.

    Embeddings enter by the encoder's own axes, other columns standardised. The first step is that of the nearest
    prototype. The more classes are missing among the unlabelled particles, the more the encoder's own scatter of class
    centres counts: one class alone does not show how classes differ.

    Parameters
    ----------
    space : of the encoder
    widths : columns of each block behind the embedding: none, those of the descriptors, or these and the grey values
    support : `(n, dim)` finite; members : `(n, n_way)` one-hot labels; unlabelled : `(m, dim)`, rows with NaN are
        left out; dim the embedding's and those of the blocks

    Returns at most as many axes as `space` has, over all dim columns.
    """
    unlabelled = unlabelled[torch.isfinite(unlabelled).all(dim=1)].double()
    mean, columns = _blocks(space, widths, torch.cat([unlabelled, support.double()]))
    labelled, unlabelled = (support.double() - mean) @ columns, (unlabelled - mean) @ columns
    within, frequencies = _scatter_within(labelled, members.double(), unlabelled)
    missing = 1 - float((-frequencies * frequencies.log()).sum().exp()) / len(frequencies)  # share of the classes
    between = (1 - missing) * (torch.cov(torch.cat([unlabelled, labelled]).T) - within)
    n_axes, dim = len(space.between), len(space.mean)
    scale = columns[:dim, :n_axes].square().sum() / np.square(space.axes).sum()
    between[:n_axes, :n_axes] += missing * scale * torch.from_numpy(space.between).double().diag()
    whitening = torch.linalg.inv(torch.linalg.cholesky(within)).T
    variances, rotation = torch.linalg.eigh(whitening.T @ between @ whitening)
    axes = columns @ whitening @ rotation[:, -n_axes:]
    between = variances[-n_axes:].clamp(min=SMALLEST_BETWEEN).numpy()
    return replace(space, mean=mean.numpy(), axes=axes.numpy(), between=between)


def _blocks(space: PLDA, widths: Sequence[int], rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean `(dim,)`, and the matrix `(dim, k)` from centred rows to blocks, each of the total variance that it gets."""
    mean, spread, dim = rows.mean(0), rows.std(0).clamp(min=1e-9), len(space.mean)
    parts = [torch.from_numpy(space.axes).double(), *(torch.eye(width).double() for width in widths)]
    columns = torch.block_diag(*parts)
    columns[dim:] /= spread[dim:, None]
    lengths = ((rows - mean) @ columns).var(0).split([part.shape[1] for part in parts])
    weights = (1.0, *BLOCK_WEIGHTS)[: len(parts)]
    scales = [w / of.sum().sqrt().clamp(min=1e-9) * torch.ones(len(of)) for w, of in zip(weights, lengths, strict=True)]
    return mean, columns * torch.cat(scales)


def _scatter_within(
    labelled: torch.Tensor, members: torch.Tensor, unlabelled: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Covariance within a class `(k, k)`, shared by all, and frequencies of the classes `(n_way,)`.

    labelled `(n, k)`, members `(n, n_way)`, unlabelled `(m, k)`
    """
    n_way, rows = members.shape[1], torch.cat([labelled, unlabelled])
    total = torch.cov(rows.T)
    prior = PRIOR_SHARE * total.diagonal().mean() * torch.eye(len(total)).double()
    within, frequencies = prior, torch.full((n_way,), 1 / n_way).double()
    seen, weights = labelled, members
    for step in range(N_STEPS):
        counts = weights.sum(0)
        centres = weights.T @ seen / counts[:, None]
        if step:
            residuals = [weights[:, c, None].sqrt() * (seen - centre) for c, centre in enumerate(centres)]
            scatter = sum(part.T @ part for part in residuals)
            within = (scatter + PRIOR_WEIGHT * prior) / (counts.sum() + PRIOR_WEIGHT)
            frequencies = (counts + 1) / (counts + 1).sum()
        seen, weights = rows, torch.cat([members, _shares(unlabelled, centres, counts, within, total, frequencies)])
    return within, frequencies


def _shares(unlabelled, centres, counts, within, total, frequencies) -> torch.Tensor:
    """Probability of each class `(m, n_way)`; what is missing to 1 is that of an unknown class.

    An unknown class scatters as all particles do, and on no axis less than a known one.
    """
    root = torch.linalg.cholesky(within)
    x, m = (torch.linalg.solve_triangular(root, part.T, upper=False).T for part in (unlabelled, centres))
    spread = 1 + 1 / counts
    known = -0.5 * (torch.cdist(x, m).square() / spread + x.shape[1] * spread.log()) + frequencies.log()
    inverse = torch.linalg.inv(root)
    variances, axes = torch.linalg.eigh(inverse @ total @ inverse.T)
    variances = variances.clamp(min=1)
    unknown = -0.5 * (((x @ axes).square() / variances).sum(1) + variances.log().sum()) + np.log(UNKNOWN_FREQUENCY)
    return torch.softmax(torch.cat([known, unknown[:, None]], dim=1), dim=1)[:, :-1]

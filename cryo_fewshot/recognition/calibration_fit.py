"""Measuring a `Calibration`: held-out classes play the user's support, queries and unknown classes in turn.

Each class is unknown once, and the geometry used against it is fitted without its family. A task stays within one data
set, one microscope and one SNR, as a user's run does, and no two of its classes are of one family. Particles of several
encoders of one recipe are pooled (cross-fitting): each is measured in its own geometry, and only scores, which mean
the same in all, are put together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
import torch

from ..errors import UserError
from ..randomness import seed_from
from .calibration import CROWDED, Calibration, Conditions, Promises, adapt, class_model
from .plda import PLDA, fit_plda
from .promises_fit import Trials, fit_promises, reliability_rows, with_adapted

N_AXES, N_QUERY, WAYS = 32, 10, (3, 5, 8)
"""Axes of a geometry; queries of each class of a task, and numbers of its classes, fewer where families are few."""


@dataclass(frozen=True)
class HeldOutParticles:
    """Particles of classes that an encoder never saw, and others of classes that it was trained on.

    embeddings : `(n, dim)`
    table : a row for each, numbered from 0. `label`; `family`, of which no two classes are in one task; `set`, number
        of the data set, one microscope and one SNR, alone or in cells, all classes in each; `snr`; `crowded`, whether
        neighbours and membranes lie in its boxes; `trained`, whether it is of the others: they help to know how classes
        scatter and what noise and crowds look like, and are never asked for
    """

    embeddings: torch.Tensor
    table: pd.DataFrame

    def asked(self) -> pd.DataFrame:
        """Rows of the classes that the encoder never saw."""
        return self.table[~self.table["trained"]]

    def family_of(self) -> dict:
        return dict(sorted(self.asked().groupby("label")["family"].first().items()))

    def geometry(self, without: object = None, n_axes: int = N_AXES) -> dict[str, PLDA | np.ndarray]:
        """`space`, `noise`, and where some are crowded `crowd` and `crowded_space`, from all but one family.

        See `Calibration`.
        """
        table = self.table[self.table["trained"] | (self.table["family"] != without)]
        x, crowded = self.embeddings[torch.tensor(table.index)], table["crowded"].to_numpy()
        labels = np.where(table["trained"], "trained ", "held out ") + table["label"].astype(str).to_numpy(object)
        numbers = x.double().numpy()
        found = {"noise": _regression(numbers, np.log(table["snr"].to_numpy()))}
        if crowded.any():
            found["crowd"] = _regression(numbers, crowded.astype(float))
        for name, chosen in (("space", ~crowded), ("crowded_space", crowded)):
            if chosen.any():
                found[name] = fit_plda(x[torch.tensor(chosen)], labels[chosen], n_axes=n_axes)
        return found

    def geometries(self, n_axes: int = N_AXES) -> dict[object, dict]:
        """`geometry` without each of the families in turn."""
        return {family: self.geometry(family, n_axes) for family in sorted(set(self.family_of().values()))}


def _regression(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Ridge regression of values on embeddings: `(dim + 1,)`, the constant last."""
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=1e-5 * len(x)).fit(x, values)
    return np.r_[fitted.coef_, fitted.intercept_]


def fit_calibration(
    particles: HeldOutParticles,
    *cross_fitted: HeldOutParticles,
    shots: Sequence[int] = (1, 2, 3, 5, 10, 20),
    n_tasks: int = 1,
    n_axes: int = N_AXES,
) -> Calibration:
    """Measure geometry, temperature and thresholds on classes that the encoder never saw.

    Parameters
    ----------
    particles : of the encoder that is calibrated, at least four classes
    cross_fitted : of encoders of the same recipe that left out other classes; these count as much
    shots : labelled particles per class; each class needs ten more per data set, its queries
    n_tasks : per data set, unknown class, number of shots and of classes
    """
    pools = (particles, *cross_fitted)
    for pool in pools:
        _check_enough(pool, max(shots) + N_QUERY)
    geometries = [pool.geometries(n_axes) for pool in pools]

    def trials_by(promises: Promises | None) -> list[Trials]:
        return [
            replace(trial, encoder=i)
            for i, (pool, known) in enumerate(zip(pools, geometries, strict=True))
            for trial in run_trials(pool, shots, WAYS, n_tasks=n_tasks, geometries=known, adapt_by=promises)
        ]

    trials = trials_by(None)
    promises = fit_promises(trials)
    return Calibration(
        **particles.geometry(n_axes=n_axes),
        promises=with_adapted(promises, trials_by(promises)),
        n_classes=len({trial.unknown for trial in trials}),
        reliability=tuple(reliability_rows(trials, promises)),
    )


def _check_enough(particles: HeldOutParticles, n_needed: int) -> None:
    family_of = particles.family_of()
    if len(family_of) < 4:
        raise UserError(f"{len(family_of)} held-out classes: calibration needs at least 4, hold back more")
    if (n_families := len(set(family_of.values()))) < 4:
        raise UserError(f"{n_families} families of held-out classes: calibration needs at least 4, hold back more")
    fewest = particles.asked().groupby(["set", "label"]).size().min()
    if fewest < n_needed:
        raise UserError(f"{fewest} particles in a held-out class: n_shot + n_query = {n_needed} are needed")


def run_trials(
    particles: HeldOutParticles,
    shots: Sequence[int],
    ways: Sequence[int],
    *,
    n_tasks: int,
    geometries: Mapping | None = None,
    adapt_by: Promises | None = None,
) -> Iterable[Trials]:
    """Tasks against each class in turn.

    geometries : of `HeldOutParticles.geometries`; adapt_by : the promises whose temperatures a transductive run uses
    """
    family_of, geometries = particles.family_of(), geometries or particles.geometries()
    members = {cell: part.index.to_numpy() for cell, part in particles.asked().groupby(["set", "label"])}
    sets = particles.asked().groupby("set")[["snr", "crowded"]].first()
    sets = sets.loc[sets.index.repeat(n_tasks)]  # of each task
    rng = np.random.default_rng(seed_from("calibration tasks", 0))
    for unknown, family in family_of.items():
        found = geometries[family]
        spaces = [found[name] for name in ("space", "crowded_space") if name in found]
        projected = [space.project(particles.embeddings) for space in spaces]
        x = particles.embeddings.double().numpy()
        log_snrs, crowdings = (
            x @ found[name][:-1] + found[name][-1] if name in found else np.zeros(len(x)) for name in ("noise", "crowd")
        )
        others: dict[str, list] = {}
        for name, its_family in family_of.items():
            if its_family != family:
                others.setdefault(its_family, []).append(name)
        for n_shot, n_way in product(shots, sorted({min(n, len(others)) for n in ways})):
            drawn = [_draw(others, members, s, unknown, n_way, n_shot, rng) for s in sets.index]
            support, query, strange = map(np.array, zip(*drawn, strict=True))
            seen = np.concatenate([support, query, strange], axis=1)
            conditions = Conditions(
                n_shot=n_shot, n_way=n_way, log_snr=log_snrs[seen].mean(1), crowding=crowdings[seen].mean(1)
            )
            temperatures = None if adapt_by is None else adapt_by.temperature_of(conditions)
            in_cells = conditions.crowding >= CROWDED
            groups = (~in_cells, in_cells) if len(spaces) > 1 else (np.full(len(in_cells), True),)
            of_groups = [
                _judged(
                    space,
                    *(positions[torch.from_numpy(part[tasks])] for part in (support, query, strange)),
                    n_way,
                    None if temperatures is None else temperatures[tasks],
                )
                for space, positions, tasks in zip(spaces, projected, groups, strict=True)
            ]
            in_order = np.argsort(np.concatenate([np.flatnonzero(tasks) for tasks in groups]))
            fields = (np.concatenate(parts)[in_order] for parts in zip(*of_groups, strict=True))
            true = np.repeat(np.arange(n_way), query.shape[1] // n_way)
            yield Trials(unknown, family, conditions, sets["snr"].to_numpy(), sets["crowded"].to_numpy(), *fields, true)


def _draw(others, members, data_set, unknown, n_way, n_shot, rng) -> tuple[np.ndarray, ...]:
    """Indices of support `(n_way * n_shot,)`, queries `(n_way * N_QUERY,)` and particles of the unknown class."""
    families = list(others)
    chosen = [rng.choice(others[families[i]]) for i in rng.choice(len(families), n_way, replace=False)]
    known = np.array([rng.permutation(members[data_set, name])[: n_shot + N_QUERY] for name in chosen])
    strange = rng.permutation(members[data_set, unknown])[:N_QUERY]
    return known[:, :n_shot].ravel(), known[:, n_shot:].ravel(), strange


def _judged(space, support, query, strange, n_way, temperatures) -> tuple[np.ndarray, ...]:
    """Log-likelihoods, log frequencies, and scores of queries and of the unknown class, as in `Trials`."""
    members = torch.eye(n_way).repeat_interleave(support.shape[1] // n_way, 0)
    model = class_model(space, support, members)
    log_frequencies = torch.full((len(support), n_way), -float(np.log(n_way)))
    if temperatures is not None:
        divisors = torch.from_numpy(temperatures).float()[:, None, None]
        unlabelled = torch.cat([query, strange], dim=1)
        model, log_frequencies = adapt(model, members.mT @ support, members.sum(0), unlabelled, divisors)
    of_query, of_strange = model.log_likelihoods(query), model.log_likelihoods(strange)
    scores = model.scores(query, of_query), model.scores(strange, of_strange)
    found = (of_query, log_frequencies.unsqueeze(-2), *scores)
    return tuple(part.numpy() for part in found)

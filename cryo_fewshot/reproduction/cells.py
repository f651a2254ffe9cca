"""The cells of Tables 1 to 4, each with the evaluation that fills it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType

from ..errors import UserError
from ..subtomograms import DataSource
from .evaluation_specs import FITS, Evaluation
from .profiles import PAPER_SHOTS, PAPER_SNRS, Profile, mix_34, mix_100, single
from .surrogates import GUO, NOBLE, Surrogate
from .training_specs import AdaptationRun, EncoderRun

SURROGATES = {"noble": NOBLE, "guo": GUO}


def encoder_run(
    profile: Profile,
    snr_counts: tuple[tuple[float, int], ...],
    n_shot: int,
    *,
    n_way: int = 5,
    objective: str = "episodes",
    split_seed: int = 0,
    train_seed: int = 0,
) -> EncoderRun:
    """The training of one encoder under a profile; training episodes have the size of test episodes."""
    return EncoderRun(
        data=profile.data,
        split_sizes=profile.split_sizes,
        split_seed=split_seed,
        snr_counts=snr_counts,
        objective=objective,
        n_way=n_way,
        n_shot=n_shot,
        n_query=profile.n_query,
        n_validation_episodes=profile.n_validation_episodes,
        n_blocks=profile.n_blocks,
        width=profile.width,
        schedule=profile.encoder_schedule,
        precision=profile.precision,
        seed=train_seed,
    )


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its method's name in the paper, the evaluation that fills it, the paper's number if quoted."""

    method: str
    evaluation: Evaluation
    paper: float = float("nan")


TABLE_1_METHODS = ("baseline", "ProtoNet3D", "ProtoNet3D (mix)", "ProtoNet-CE", "ProtoNet-CE (mix)")
TABLE_2_HEADS = {
    "d": "prototype",
    "d*": "adapted",
    "d + d*": "combined",
    "d × d*": "product",
    "weighted sum": "weighted",
    "z-scored sum": "z-scored",
}
TABLE_3_MIXES = ("Single", "Mix100", "Mix34")


def evaluation_of(
    profile: Profile,
    encoder: EncoderRun,
    head: str,
    snr: float,
    n_shot: int,
    adaptation: AdaptationRun | None = None,
    n_way: int | None = None,
) -> Evaluation:
    """An evaluation at a profile's size; tasks have as many classes as in training unless `n_way` is given."""
    return Evaluation(
        encoder=encoder,
        adaptation=adaptation,
        head=head,
        snr=snr,
        n_way=n_way or encoder.n_way,
        n_shot=n_shot,
        n_query=profile.n_query,
        n_episodes=profile.n_test_episodes,
    )


def _adaptation_run(profile: Profile, encoder: EncoderRun) -> AdaptationRun:
    return AdaptationRun(encoder=encoder, schedule=profile.adaptation_schedule, seed=encoder.seed)


def method_evaluation(
    profile: Profile, method: str, snr_counts: tuple[tuple[float, int], ...], snr: float, n_shot: int, **training
) -> Evaluation:
    """The evaluation of 'baseline', 'ProtoNet3D' or 'ProtoNet-CE' as the paper compares them.

    The baseline's encoder is the same for all shots: plain classification knows none. `training` : n_way, split_seed,
    train_seed of `encoder_run`.
    """
    if method == "baseline":
        encoder = encoder_run(profile, snr_counts, n_shot=5, objective="classes", **training)
        return evaluation_of(profile, encoder, "finetuned", snr, n_shot)
    encoder = encoder_run(profile, snr_counts, n_shot, **training)
    if method == "ProtoNet3D":
        return evaluation_of(profile, encoder, "prototype", snr, n_shot)
    return evaluation_of(profile, encoder, "combined", snr, n_shot, _adaptation_run(profile, encoder))


def table_1(
    profile: Profile,
    *,
    snrs: Sequence[float] = PAPER_SNRS,
    shots: Sequence[int] = PAPER_SHOTS,
    methods: Sequence[str] = TABLE_1_METHODS,
    **training,
) -> list[Cell]:
    """Cells of Table 1; `training` as for `method_evaluation`."""
    _check_known("method", methods, TABLE_1_METHODS)
    cells = []
    for n_shot, snr, method in product(shots, snrs, methods):
        counts = mix_100(profile) if "(mix)" in method else single(snr, profile)
        name = method.removesuffix(" (mix)")
        cells.append(Cell(method, method_evaluation(profile, name, counts, snr, n_shot, **training)))
    return cells


def table_2(
    profile: Profile,
    *,
    snrs: Sequence[float] = PAPER_SNRS,
    shots: Sequence[int] = PAPER_SHOTS,
    heads: Sequence[str] = tuple(TABLE_2_HEADS),
    **training,
) -> list[Cell]:
    """Cells of Table 2: which distance decides, with Remark 1's other combinations; trained on one SNR."""
    _check_known("head", heads, TABLE_2_HEADS)
    cells = []
    for n_shot, snr, name in product(shots, snrs, heads):
        encoder = encoder_run(profile, single(snr, profile), n_shot, **training)
        adaptation = None if name == "d" else _adaptation_run(profile, encoder)
        cells.append(Cell(name, evaluation_of(profile, encoder, TABLE_2_HEADS[name], snr, n_shot, adaptation)))
    return cells


def table_3(
    profile: Profile,
    *,
    snrs: Sequence[float] = PAPER_SNRS,
    shots: Sequence[int] = PAPER_SHOTS,
    mixes: Sequence[str] = TABLE_3_MIXES,
    **training,
) -> list[Cell]:
    """Cells of Table 3: ProtoNet3D trained on one SNR, on all samples of all SNRs, and on a third of each."""
    _check_known("mix", mixes, TABLE_3_MIXES)
    cells = []
    for n_shot, snr, mix in product(shots, snrs, mixes):
        counts = {"Single": single(snr, profile), "Mix100": mix_100(profile), "Mix34": mix_34(profile)}[mix]
        encoder = encoder_run(profile, counts, n_shot, **training)
        cells.append(Cell(mix, evaluation_of(profile, encoder, "prototype", snr, n_shot)))
    return cells


def repeated_table_1(
    profile: Profile, *, splits: Sequence[int] = range(5), seeds: Sequence[int] = range(3), **choice
) -> list[Cell]:
    """Table 1 on several class splits with several training seeds each; `choice` as for `table_1`."""
    runs = product(seeds, splits)
    return [cell for seed, split in runs for cell in table_1(profile, split_seed=split, train_seed=seed, **choice)]


def second_stages(profile: Profile, *, snr: float, shots: Sequence[int] = PAPER_SHOTS, **training) -> list[Cell]:
    """ProtoNet-CE in its forms, each with the second stage that makes it, beside ProtoNet3D trained for as long.

    The released code goes on training the encoder; so does the control, by the same schedule without attention.
    """
    cells = []
    for n_shot in shots:
        encoder = encoder_run(profile, single(snr, profile), n_shot, **training)
        inductive = _adaptation_run(profile, encoder)
        longer = replace(profile.adaptation_schedule, learning_rate=1e-3, halve_every=20)
        onwards = replace(inductive, schedule=longer, encoder_too=True)
        released = replace(onwards, layer_norm=True, bias=True, loss="combined")
        for method, head, adaptation in (
            ("ProtoNet3D", "prototype", None),
            ("ProtoNet3D, trained longer", "prototype", replace(onwards, loss="prototype")),
            ("ProtoNet-CE, inductive", "combined", inductive),
            ("ProtoNet-CE, text", "combined", replace(inductive, variant="transductive")),
            ("ProtoNet-CE, released code", "combined", released),
        ):
            cells.append(Cell(method, evaluation_of(profile, encoder, head, snr, n_shot, adaptation)))
    return cells


def classifier_heads(profile: Profile, *, snr: float, shots: Sequence[int] = PAPER_SHOTS, **training) -> list[Cell]:
    """What the encoder of the baseline can do: its linear layer as published and tuned, and no fit at all."""
    encoder = encoder_run(profile, single(snr, profile), n_shot=5, objective="classes", **training)
    heads = {
        "linear layer, 100 steps at 1e-2": "finetuned",
        "linear layer, steps and rate chosen": "tuned",
        "nearest prototype": "prototype",
        "nearest prototype by cosine": "cosine",
    }
    return [
        Cell(name, evaluation_of(profile, encoder, head, snr, n_shot))
        for n_shot in shots
        for name, head in heads.items()
    ]


def linear_fits(profile: Profile, *, snr: float, shots: Sequence[int] = PAPER_SHOTS, **training) -> list[Cell]:
    """The baseline's linear layer with each of the steps and rates that 'tuned' chooses from."""
    return [
        Cell(f"{n_steps} steps at {rate:g}", replace(cell.evaluation, linear_fit=(n_steps, rate)))
        for cell in classifier_heads(profile, snr=snr, shots=shots, **training)
        if cell.evaluation.head == "finetuned"
        for n_steps, rate in FITS
    ]


def at_lengths(
    profile: Profile, epochs: Sequence[int], *, snr: float, methods: Sequence[str], **choice
) -> list[tuple[int, Cell]]:
    """Cells of Table 1 by trainings cut after so many epochs, as `(training episodes, cell)`; `choice` as in `table_1`.

    A cut training is the beginning of the whole one, its model selected among the epochs that it had.
    """
    cells = []
    for n_epochs in sorted({min(n, profile.encoder_schedule.n_epochs) for n in epochs}):
        schedule = replace(profile.encoder_schedule, n_epochs=n_epochs, patience=0, min_epochs=0)
        cut = table_1(replace(profile, encoder_schedule=schedule), snrs=[snr], methods=methods, **choice)
        cells += [(n_epochs * schedule.steps_per_epoch, cell) for cell in cut]
    return cells


TABLE_4_METHODS = ("baseline", "ProtoNet3D", "ProtoNet-CE")


def surrogate(name: str, profile: Profile) -> Surrogate:
    """The surrogate of a real set, 'noble' or 'guo', at the size of a profile."""
    _check_known("real data set", [name], SURROGATES)
    recipe = SURROGATES[name]
    microscope = replace(recipe.microscope, binning=profile.data.microscope.binning)
    return replace(recipe, microscope=microscope, n_per_class=profile.data.n_per_class)


def table_4(
    profile: Profile,
    data: DataSource,
    quoted: Mapping[tuple[str, int], float] = MappingProxyType({}),
    *,
    shots: Sequence[int] = PAPER_SHOTS,
    methods: Sequence[str] = TABLE_4_METHODS,
    **training,
) -> list[Cell]:
    """Cells of Table 4 for one real data set or its surrogate; models are selected on the training classes.

    quoted : the paper's numbers by method and shots.
    """
    _check_known("method", methods, TABLE_4_METHODS)
    profile, training = replace(profile, data=data, split_sizes=data.split_sizes), {"n_way": data.n_way, **training}
    cells = table_1(profile, snrs=[data.snr], shots=shots, methods=methods, **training)
    return [replace(cell, paper=quoted.get((cell.method, cell.evaluation.n_shot), cell.paper)) for cell in cells]


def _check_known(what: str, names: Sequence[str], known: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{what} '{unknown[0]}' is unknown: use some of {', '.join(known)}")

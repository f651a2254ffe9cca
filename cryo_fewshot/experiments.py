"""What the paper runs, as data: specs of trainings and evaluations, the profiles, the cells of each table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType

from .compute import fast_precision
from .dataset import ClassSplit, SimulatedData, split_classes
from .errors import UserError
from .imaging import Microscope
from .readers import MeasuredData
from .standins import GUO, NOBLE, StandIn
from .training import Schedule

PAPER_SNRS = (0.1, 0.05, 0.03)
PAPER_SHOTS = (5, 1)
STAND_INS = {"noble": NOBLE, "guo": GUO}


@dataclass(frozen=True, kw_only=True)
class EncoderRun:
    """One training of an encoder.

    data : recipe of all volumes; split_sizes, split_seed : classes for training, validation, test;
    snr_counts : training (and validation) samples per class at each SNR, ((0.1, 100),) or a mix;
    objective : 'episodes' (ProtoNet3D) or 'classes' (the baseline's plain classification, in batches of the size of
    an episode); n_way, n_shot, n_query : of training and validation episodes; precision : 'fp32' or 'bf16'.
    """

    data: SimulatedData | MeasuredData
    split_sizes: tuple[int, int, int] = (10, 5, 8)
    split_seed: int = 0
    snr_counts: tuple[tuple[float, int], ...]
    objective: str = "episodes"
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_validation_episodes: int = 100
    n_blocks: int = 4
    width: int = 64
    schedule: Schedule
    precision: str = "fp32"
    seed: int = 0

    @property
    def split(self) -> ClassSplit:
        """Classes by role."""
        return split_classes(self.data.class_names, self.split_sizes, self.split_seed)

    @property
    def volumes_per_step(self) -> int:
        """Volumes that one training step takes through the encoder."""
        return self.n_way * (self.n_shot + self.n_query)

    @property
    def cost(self) -> int:
        """Volumes of the whole training: the unit of progress."""
        return self.volumes_per_step * self.schedule.n_epochs * self.schedule.steps_per_epoch


@dataclass(frozen=True, kw_only=True)
class AdaptationRun:
    """One training of the attention on the embeddings of a frozen encoder.

    loss : 'adapted' trains on the distance in the new space (the text's training section), 'combined' on the sum of
    both distances (Equation 8 and the released code).
    """

    encoder: EncoderRun
    variant: str = "inductive"
    layer_norm: bool = False
    loss: str = "adapted"
    schedule: Schedule
    seed: int = 0

    cost_per_step = 4
    """One step on cached embeddings takes about as long as this many volumes through an encoder of 20^3."""

    @property
    def cost(self) -> int:
        """In the unit of `EncoderRun.cost`."""
        return self.cost_per_step * self.schedule.n_epochs * self.schedule.steps_per_epoch


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One cell of a table: a head on an encoder, on episodes of novel classes at one SNR.

    head : 'finetuned', 'prototype', 'adapted' (d* alone), 'combined' (d + d*), or one of Remark 1's other
    combinations, 'product', 'weighted' and 'z-scored'.
    The first 100 episodes give the paper's figure, all of them the figure with a useful interval.
    """

    encoder: EncoderRun
    adaptation: AdaptationRun | None = None
    head: str
    snr: float
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_episodes: int = 1000
    episode_seed: int = 0

    @property
    def novel_data(self) -> SimulatedData | MeasuredData:
        """Where the test subtomograms come from."""
        return self.encoder.data

    @property
    def novel_classes(self) -> tuple[str, ...]:
        """The classes that episodes are drawn from."""
        return self.encoder.split.novel


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much work a word stands for. `note` says it to the reader under every table.

    precision : 'fp32', 'bf16', or 'auto' for what the machine does fast; published profiles fix it, so that their
    stored results are found on any machine.
    """

    name: str
    note: str
    data: SimulatedData
    split_sizes: tuple[int, int, int] = (10, 5, 8)
    n_blocks: int = 4
    width: int = 64
    n_query: int = 15
    encoder_schedule: Schedule
    adaptation_schedule: Schedule
    n_validation_episodes: int = 100
    n_test_episodes: int = 1000
    precision: str = "auto"


_HALF_BOX = SimulatedData(microscope=Microscope(binning=2))

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            note="a few steps on tiny boxes: proves that the code runs, its numbers mean nothing",
            data=SimulatedData(n_per_class=12, microscope=Microscope(box=24, binning=2, voxel_size_nm=1.5)),
            n_blocks=2,
            width=8,
            n_query=3,
            encoder_schedule=Schedule(n_epochs=3, steps_per_epoch=2, learning_rate=1e-3),
            adaptation_schedule=Schedule(n_epochs=2, steps_per_epoch=4, learning_rate=1e-3),
            n_validation_episodes=10,
            n_test_episodes=120,
            precision="fp32",
        ),
        Profile(
            name="quick",
            note="reduced work: boxes binned to 20^3 at 2 nm, 100 training episodes at learning rate 1e-3",
            data=_HALF_BOX,
            n_blocks=3,
            encoder_schedule=Schedule(n_epochs=5, steps_per_epoch=20, learning_rate=1e-3),
            adaptation_schedule=Schedule(n_epochs=10, steps_per_epoch=40, learning_rate=1e-4),
        ),
        Profile(
            name="cpu",
            note="reduced work: boxes binned to 20^3 at 2 nm; otherwise the released code's schedule, cut to 20 epochs",
            data=_HALF_BOX,
            n_blocks=3,
            encoder_schedule=Schedule(n_epochs=20, steps_per_epoch=25, learning_rate=1e-3, halve_every=5),
            adaptation_schedule=Schedule(n_epochs=20, steps_per_epoch=50, learning_rate=1e-4),
            precision="bf16",
        ),
        Profile(
            name="extended",
            note="reduced work: boxes binned to 20^3 at 2 nm, 150 training episodes at learning rate 1e-3; "
            "five class splits, three training seeds each",
            data=_HALF_BOX,
            n_blocks=3,
            encoder_schedule=Schedule(n_epochs=6, steps_per_epoch=25, learning_rate=1e-3, halve_every=3),
            adaptation_schedule=Schedule(n_epochs=8, steps_per_epoch=25, learning_rate=1e-4),
            n_test_episodes=600,
            precision="bf16",
        ),
        Profile(
            name="paper",
            note="boxes of 40^3 at 1 nm; text's learning rate 1e-4, released code's epochs and patience",
            data=SimulatedData(),
            encoder_schedule=Schedule(n_epochs=100, steps_per_epoch=25, learning_rate=1e-4, patience=20),
            adaptation_schedule=Schedule(n_epochs=100, steps_per_epoch=25, learning_rate=1e-4, patience=20),
            precision="bf16",
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile of that name, its precision settled; an unknown one is a UserError that lists the known ones."""
    if name not in PROFILES:
        raise UserError(f"profile '{name}' is unknown: use one of {', '.join(PROFILES)}")
    profile = PROFILES[name]
    return replace(profile, precision=fast_precision()) if profile.precision == "auto" else profile


def numbers(name: str, value: object, kind: type) -> list:
    """A notebook's parameter as a list of numbers: "0.1,0.05" or 0.1; what is no number is a UserError."""
    try:
        return [kind(part) for part in str(value).split(",")]
    except ValueError:
        raise UserError(f"{name}={value!r}: give numbers separated by commas, as in {name}='5,1'") from None


def single(snr: float, profile: Profile) -> tuple[tuple[float, int], ...]:
    """Training on one SNR."""
    return ((snr, profile.data.n_per_class),)


def mix_100(profile: Profile) -> tuple[tuple[float, int], ...]:
    """Mix training: every sample of every SNR."""
    return tuple((snr, profile.data.n_per_class) for snr in PAPER_SNRS)


def mix_34(profile: Profile) -> tuple[tuple[float, int], ...]:
    """Mix training at the sample size of one SNR: 34, 33 and 33 of 100."""
    n_snrs, n = len(PAPER_SNRS), profile.data.n_per_class
    return tuple((snr, n // n_snrs + (i < n % n_snrs)) for i, snr in enumerate(PAPER_SNRS))


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


def table_1(
    profile: Profile,
    *,
    snrs: Sequence[float] = PAPER_SNRS,
    shots: Sequence[int] = PAPER_SHOTS,
    methods: Sequence[str] = TABLE_1_METHODS,
    **training,
) -> list[Cell]:
    """Cells of Table 1. The baseline's encoder is trained once per SNR: plain classification knows no shots.

    `training` : n_way, split_seed, train_seed of `encoder_run`.
    """
    _check_known("method", methods, TABLE_1_METHODS)
    cells = []
    for n_shot, snr, method in product(shots, snrs, methods):
        counts = mix_100(profile) if "(mix)" in method else single(snr, profile)
        if method == "baseline":
            encoder = encoder_run(profile, counts, n_shot=5, objective="classes", **training)
            evaluation = evaluation_of(profile, encoder, "finetuned", snr, n_shot)
        else:
            encoder = encoder_run(profile, counts, n_shot, **training)
            evaluation = evaluation_of(profile, encoder, "prototype", snr, n_shot)
            if method.startswith("ProtoNet-CE"):
                adaptation = _adaptation_run(profile, encoder)
                evaluation = evaluation_of(profile, encoder, "combined", snr, n_shot, adaptation)
        cells.append(Cell(method, evaluation))
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


REPEATED_SPLITS = range(5)
REPEATED_SEEDS = range(3)


def repeated_table_1(
    profile: Profile, *, splits: Sequence[int] = REPEATED_SPLITS, seeds: Sequence[int] = REPEATED_SEEDS, **choice
) -> list[Cell]:
    """Table 1 on several class splits with several training seeds each; `choice` as for `table_1`."""
    runs = product(seeds, splits)
    return [cell for seed, split in runs for cell in table_1(profile, split_seed=split, train_seed=seed, **choice)]


TABLE_4_METHODS = ("baseline", "ProtoNet3D", "ProtoNet-CE")


def stand_in(name: str, profile: Profile) -> StandIn:
    """The stand-in of a real set, 'noble' or 'guo', at the size of a profile."""
    _check_known("real data set", [name], STAND_INS)
    recipe = STAND_INS[name]
    microscope = replace(recipe.microscope, binning=profile.data.microscope.binning)
    return replace(recipe, microscope=microscope, n_per_class=profile.data.n_per_class)


def table_4(
    profile: Profile,
    data: StandIn | MeasuredData,
    quoted: Mapping[tuple[str, int], float] = MappingProxyType({}),
    *,
    shots: Sequence[int] = PAPER_SHOTS,
    methods: Sequence[str] = TABLE_4_METHODS,
    **training,
) -> list[Cell]:
    """Cells of Table 4 for one real data set or its stand-in; models are selected on the training classes.

    quoted : the paper's numbers by method and shots.
    """
    _check_known("method", methods, TABLE_4_METHODS)
    profile = replace(profile, data=data, split_sizes=data.split_sizes)
    training = {"n_way": data.n_way, **training}
    cells = []
    for n_shot, method in product(shots, methods):
        is_baseline = method == "baseline"
        objective = {"n_shot": 5, "objective": "classes"} if is_baseline else {"n_shot": n_shot}
        encoder = encoder_run(profile, single(data.snr, profile), **objective, **training)
        adaptation = _adaptation_run(profile, encoder) if method == "ProtoNet-CE" else None
        head = {"baseline": "finetuned", "ProtoNet3D": "prototype", "ProtoNet-CE": "combined"}[method]
        evaluation = evaluation_of(profile, encoder, head, data.snr, n_shot, adaptation)
        cells.append(Cell(method, evaluation, quoted.get((method, n_shot), float("nan"))))
    return cells


def _check_known(what: str, names: Sequence[str], known: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{what} '{unknown[0]}' is unknown: use some of {', '.join(known)}")

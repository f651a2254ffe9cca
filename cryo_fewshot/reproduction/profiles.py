"""How much work a word stands for: smoke, quick, cpu, extended, finished, paper."""

from dataclasses import dataclass, replace

from ..device import fast_precision
from ..errors import UserError
from ..simulation.datasets import SimulatedData
from ..simulation.microscope import Microscope
from ..training import Schedule

PAPER_SNRS = (0.1, 0.05, 0.03)
PAPER_SHOTS = (5, 1)


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
    precision: str = "bf16"


_HALF_BOX = {"data": SimulatedData(microscope=Microscope(binning=2)), "n_blocks": 3}
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
            **_HALF_BOX,
            precision="auto",
            encoder_schedule=Schedule(n_epochs=5, steps_per_epoch=20, learning_rate=1e-3),
            adaptation_schedule=Schedule(n_epochs=10, steps_per_epoch=40, learning_rate=1e-4),
        ),
        Profile(
            name="cpu",
            note="reduced work: boxes binned to 20^3 at 2 nm; otherwise the released code's schedule, cut to 20 epochs",
            **_HALF_BOX,
            encoder_schedule=Schedule(n_epochs=20, steps_per_epoch=25, learning_rate=1e-3, halve_every=5),
            adaptation_schedule=Schedule(n_epochs=20, steps_per_epoch=50, learning_rate=1e-4),
        ),
        Profile(
            name="extended",
            note="reduced work: boxes binned to 20^3 at 2 nm, 150 training episodes at learning rate 1e-3; "
            "five class splits, three training seeds each",
            **_HALF_BOX,
            encoder_schedule=Schedule(n_epochs=6, steps_per_epoch=25, learning_rate=1e-3, halve_every=3),
            adaptation_schedule=Schedule(n_epochs=8, steps_per_epoch=25, learning_rate=1e-4),
            n_test_episodes=600,
        ),
        Profile(
            name="finished",
            note="boxes binned to 20^3 at 2 nm; released code's rate and patience, at least 1,500 training episodes, "
            "so that every training stops improving; five class splits",
            **_HALF_BOX,
            encoder_schedule=Schedule(
                n_epochs=100, steps_per_epoch=25, learning_rate=1e-3, halve_every=20, patience=20, min_epochs=60
            ),
            adaptation_schedule=Schedule(n_epochs=100, steps_per_epoch=25, learning_rate=1e-4, patience=20),
        ),
        Profile(
            name="paper",
            note="boxes of 40^3 at 1 nm; text's learning rate 1e-4, released code's epochs and patience",
            data=SimulatedData(),
            encoder_schedule=Schedule(n_epochs=100, steps_per_epoch=25, learning_rate=1e-4, patience=20),
            adaptation_schedule=Schedule(n_epochs=100, steps_per_epoch=25, learning_rate=1e-4, patience=20),
            n_validation_episodes=25,  # as the released code
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
    return ((snr, profile.data.n_per_class),)


def mix_100(profile: Profile) -> tuple[tuple[float, int], ...]:
    """Mix training: every sample of every SNR."""
    return tuple((snr, profile.data.n_per_class) for snr in PAPER_SNRS)


def mix_34(profile: Profile) -> tuple[tuple[float, int], ...]:
    """Mix training at the sample size of one SNR: 34, 33 and 33 of 100."""
    n_snrs, n = len(PAPER_SNRS), profile.data.n_per_class
    return tuple((snr, n // n_snrs + (i < n % n_snrs)) for i, snr in enumerate(PAPER_SNRS))

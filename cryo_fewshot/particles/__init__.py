"""Particles in the files that people have, read in pieces: `open_particles` opens any of them."""

from importlib import import_module

_MODULE_OF = {"open_particles": ".opening", "Particles": ".base"}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_MODULE_OF[name], __name__), name)

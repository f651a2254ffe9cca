"""Where files lie, and files that are either whole or absent."""

import errno
import os
import tempfile
from pathlib import Path

from .errors import UserError

LIBRARY = Path(__file__).parent / "library"
"""Structures and the encoder that come with the package."""
REPOSITORY = Path(__file__).resolve().parent.parent
"""The checkout, or the folder that the package is installed in."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, flush it to disk, then rename: a reader never meets half a file.

    Raises UserError where the disk is full or the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        remedy = "free some space" if error.errno == errno.ENOSPC else "choose a folder that can be written"
        raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy} and run again") from error

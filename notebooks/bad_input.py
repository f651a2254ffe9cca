# %% [markdown]
# # When input is bad
#
# Files get truncated, moved, and exported by other programs. Below, eight particles and six labelled ones are damaged
# in the ways that happen, and the command of {doc}`own_data` really runs on each while this page is made. What concerns
# one particle costs that particle and goes to `unreadable.csv`; what concerns the whole input ends the run with one
# line that names the file, the value and the remedy, and exit status 2.

# %% tags=["parameters"]
words = ""  # only what has these words in its description; empty for all

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

from studies.bad_input import all_tried

from cryo_fewshot.reproduction.display import plain_style

with tempfile.TemporaryDirectory() as folder:
    table = all_tried(Path(folder), words)
plain_style(table).hide(axis="index")

# %% [markdown]
# - "No word of it" is right where nothing is wrong: names in any script, Windows line ends, and a project that was
#   moved (the end of the old path is looked for beside the STAR file and in the folders above).
# - A path with `..` is read where it leads, as RELION does. Results go into the output folder only, whatever particles
#   and classes are called.
# - No file is ever unpickled: an encoder is a safetensors file with its card, and anything else is refused unread.
# - The full disk is simulated: the system's answer is made up, all else is real. No half-written file is left, and the
#   same command goes on once there is room. `/proc` stands for a disk that takes no files.

# %% tags=["nbval-check-output", "hide-cell"]
print(table[["What was wrong", "Exit status", "What went on"]].to_csv(index=False))

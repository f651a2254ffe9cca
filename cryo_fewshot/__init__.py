"""Few-shot recognition of macromolecules in cryo-electron tomograms (Li et al., PLOS Comput Biol 2020, reproduced).

Data walks one way: structures -> imaging -> dataset -> episodes -> encoder -> protonet -> adaptation -> evaluation ->
results -> tables, plots -> book. Import the modules by name; this one stays empty so that it loads at once.
"""

from importlib.metadata import version

__version__ = version("cryo-fewshot")

"""Particles in the files that people have, read in pieces: `opening.open_particles` opens any of them."""

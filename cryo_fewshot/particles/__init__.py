"""Particles in the files that people have, read in pieces."""

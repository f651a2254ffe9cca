"""Simulated subtomograms: structures, microscope, imaging, data sets."""

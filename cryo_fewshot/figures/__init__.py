"""Figures in one style; needs matplotlib."""

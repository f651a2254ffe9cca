"""Subtomogram averaging: poses, averages, resolution."""

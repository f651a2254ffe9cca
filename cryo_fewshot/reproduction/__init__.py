"""Reproduction of the paper: what is run, the store of results, tables, notebooks, the book."""

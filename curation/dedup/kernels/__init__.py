"""Kernels for shingling, MinHash and Jaccard similarity: compiled by numba, or in plain numpy with the same values."""

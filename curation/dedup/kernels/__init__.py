"""Shingling, MinHash and Jaccard kernels, compiled by numba or vectorized by numpy."""

"""Forecast the effect of mixing and sampling before a run."""

"""Filters that look at one record at a time, decontamination, and human-likeness."""

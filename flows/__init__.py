"""Flows tell the story: a model speaks, and the next one learns from what was worth keeping of it.

Human text comes in. Then, generation after generation, the model's words are curated and mixed with preserved
human text, a new model learns from them, is measured, and a gate says whether to go on.
"""

"""Flows tell the story: human text in; then, generation after generation, a model speaks, what it says is
curated and mixed with preserved human text, the next model learns from it, is measured, and a gate says
whether to go on.
"""

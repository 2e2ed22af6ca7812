"""Prefect flows: the generation loop, ingestion, comparison, and the command line.

Each generation samples text from the current model, filters it, mixes it with human text, trains the next model,
evaluates it, and decides whether to continue.
"""

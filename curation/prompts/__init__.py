"""Prompt templates, prompt plans and the records that prompts are built from."""

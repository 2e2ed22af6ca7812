"""Sampling from models: vLLM's engine and server, OpenAI-compatible servers, transformers."""

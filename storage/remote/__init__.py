"""Stores on object storage: client, local mirror, lease."""

"""Storage: artifacts, runs, datasets, readers and exports as files, and queries on them with DuckDB."""

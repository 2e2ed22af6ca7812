"""Query a store with DuckDB: catalog, sandbox, named queries."""

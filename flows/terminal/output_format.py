"""Formats of query results; apart from their writers, since the command line needs the names without pyarrow."""

from enum import StrEnum


class OutputFormat(StrEnum):
    """Format of a query result."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"

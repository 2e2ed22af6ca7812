"""Output of the command line: tables, progress, summaries and the SQL shell."""

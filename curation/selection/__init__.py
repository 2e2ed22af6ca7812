"""Select records: best-of-n, diversity, topics, quotas, preference pairs."""

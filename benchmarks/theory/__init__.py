"""Published laws that only benchmarks and tests use."""

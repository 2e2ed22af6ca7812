"""Published laws used only by benchmarks and tests."""

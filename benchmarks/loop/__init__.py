"""Whole loops: the demo, collapse, evaluation cost, gate alarms, forecasts."""

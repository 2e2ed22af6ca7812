"""Reports, plots and the review page."""

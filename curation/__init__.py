"""Curation decides: texts and arrays in, small results out. It opens no file and knows no path."""

"""The comparison in words, figures and one HTML page."""

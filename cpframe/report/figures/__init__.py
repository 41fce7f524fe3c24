"""Figures of a study, drawn by matplotlib: an extra, imported only by those who draw."""

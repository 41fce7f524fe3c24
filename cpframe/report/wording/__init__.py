"""Findings in words: each sentence stands here once, for the terminal and the page."""

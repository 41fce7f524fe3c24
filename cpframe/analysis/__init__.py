"""What a study shows: pure functions on `cpframe.records` and numpy arrays, without torch and without files.

`statistics` has intervals, `comparisons` pairs trajectories with their references, `verdicts` says what may be
claimed and what a claim lacks, `curves` averages metrics over seeds, `phases` finds rise, peak and consolidation.
"""

"""What a study shows: pure functions on `cpframe.records.model` and numpy arrays, without torch and without files.

`statistics` has intervals, `comparisons` pairs trajectories with their references, `verdicts` says what may be claimed
and what a claim lacks, `periods` until when a deficit can be healed, `confounds` what idle explains, `curves` averages
metrics over seeds, `phases` finds rise, peak, consolidation and plateau, `layers` where information lies and how much
of it moves, `links` how Fisher information and sensitivity go together.
"""

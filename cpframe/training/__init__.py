"""One stage, trained: a `Job` goes in, events and committed epochs come out.

`stage` runs the epochs, `job` has what travels to a worker and back, `data` the data set on the device with its
deficits, `learner` the network and its optimizer, `measurement` the metrics, `randomness` every random stream. All code
in here is part of the ids of stages: see `cpframe.plan.identity`.
"""

"""The training of one stage: a `Job` goes in; events, and committed epochs in the store, come out.

`stage` runs and commits the epochs; `job` holds the messages to and from a worker; `data` the data set on the device;
`conditions` the deficits applied to it; `batches` the batches of an epoch with their augmentation; `learner` the
network with its optimizer; `measurement` the metrics; `randomness` the random streams.

Where to add: a new kind of augmentation in `batches`; another event in `job`; another quantity per epoch in `stage`
(``_run_epoch``) and in `cpframe.records.model.History`. The code in here is part of the ids of stages, see
`cpframe.plan.identity`, so a change that is more than a docstring makes studies train again.
"""

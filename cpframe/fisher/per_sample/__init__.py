"""Squared gradient norms of single examples, per parameter, without computing gradients of weights.

A model, a batch of inputs and cotangents of its outputs go in; squared norms (n,) per parameter come out.
`forward_pass` combines the parts: `capture` records one forward pass; `signatures` describes the arguments of each
torch function; `rules`, `convolution` and `sketch` turn activations and their gradients into norms; `verification`
checks the rules on two examples, once per model; `gradients` has vmap and the loop for parameters without a rule;
`preserve` restores the model.

To support another torch function, add its signature to ``SIGNATURES``, a `rules.Rule` if none fits, and a case to
tests/cpframe/fisher/per_sample/test_rules.py.
"""

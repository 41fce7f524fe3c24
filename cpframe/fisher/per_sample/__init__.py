"""Squared norms of single-example gradients, by layer, without computing any weight gradient.

`capture` watches one forward pass, `signatures` says what each torch function was given, `rules` and `convolution` turn
activations and their gradients into norms, `verification` checks the rules on two examples, `gradients` has vmap and
the loop for what no rule covers. A new torch function needs a signature and a rule.
"""

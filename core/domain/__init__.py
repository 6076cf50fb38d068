"""Frozen values: the product's glossary in code.

activation
    How strongly a feature fires on a token, ≥ 0, in the SAE's own units.
context
    A run of tokens inside one document that the model read at once, BOS in front.
density
    Share of scored tokens on which a feature's activation is > 0.
feature
    One column of an SAE, named ``model/sae/index``.
harvest
    One pass over a corpus that collects every feature's evidence.
hook point
    Where in the model the SAE reads, e.g. ``blocks.12.hook_resid_post``.
outlier
    A token whose residual is far longer than usual, as an attention sink's; it does not count.
quantile band
    Contexts by the rank of their maximum activation among the contexts on which the feature fires.
scored token
    A token that counts: not padding, not BOS, EOS or another special token, and no outlier.
"""

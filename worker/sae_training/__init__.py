"""Training of SAEs on a language model, with sae-lens, and the metrics that judge them."""

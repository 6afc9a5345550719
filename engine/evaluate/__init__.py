"""How good an encoder is: pair lists, error rates, figures."""

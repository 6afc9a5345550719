"""How a model runs: one small interface, one module a runtime."""

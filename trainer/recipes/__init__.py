"""What a training is told: settings, the TOML files that hold them, and the recipes that are shipped."""

"""Training data, in the way it goes: people → clean → fakes → crops (align) → split → pairs."""

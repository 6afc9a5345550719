"""The precision gate: whether what runs fast agrees with fp32 on real faces. Runtimes do not know it."""

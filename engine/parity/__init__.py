"""The precision gate: whether what runs fast agrees with fp32 on faces. Runtimes do not know it."""

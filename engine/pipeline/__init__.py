"""From photo files to embedded faces, batch by batch, on processors and on cards."""

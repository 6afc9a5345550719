"""From crops on disk to the batches of an epoch: reading, order, changes, deepfakes made on the way."""

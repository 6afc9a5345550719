"""The networks that turn a face chip into an embedding, each with the contract of its input."""

"""Compiled kernels for decoders on processors, and a forward pass made of them."""

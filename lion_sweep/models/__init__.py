"""Backbones (bidirectional decoders) and the encoders on top of them."""

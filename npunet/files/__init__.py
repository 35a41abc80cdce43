"""Readers and writers: pictures, checkpoints, other people's weights."""

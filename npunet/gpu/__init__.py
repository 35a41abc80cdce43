"""The GPU: every CUDA file and every launch."""

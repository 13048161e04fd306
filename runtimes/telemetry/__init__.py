"""Engine metrics and GPUs, read as canonical samples."""

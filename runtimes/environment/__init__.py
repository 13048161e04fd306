"""Where an engine's interpreter comes from: a path, a virtual environment, an image."""

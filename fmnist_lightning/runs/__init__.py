"""A run on disk: its folder and its checkpoints, and how they are read back safely."""

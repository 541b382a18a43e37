"""What protects and speeds up a run. Skip on first reading."""

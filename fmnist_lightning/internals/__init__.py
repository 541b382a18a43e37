"""What protects a run and makes its steps fast. Skip it on first reading."""

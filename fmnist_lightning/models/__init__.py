"""The networks: plain PyTorch."""

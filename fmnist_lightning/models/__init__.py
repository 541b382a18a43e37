"""The networks: plain PyTorch, float images in, one logit for each class out."""

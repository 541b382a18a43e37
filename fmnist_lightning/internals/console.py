"""Output on the terminal."""

from tqdm.auto import tqdm


def print_line(text: str) -> None:
    """Prints a line above a progress bar, without breaking the bar."""
    tqdm.write(text)
